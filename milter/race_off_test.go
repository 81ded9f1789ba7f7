//go:build !race

package milter_test

const raceEnabled = false

//go:build race

package milter_test

const raceEnabled = true

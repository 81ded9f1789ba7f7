// Package short is for tests: how much of what takes long they do with -short, which is
// for the race detector. It finds nothing in what one goroutine does, and takes ten times
// as long. All of it runs without.
package short

import "testing"

// Part is all, or with -short what is enough then.
func Part[T any](all, short T) T {
	if testing.Short() {
		return short
	}
	return all
}

// Skip leaves a test out with -short: one goroutine does what it tests, or others test
// what more of them do there.
func Skip(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("it runs without -short")
	}
}

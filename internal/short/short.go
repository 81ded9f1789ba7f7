// Package short is for tests: how much of what takes long they do with -short.
package short

import "testing"

// Part is all, or with -short what is enough then: for the race detector, which finds
// nothing in what one goroutine compares, and takes ten times as long. All of it runs
// without.
func Part[T any](all, short T) T {
	if testing.Short() {
		return short
	}
	return all
}

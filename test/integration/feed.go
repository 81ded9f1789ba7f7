package integration

import (
	"fmt"
	"strings"
	"sync"
	"time"
)

// patience is how long a test waits for something that must happen. Nothing
// takes a tenth of it on a healthy machine.
const patience = 20 * time.Second

// feed is a list that others append to and a test waits on: the lines of a
// log, the mail that was delivered.
type feed[T any] struct {
	mu    sync.Mutex // owns items and grown
	items []T
	grown chan struct{} // closed when items grows
}

func newFeed[T any]() *feed[T] { return &feed[T]{grown: make(chan struct{})} }

func (f *feed[T]) add(item T) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.items = append(f.items, item)
	close(f.grown)
	f.grown = make(chan struct{})
}

// since returns the items from number n on, and a channel that is closed when
// there are more.
func (f *feed[T]) since(n int) ([]T, <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.items[min(n, len(f.items)):], f.grown
}

// all returns the items so far.
func (f *feed[T]) all() []T {
	items, _ := f.since(0)
	return items
}

// await returns the first item, past or future, that matches.
func (f *feed[T]) await(what string, match func(T) bool) (T, error) {
	return f.awaitSince(0, what, match)
}

// awaitSince is await without the items that were seen.
func (f *feed[T]) awaitSince(seen int, what string, match func(T) bool) (T, error) {
	deadline := time.After(patience)
	for {
		items, grown := f.since(seen)
		for _, item := range items {
			if match(item) {
				return item, nil
			}
		}
		seen += len(items)
		select {
		case <-grown:
		case <-deadline:
			var none T
			return none, fmt.Errorf("waited %v in vain for %s", patience, what)
		}
	}
}

// contains matches a line that has part in it.
func contains(part string) func(string) bool {
	return func(line string) bool { return strings.Contains(line, part) }
}

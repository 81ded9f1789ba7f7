package series

import "strings"

// table finds the ring of a text. The map knows hashes only, which keeps it
// small and free of pointers; the few texts that share one are chained.
type table struct {
	first map[uint32]uint32 // the first entry of each hash
	texts arena[entry]
	rings rings // by the same indexes
	keys  int
	hand  uint32 // the entry looked at last
}

type entry struct {
	text string // "" when the entry is free
	hash uint32
	next uint32 // entry with the same hash, 0 at the end
}

// find is the index of a text, or 0.
func (t *table) find(hash uint32, text string) uint32 {
	i := t.first[hash]
	for i != 0 && t.texts.at(i).text != text {
		i = t.texts.at(i).next
	}
	return i
}

// add adjusts the count of a text and reports whether it was cut at the limit.
func (t *table) add(hash uint32, text string, m moment, n int64) (cut bool) {
	i := t.find(hash, text)
	if i == 0 {
		i = t.insert(hash, text, m.window)
	}
	return t.rings.at(i).add(m, n)
}

// insert keeps a copy of the text: the caller's may be a part of something
// much larger.
func (t *table) insert(hash uint32, text string, window int64) uint32 {
	i := t.texts.take()
	*t.texts.at(i) = entry{strings.Clone(text), hash, t.first[hash]}
	t.rings.place(i, window)
	t.first[hash] = i
	t.keys++
	return i
}

// remove forgets a text and reports whether there was one that had counted in
// the window oldest or later.
func (t *table) remove(hash uint32, text string, oldest int64) bool {
	i := t.find(hash, text)
	if i == 0 {
		return false
	}
	live := t.rings.at(i)[0] >= oldest
	t.drop(i)
	return live
}

// drop frees an entry.
func (t *table) drop(i uint32) {
	gone := *t.texts.at(i)
	if t.first[gone.hash] == i {
		t.relink(gone.hash, gone.next)
	} else {
		before := t.first[gone.hash]
		for t.texts.at(before).next != i {
			before = t.texts.at(before).next
		}
		t.texts.at(before).next = gone.next
	}
	t.texts.give(i)
	t.keys--
}

func (t *table) relink(hash, first uint32) {
	if first == 0 {
		delete(t.first, hash)
	} else {
		t.first[hash] = first
	}
}

// sweepStep is how many entries an add looks at. One could only keep pace with
// the adds; two gain on them.
const sweepStep = 2

// sweep moves the hand on and drops what has not counted in the window oldest
// or later.
func (t *table) sweep(oldest int64) {
	for range sweepStep {
		t.hand = t.hand%t.texts.used + 1
		if t.texts.at(t.hand).text != "" && t.rings.at(t.hand)[0] < oldest {
			t.drop(t.hand)
		}
	}
}

package series

import (
	"iter"
	"net/netip"
	"slices"
	"time"
)

// All yields every key that counts in any window, with the count of every single
// window, the current one first; the slice is used again for the next key. IPv4
// addresses come first, then IPv6, each in ascending order; texts in no order.
//
// The windows are those of now, also for a walk during which one ends. A key that
// is there all the time comes exactly once, whatever comes and goes meanwhile, with
// what it counts when the walk comes by. No lock is held while a key is yielded, and
// none for longer than it takes to look at a few leaves, so a walk may take its time.
func (s *Series) All(now time.Time) iter.Seq2[Key, []int64] {
	return func(yield func(Key, []int64) bool) {
		windows := s.every(now)
		for _, f := range s.families {
			for k, counts := range f.walk(f.trees, blockOf(address{}, 0), f.bits, windows) {
				if !yield(k, counts) {
					return
				}
			}
		}
	}
}

// Within is [Series.All] for the addresses of a block; none in a series of texts.
func (s *Series) Within(block netip.Prefix, now time.Time) iter.Seq2[Key, []int64] {
	return func(yield func(Key, []int64) bool) {
		f := s.family(Key{addr: block.Addr()})
		if f == nil {
			return
		}
		bits := uint8(block.Bits())
		in := blockOf(addressOf(block.Addr()), bits)
		f.walk(f.holding(in.first, bits), in, f.bits, s.every(now))(yield)
	}
}

// Blocks is [Series.All] for the networks of a mask; there are none in a series of
// texts. Each has the counts that [Series.Counts] gives for it, so what evicted keys
// have left to it is in them.
func (s *Series) Blocks(m Mask, now time.Time) iter.Seq2[netip.Prefix, []int64] {
	return func(yield func(netip.Prefix, []int64) bool) {
		windows := s.every(now)
		for _, f := range s.families {
			if f.named {
				return
			}
			bits := f.under(m)
			for k, counts := range f.walk(f.trees, blockOf(address{}, 0), bits, windows) {
				if !yield(netip.PrefixFrom(k.addr, int(bits)), counts) {
					return
				}
			}
		}
	}
}

// Parts are walks that together yield what [Series.Blocks] does, each network by its
// first address, and under [Host] what [Series.All] does. To texts a mask is nothing.
// What one part yields no other does, each in an order of its own; they may go on at
// the same time.
func (s *Series) Parts(m Mask, now time.Time) (parts []iter.Seq2[Key, []int64]) {
	windows := s.every(now)
	for _, f := range s.families {
		bits, trees := f.under(m), 1
		if bits < f.leading {
			trees = len(f.trees) // a block has a part in each of them
		}
		for part := range slices.Chunk(f.trees, trees) {
			parts = append(parts, f.walk(part, blockOf(address{}, 0), bits, windows))
		}
	}
	return parts
}

// under is how many bits the family's blocks have under a mask.
func (f *family) under(m Mask) uint8 {
	switch {
	case f.named:
		return f.bits
	case f.wide:
		return m.IPv6
	}
	return m.IPv4
}

// every is the span of all windows at now.
func (s *Series) every(now time.Time) span {
	current, _ := s.clock.read(now)
	return s.span(current, 0, s.def.Windows-1)
}

// walk goes through what trees have of the blocks of so many bits in a range, or with
// all bits of its keys, by their addresses. Those that begin with the same bits are in
// one tree, so the trees take turns where these change. A block, which goes by its first
// address, has a part in each tree if it is larger.
func (f *family) walk(trees []lockedTree, in extent, bits uint8, windows span) iter.Seq2[Key, []int64] {
	return func(yield func(Key, []int64) bool) {
		cursors := newCursors(trees, in, bits, windows)
		for c := lowest(cursors); c != nil; c = lowest(cursors) {
			for turn := c.entry().at; c.more() && c.entry().at.shared(turn) >= f.leading; c.next() {
				if bits < f.leading {
					c.join(cursors)
				}
				if counts := c.row(); slices.ContainsFunc(counts, isCount) && !yield(f.key(c.entry()), counts) {
					return
				}
			}
		}
	}
}

func isCount(n int64) bool { return n != 0 }

// newCursors are one for each tree.
func newCursors(trees []lockedTree, in extent, bits uint8, windows span) []cursor {
	cursors := make([]cursor, len(trees))
	for i := range trees {
		cursors[i] = cursor{tree: &trees[i], left: in, bits: bits, windows: windows}
		cursors[i].next()
	}
	return cursors
}

// lowest is the cursor at the lowest address; nil if all have come to their end.
func lowest(cursors []cursor) (lowest *cursor) {
	for i := range cursors {
		c := &cursors[i]
		if c.more() && (lowest == nil || c.entry().at.compare(lowest.entry().at) < 0) {
			lowest = c
		}
	}
	return lowest
}

// key is that of an entry.
func (f *family) key(e entry) Key {
	if f.named {
		return Key{text: e.text}
	}
	return Key{addr: e.at.ip(f.wide)}
}

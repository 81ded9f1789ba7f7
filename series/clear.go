package series

import "net/netip"

// RemoveBlock takes every key of a block out, as [Series.Remove] does one, and
// what keys that were evicted have left to the block: it counts nothing after that,
// and larger blocks less by what it counted. Where evicted keys had left something to
// one in between that has nothing else, that goes on to a larger one, as it does
// when a key is removed. /0 empties the series, of one family.
// It returns how many keys there were that counted in any window.
//
// No lock is held longer than it takes to clear one leaf. Of what is added to the
// block or evicted from it meanwhile, some may stay.
func (s *Series) RemoveBlock(block netip.Prefix) (keys int) {
	return s.removeBlock(block, nil)
}

// removeBlock is RemoveBlock, which also yields what it has removed, if that is wanted.
func (s *Series) removeBlock(block netip.Prefix, gone func(adjustment)) (keys int) {
	f := s.family(Key{addr: block.Addr()})
	if f == nil {
		return 0
	}
	bits, oldest := uint8(block.Bits()), s.oldest(s.clock.current())
	in := blockOf(addressOf(block.Addr()), bits)
	trees := f.holding(in.first, bits)
	for i := range trees {
		keys += trees[i].clear(in, bits, oldest, gone)
	}
	return keys
}

// clear takes a block out, going through it like a [cursor].
func (t *lockedTree) clear(in extent, bits uint8, oldest int64, gone func(adjustment)) (keys int) {
	var list []adjustment
	for more := true; more; {
		t.mu.Lock()
		if gone != nil {
			list = list[:0]
			t.cleared = &list
		}
		n, last := t.clearSlot(in, bits, oldest)
		t.cleared = nil
		t.mu.Unlock()
		for _, a := range list {
			gone(a)
		}
		keys += n
		in, more = in.behind(last)
	}
	return keys
}

// clearSlot removes the keys in the slot where a range begins, which is what is
// left of a block of so many bits. It returns how many of them counted, and the last
// address of the slot.
func (t *tree) clearSlot(in extent, bits uint8, oldest int64) (keys int, last address) {
	t.unfold(in.first, bits)
	l, last := t.standing(in.first, t.bits)
	if !l.isLeaf() {
		return 0, last
	}
	in.last = lower(last, in.last)
	var found [leafCap]address
	n := 0
	for place := range int(t.leaves.at(l.index()).n) {
		if a := t.leaves.address(l.index(), place); in.contains(a) {
			found[n] = a
			n++
		}
	}
	for _, a := range found[:n] {
		if t.remove(a, "", oldest) {
			keys++
		}
	}
	return keys, last
}

// unfold takes what evicted keys have left to the nodes that begin at a, inside the
// block of so many bits, out of these and all above. That goes before their keys,
// with the last of which a node leaves.
func (t *tree) unfold(a address, bits uint8) {
	if bits == 0 && a == (address{}) {
		window, own := t.own(t.all.window, t.all.row, t.root)
		t.noteRemoved(a, "", 0, own, window)
		t.takeOut(&t.all.window, t.all.row, own, window)
	}
	for l := t.root; l.isNode(); {
		nd := t.nodes.at(l.index())
		if nd.bits >= bits && blockOf(nd.any, nd.bits).first == a {
			window, own := t.own(nd.window, t.sums.at(l.index()), nd.kids[:]...)
			t.noteRemoved(a, "", nd.bits, own, window)
			t.takeOutAbove(a, nd.bits, own, window)
		}
		l = *nd.toward(a)
	}
}

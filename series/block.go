package series

import "slices"

// tally collects the counts of a block, whose parts are rows here and there in
// a tree.
type tally struct {
	span
	sum     int64   // over all windows of the span
	windows []int64 // of each of them, the newest first, if it is wanted
}

// take adds a row whose newest window is given.
func (y *tally) take(newest int64, r row) {
	if y.windows != nil {
		r.tally(newest, y.windows, y.span)
		return
	}
	y.sum = Plus(y.sum, r.sum(newest, y.span))
}

// count collects the block of so many leading bits of a; of a text, its own
// counts.
func (t *tree) count(y *tally, a address, text string, bits uint8) {
	if bits == t.kind.bits {
		if i, place := t.find(a, text); place >= 0 {
			lf := t.leaves.at(i)
			y.take(lf.window, t.leaves.row(lf, place))
		}
		return
	}
	if bits == 0 {
		y.take(t.all.window, t.all.row)
		return
	}
	l := t.root
	for l.isNode() {
		nd := t.nodes.at(l.index())
		if nd.bits+slotBits > bits {
			t.within(y, nd, l.index(), a, bits)
			return
		}
		l = *nd.toward(a)
	}
	if l != none {
		t.inLeaf(y, l.index(), a, bits)
	}
}

// within collects a block that is a part of the node's or contains it; its own
// bits end before those by which the node chooses do.
func (t *tree) within(y *tally, nd *node, i uint32, a address, bits uint8) {
	switch shared := a.shared(nd.any); {
	case shared < min(bits, nd.bits):
		return
	case bits <= nd.bits:
		y.take(nd.window, t.sums.at(i))
		return
	}
	shift := nd.bits + slotBits - bits
	first := a.slot(nd.bits) >> shift << shift
	kids := nd.kids[first : first+1<<shift]
	for n, kid := range kids {
		switch {
		case kid.isNode():
			y.take(t.nodes.at(kid.index()).window, t.sums.at(kid.index()))
		case kid.isLeaf() && !slices.Contains(kids[:n], kid):
			t.inLeaf(y, kid.index(), a, bits)
		}
	}
}

// inLeaf collects the keys of a leaf that are in a block.
func (t *tree) inLeaf(y *tally, i uint32, a address, bits uint8) {
	lf, mask := t.leaves.at(i), leading(bits)
	if !t.wide {
		block, mask := uint32(a.hi>>32), uint32(mask.hi>>32)
		for place, mark := range lf.marks[:lf.n] {
			if (mark^block)&mask == 0 {
				y.take(lf.window, t.leaves.row(lf, place))
			}
		}
		return
	}
	for place, b := range t.leaves.wides.at(i)[:lf.n] {
		if (b.hi^a.hi)&mask.hi|(b.lo^a.lo)&mask.lo == 0 {
			y.take(lf.window, t.leaves.row(lf, place))
		}
	}
}

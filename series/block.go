package series

import "slices"

// maxParts is how many rings a block can be the sum of: leaves in all the slots
// that one bit less than a node's chooses.
const maxParts = leafCap * slots / 2

// block appends the rings that sum up to the block of so many leading bits of a.
func (t *tree) block(parts []uint32, a address, bits uint8) []uint32 {
	l := t.root
	for l.isNode() {
		nd := t.nodes.at(l.index())
		if nd.bits+slotBits > bits {
			return t.within(parts, nd, a, bits)
		}
		l = *nd.toward(a)
	}
	if l == none {
		return parts
	}
	return t.leaves.at(l.index()).within(parts, a, bits)
}

// within appends the rings of a block that is a part of the node's or contains
// it; its own bits end before those by which the node chooses do.
func (t *tree) within(parts []uint32, nd *node, a address, bits uint8) []uint32 {
	switch shared := a.shared(nd.any); {
	case shared < min(bits, nd.bits):
		return parts
	case bits <= nd.bits:
		return append(parts, nd.ring)
	}
	shift := nd.bits + slotBits - bits
	first := a.slot(nd.bits) >> shift << shift
	kids := nd.kids[first : first+1<<shift]
	for i, kid := range kids {
		switch {
		case kid.isNode():
			parts = append(parts, t.nodes.at(kid.index()).ring)
		case kid.isLeaf() && !slices.Contains(kids[:i], kid):
			parts = t.leaves.at(kid.index()).within(parts, a, bits)
		}
	}
	return parts
}

// count is the sum of a block over the windows of s.
func (t *tree) count(a address, bits uint8, s span) (sum int64) {
	var buf [maxParts]uint32
	for _, i := range t.block(buf[:0], a, bits) {
		sum, _ = plus(sum, t.rings.at(i).sum(s))
	}
	return sum
}

// tally adds each window's sum of a block to its element of dst.
func (t *tree) tally(dst []int64, a address, bits uint8, s span) {
	var buf [maxParts]uint32
	for _, i := range t.block(buf[:0], a, bits) {
		t.rings.at(i).tally(dst, s)
	}
}

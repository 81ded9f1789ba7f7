package series

// leafCap is how many addresses a leaf holds before it is split: more make
// descents shorter and memory smaller, and the sum of a block that lies within
// a leaf dearer.
const leafCap = 16

// leaf holds addresses between which there is no node, in no order.
type leaf struct {
	n      uint8
	oldest int64           // no ring here stands at an older window
	hi     [leafCap]uint64 // the addresses' halves
	rings  [leafCap]uint32 // their counts
	lo     [leafCap]uint64
}

func (l *leaf) address(i int) address { return address{l.hi[i], l.lo[i]} }

// find is the place of a in the leaf, or -1.
func (l *leaf) find(a address) int {
	for i, hi := range l.hi[:l.n] {
		if hi == a.hi && l.lo[i] == a.lo {
			return i
		}
	}
	return -1
}

// parting is the first bit in which any address here differs from a.
func (l *leaf) parting(a address) uint8 {
	parting := uint8(128)
	for i := range int(l.n) {
		parting = min(parting, a.shared(l.address(i)))
	}
	return parting
}

// put takes an address into a leaf that has room.
func (l *leaf) put(a address, ring uint32) {
	i := l.n
	l.hi[i], l.lo[i], l.rings[i] = a.hi, a.lo, ring
	l.n++
}

// drop forgets an address; the last one takes its place.
func (l *leaf) drop(i int) {
	l.n--
	last := l.n
	l.hi[i], l.lo[i], l.rings[i] = l.hi[last], l.lo[last], l.rings[last]
}

// absorb takes in all addresses of another leaf, if there is room.
func (l *leaf) absorb(other *leaf) bool {
	if l.n+other.n > leafCap/2 {
		return false
	}
	for i := range int(other.n) {
		l.put(other.address(i), other.rings[i])
	}
	l.oldest = min(l.oldest, other.oldest)
	return true
}

// within appends the rings of the block's addresses.
func (l *leaf) within(parts []uint32, a address, bits uint8) []uint32 {
	for i := range int(l.n) {
		if a.shared(l.address(i)) >= bits {
			parts = append(parts, l.rings[i])
		}
	}
	return parts
}

package series

// tree holds the counters of addresses such that the count of any block is
// found by one descent. It is a path-compressed trie: a node stands where the
// addresses below it part, and holds the sum of all their counts. Few addresses
// are kept together in a leaf, each with its own counts, whatever they share.
//
// What an add costs is the memory it touches that no cache holds, so descents
// are short: a node parts addresses by four bits at once, and a leaf that is not
// full serves any number of a node's slots.
//
// What has expired leaves when the hand comes by: every add looks at one leaf.
// An expired address counts nowhere anymore, so the sums above need no
// correction.
type tree struct {
	root   link
	nodes  arena[node]
	leaves arena[leaf]
	rings  rings
	keys   int    // addresses in all leaves
	hand   uint32 // the leaf looked at last
}

// link leads to a node or a leaf, or nowhere.
type link uint32

const (
	none    link = 0
	leafBit link = 1 << 31 // set for leaves; the other bits are the index
)

func (l link) isNode() bool  { return l != none && l&leafBit == 0 }
func (l link) isLeaf() bool  { return l&leafBit != 0 }
func (l link) index() uint32 { return uint32(l &^ leafBit) }

// node is a block of addresses that part in the bits that follow the block's.
type node struct {
	any  address     // one that is or was below: its leading bits are those of all
	ring uint32      // the counts of all addresses below
	bits uint8       // how many leading bits make the block, a multiple of slotBits
	kids [slots]link // by the next bits: nodes each in one slot, leaves in one or more
}

const (
	slotBits = 4
	slots    = 1 << slotBits
)

// toward is the link to where a is.
func (nd *node) toward(a address) *link { return &nd.kids[a.slot(nd.bits)] }

// replace puts another link into all slots of one.
func (nd *node) replace(old, link link) {
	for i, kid := range nd.kids {
		if kid == old {
			nd.kids[i] = link
		}
	}
}

// add adjusts the count of an address, and with it that of every node above.
// It reports whether one was cut at the limit.
func (t *tree) add(a address, m moment, n int64) (cut bool) {
	var above *node
	for at := &t.root; ; {
		switch {
		case at.isNode():
			nd := t.nodes.at(at.index())
			if a.shared(nd.any) < nd.bits {
				t.fork(at, a)
				continue
			}
			cut = t.rings.at(nd.ring).add(m, n) || cut
			above, at = nd, nd.toward(a)
		case at.isLeaf():
			lf := t.leaves.at(at.index())
			i := lf.find(a)
			if i < 0 && lf.n == leafCap {
				t.makeRoom(above, at, a)
				continue
			}
			if i < 0 {
				i = t.insert(lf, a, m.window)
			}
			return t.rings.at(lf.rings[i]).add(m, n) || cut
		case above != nil:
			above.replace(none, t.newLeaf(m.window))
		default:
			*at = t.newLeaf(m.window)
		}
	}
}

// newLeaf is an empty leaf, made for addresses that come at the window or later.
func (t *tree) newLeaf(window int64) link {
	i := t.leaves.take()
	t.leaves.at(i).oldest = window
	return leafBit | link(i)
}

func (t *tree) insert(lf *leaf, a address, window int64) int {
	lf.put(a, t.rings.take(window))
	lf.oldest = min(lf.oldest, window)
	t.keys++
	return int(lf.n) - 1
}

// fork puts a node above the one at the link, whose block a is not in.
func (t *tree) fork(at *link, a address) {
	old := *at
	other := t.nodes.at(old.index()).any
	var nd *node
	*at, nd = t.newNode(a, a.shared(other), t.total(old))
	*nd.toward(other) = old
}

// makeRoom parts the addresses of the full leaf on a's way: those that part
// from each other or from a in a bit by which the node above chooses go to two
// leaves, others get a node of their own.
func (t *tree) makeRoom(above *node, at *link, a address) {
	full := *at
	parting := t.leaves.at(full.index()).parting(a)
	if above != nil && parting < above.bits+slotBits {
		t.split(above, full, a, parting)
		return
	}
	if above != nil {
		above.replace(full, none)
	}
	var nd *node
	*at, nd = t.newNode(a, parting, t.total(full))
	nd.replace(none, full)
}

// split moves the addresses with the same bit there as a to a new leaf, and the
// slots with that bit too. There may be no such address, but that is where a
// will be.
func (t *tree) split(nd *node, full link, a address, bit uint8) {
	far := t.leaves.at(full.index())
	near := t.newLeaf(far.oldest)
	for i := int(far.n) - 1; i >= 0; i-- {
		if b := far.address(i); b.bit(bit) == a.bit(bit) {
			t.leaves.at(near.index()).put(b, far.rings[i])
			far.drop(i)
		}
	}
	for slot, kid := range nd.kids {
		if kid == full && slot>>(nd.bits+slotBits-1-bit)&1 == int(a.bit(bit)) {
			nd.kids[slot] = near
		}
	}
}

// newNode is a node for a, which shares so many bits with what will be below.
func (t *tree) newNode(a address, shared uint8, ring uint32) (link, *node) {
	i := t.nodes.take()
	nd := t.nodes.at(i)
	nd.any, nd.bits, nd.ring = a, shared-shared%slotBits, ring
	return link(i), nd
}

// total is a new ring with the sum of all that is below the link.
func (t *tree) total(l link) uint32 {
	var buf [leafCap]uint32
	parts := t.below(buf[:0], l)
	sum := t.rings.take(t.rings.at(parts[0])[0])
	for _, part := range parts {
		t.rings.at(sum).merge(t.rings.at(part), 1)
	}
	return sum
}

// below appends the rings that sum up to all that is below the link.
func (t *tree) below(parts []uint32, l link) []uint32 {
	if l.isNode() {
		return append(parts, t.nodes.at(l.index()).ring)
	}
	lf := t.leaves.at(l.index())
	return append(parts, lf.rings[:lf.n]...)
}

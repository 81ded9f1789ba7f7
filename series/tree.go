package series

import (
	"hash/maphash"
	"math"
	"sync/atomic"
)

// tree holds the counters of keys. It is a path-compressed trie: a node stands
// where the addresses below it part. In a tree of IP addresses a node has the
// sum of all that is counted below it, so that the count of any block is found by
// one descent. Few addresses are kept together in a leaf, each with its own
// counts, whatever they share.
//
// What an add costs is the memory it touches that no cache holds, so descents
// are short: a node parts addresses by four bits at once, and a leaf that is not
// full serves any number of a node's slots.
//
// An expired key counts nowhere anymore, and an evicted one goes on to count in
// the nodes above it, so the sums need no correction when either leaves.
type tree struct {
	kind
	windows int
	root    link
	all     block // the sum of everything, also while there is no node
	nodes   arena[node]
	sums    slab[int64] // the nodes' rows, which have the indexes of both
	lone    int64       // how many nodes are
	scratch row         // of who is at work
	leaves  leaves
	keys    atomic.Int64  // in all leaves; changed under the lock
	total   *atomic.Int64 // the same of the whole series

	expiry
	eviction

	pending  pending
	progress progress
	cleared  *[]adjustment // what is removed, for who takes it out of another series too; nil for nobody
}

// kind is what the keys of a tree are.
type kind struct {
	bits    uint8        // of an address
	leading uint8        // how many of them choose the tree
	wide    bool         // addresses have more than 32 bits
	named   bool         // keys are texts, and no blocks are asked for
	seed    maphash.Seed // of the texts' addresses
}

// addressOfText is where a text lies: at 32 bits of its hash.
func (k *kind) addressOfText(s string) address { return address{hi: maphash.String(k.seed, s) << 32} }

// keyBits is what a delta of a key has as its bits.
func (k *kind) keyBits() uint8 {
	if k.named {
		return 0
	}
	return k.bits
}

// block is a sum of counts.
type block struct {
	window int64 // the newest window of the row
	row    row
}

// longAgo is a window before all others, but not so early that the distance of
// two windows could overflow.
const longAgo = math.MinInt64 / 2

// init makes an empty tree, whose keys count in total too.
func (t *tree) init(k kind, windows int, total *atomic.Int64) {
	t.kind, t.windows, t.total = k, windows, total
	t.all = block{window: longAgo, row: make(row, windows)}
	t.sums = newSlab[int64](windows)
	t.scratch = make(row, windows)
	t.leaves = newLeaves(k, windows)
	t.oldest = longAgo
	t.floor.Store(leastFloor)
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
	any    address     // one that is or was below: its leading bits are those of all
	bits   uint8       // how many leading bits make the block, a multiple of slotBits
	lone   bool        // it was kept, by mend, when it had nothing to part
	window int64       // the newest window of its sum
	kids   [slots]link // by the next bits: nodes each in one slot, leaves in one or more
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

// add adjusts the count of a key, and with it that of every node above. It
// reports whether one was cut at the limit.
func (t *tree) add(a address, text string, m moment, n int64) (cut bool) {
	if !t.named && reach(&t.all.window, t.all.row, t.windows, m) {
		cut = t.all.row.add(m.place, n)
	}
	var above *node
	for at := &t.root; ; {
		switch {
		case at.isNode():
			nd := t.nodes.at(at.index())
			if a.shared(nd.any) < nd.bits {
				t.fork(at, a)
				continue
			}
			if !t.named {
				cut = t.addBelow(nd, at.index(), m, n) || cut
			}
			above, at = nd, nd.toward(a)
		case at.isLeaf():
			i := at.index()
			place := t.leaves.find(i, a, text)
			switch {
			case place >= 0:
			case t.leaves.at(i).n < leafCap || t.dropExpired(i):
				place = t.insert(i, a, text)
			case t.makeRoom(above, at, a):
				continue
			default:
				return cut // one text too many with one hash of 32 bits
			}
			return t.addIn(t.leaves.at(i), place, m, n) || cut
		case above != nil:
			above.replace(none, t.newLeaf(m.window))
		default:
			*at = t.newLeaf(m.window)
		}
	}
}

// addBelow counts in a node what is added below it.
func (t *tree) addBelow(nd *node, i uint32, m moment, n int64) (cut bool) {
	sum := t.sums.at(i)
	return reach(&nd.window, sum, t.windows, m) && row(sum).add(m.place, n)
}

// addIn counts in a leaf.
func (t *tree) addIn(lf *leaf, place int, m moment, n int64) (cut bool) {
	lf.epochs[place] = t.epoch
	return t.leaves.reach(lf, m) && t.leaves.row(lf, place).add(m.place, n)
}

func (t *tree) newLeaf(window int64) link { return leafBit | link(t.leaves.take(window)) }

func (t *tree) insert(i uint32, a address, text string) (place int) {
	t.keys.Add(1)
	t.total.Add(1)
	t.age()
	return t.leaves.insert(i, a, text)
}

// fork puts a node above the one at the link, whose block a is not in.
func (t *tree) fork(at *link, a address) {
	old := *at
	below := t.nodes.at(old.index())
	nd := t.newNode(at, a, a.shared(below.any), below.window)
	if !t.named {
		copy(t.sums.at(at.index()), t.sums.at(old.index()))
	}
	*nd.toward(below.any) = old
}

// makeRoom parts the addresses of the full leaf on a's way: those that part
// from each other or from a in a bit by which the node above chooses go to two
// leaves, others get a node of their own. It reports false when nothing parts
// them.
func (t *tree) makeRoom(above *node, at *link, a address) bool {
	full := *at
	parting := t.leaves.parting(full.index(), a)
	switch {
	case parting == 128:
		return false
	case above != nil && parting < above.bits+slotBits:
		t.split(above, full, a, parting)
		return true
	case above != nil:
		above.replace(full, none)
	}
	lf := t.leaves.at(full.index())
	t.newNode(at, a, parting, lf.window).replace(none, full)
	for place := 0; place < int(lf.n) && !t.named; place++ {
		row(t.sums.at(at.index())).merge(lf.window, t.leaves.row(lf, place), lf.window, 1)
	}
	return true
}

// split moves the addresses with the same bit there as a to a new leaf, and the
// slots with that bit too. There may be no such address, but that is where a
// will be.
func (t *tree) split(nd *node, full link, a address, bit uint8) {
	far := t.leaves.at(full.index())
	near := t.newLeaf(far.window)
	for place := int(far.n) - 1; place >= 0; place-- {
		if t.leaves.address(full.index(), place).bit(bit) == a.bit(bit) {
			t.leaves.move(full.index(), place, near.index())
		}
	}
	for slot, kid := range nd.kids {
		if kid == full && slot>>(nd.bits+slotBits-1-bit)&1 == int(a.bit(bit)) {
			nd.kids[slot] = near
		}
	}
}

// newNode puts a node for a at the link, which shares so many bits with what
// will be below. Its sum is zero.
func (t *tree) newNode(at *link, a address, shared uint8, window int64) *node {
	i := t.sums.take()
	nd := t.nodes.reset(i)
	nd.any, nd.bits, nd.window = a, shared-shared%slotBits, window
	if !t.named {
		t.sums.reset(i)
	}
	*at = link(i)
	return nd
}

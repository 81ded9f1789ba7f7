package series

import "sync/atomic"

// When a series has more keys than it may have, some leave. Worth least is a key
// whose windows are all empty; then the one with the smallest total, and of those
// the one that was counted longest ago.
//
// Finding exactly that one would take an order of all keys, which every add
// would have to keep. Instead each tree has a floor, up to which a total is small,
// and a hand that goes round its leaves. Keys leave the tree with the lowest
// floor. From a leaf the hand takes the small keys that were counted longest ago.
// Where a few leaves have none, the floor rises towards the smallest total seen
// there, and another tree may have its turn; if all else fails, the worst of
// those seen goes. New keys bring the floor down again. A new key has time to show
// what it is: it can be a small one only when an eighth of its tree's keys has
// been replaced since it was counted last.
//
// What an evicted address has counted stays in the sums of the nodes above it
// and so folds into the smallest network that the tree still holds.
type eviction struct {
	epoch  uint8        // goes on with every eighth of the tree's keys that is new
	newer  int64        // keys that came in this epoch
	floor  atomic.Int64 // keys with a total up to this are small; changed under the lock
	looked uint32       // the leaf looked at last
	gone   uint64       // keys evicted since the start
	folds  bool         // blocks count what no key in them does
	folded [128/slotBits + 1]fold
}

// fold is what evicted keys left to the blocks of one size.
type fold struct {
	keys   uint64
	amount int64
}

const (
	epochs     = 8   // in which as many keys come as the tree has
	grace      = 2   // epochs after the one in which a key was counted until it can be a small one
	leafVisits = 4   // leaves looked at for a small key
	slotVisits = 256 // the same, with those that no key is in
	treeVisits = 8   // trees looked at
	shareParts = 8   // a tree gives none away while it has less than one part in so many of its share
	leastFloor = 1
)

// age notes that a key has come.
func (t *tree) age() {
	if t.newer++; t.newer*epochs >= t.keys.Load() {
		t.newer = 0
		t.epoch++
		t.floor.Store(leastFloor)
	}
}

// candidate is a key that may have to go.
type candidate struct {
	leaf  uint32 // 0 for none
	place int
	age   uint8 // epochs since it was counted
	total int64
	empty bool // none of its windows has a count
}

// worse reports whether c is to go rather than other.
func (c candidate) worse(other candidate) bool {
	if other.leaf == 0 || c.total != other.total {
		return other.leaf == 0 || c.total < other.total
	}
	return c.age > other.age
}

// evict drops small keys, or if it must, and there are none where it looks, the
// worst that it sees. It reports whether it dropped any.
func (t *tree) evict(must bool) bool {
	var worst candidate
	for visited, slots := 0, 0; visited < leafVisits && slots < slotVisits && t.leaves.used > 0; slots++ {
		i := next(&t.looked, t.leaves.used)
		if t.leaves.at(i).n == 0 {
			continue
		}
		visited++
		if t.evictSmall(i, &worst) {
			return true
		}
	}
	if worst.leaf == 0 {
		return false
	}
	floor := t.floor.Load()
	t.floor.Store(max(floor, min(floor+1+floor/8, worst.total)))
	if must {
		a := t.leaves.address(worst.leaf, 0)
		t.fold(t.enclosing(a), worst.total)
		t.drop(worst.leaf, worst.place)
		t.tidy(a)
	}
	return must
}

// evictSmall drops what is small or empty in a leaf and reports whether there
// was any. Of the others it remembers the worst.
func (t *tree) evictSmall(i uint32, worst *candidate) bool {
	lf := t.leaves.at(i)
	was, a := lf.n, t.leaves.address(i, 0)
	var seen [leafCap]candidate
	oldest, floor := uint8(0), t.floor.Load()
	for place := range int(was) {
		c := t.candidate(i, place)
		if seen[place] = c; c.total <= floor {
			oldest = max(oldest, c.age)
		}
		if c.worse(*worst) {
			*worst = c
		}
	}
	above := t.enclosing(a)
	for place := int(was) - 1; place >= 0; place-- {
		switch c := seen[place]; {
		case c.empty:
			t.drop(i, place)
		case c.total <= floor && c.age >= max(grace, oldest/2+1):
			t.fold(above, c.total)
			t.drop(i, place)
		}
	}
	if lf.n == was {
		return false
	}
	t.tidy(a)
	return true
}

// candidate is the key at a place of a leaf, as a candidate.
func (t *tree) candidate(i uint32, place int) candidate {
	lf := t.leaves.at(i)
	row, kept := t.leaves.row(lf, place), t.kept(lf)
	total := row.sum(lf.window, kept)
	return candidate{i, place, t.epoch - lf.epochs[place], total, total == 0 && !row.counts(lf.window, kept)}
}

// enclosing is how many bits the smallest block has that a node holds and a is
// in; 0 is everything.
func (t *tree) enclosing(a address) (bits uint8) {
	for l := t.root; l.isNode(); {
		nd := t.nodes.at(l.index())
		bits, l = nd.bits, *nd.toward(a)
	}
	return bits
}

func (t *tree) fold(bits uint8, amount int64) {
	f := &t.folded[bits/slotBits]
	f.keys++
	f.amount = Plus(f.amount, amount)
	t.gone++
	t.folds = true
}

// Evicted is what keys that had to leave have counted, and where that still
// counts.
type Evicted struct {
	Keys   uint64
	Amount int64 // the sum of what they had counted
	IPv6   bool  // the keys' family, in a series of addresses
	Bits   int   // the blocks of this size that they were in still count it, and so do all larger ones; 0 is everything; or Nowhere
}

// Nowhere is the Bits of keys whose counts are gone.
const Nowhere = -1

// Evictions tells what has been evicted since it was asked last: in a series of
// addresses apart for each size of the smallest blocks that still count it, IPv4
// first and the largest blocks first; in one of texts in sum.
func (s *Series) Evictions() (all []Evicted) {
	for _, f := range s.families {
		var folded [len(eviction{}.folded)]fold
		for i := range f.trees {
			f.trees[i].takeFolded(&folded)
		}
		for i, sum := range folded {
			if sum.keys > 0 {
				all = append(all, Evicted{sum.keys, sum.amount, f.wide, i * slotBits})
			}
		}
	}
	return all
}

// takeFolded adds what was folded since it was asked last.
func (t *lockedTree) takeFolded(to *[len(eviction{}.folded)]fold) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, f := range t.folded {
		to[i].keys += f.keys
		to[i].amount = Plus(to[i].amount, f.amount)
	}
	clear(t.folded[:])
}

// shrink evicts until there are no more keys than there may be. While it does,
// other sessions add theirs, so for a moment there can be as many more as there
// are sessions.
func (s *Series) shrink() {
	for visited := 1; s.keys.Load() > int64(s.def.MaxKeys); visited++ {
		t := s.poorest()
		t.mu.Lock()
		if t.evict(visited >= treeVisits) {
			visited = 0
		}
		t.mu.Unlock()
	}
}

// poorest is the tree with the lowest floor; of several the one with most keys. A tree
// that has a small part of its share is left to grow: among few keys each is soon the
// worst, and an offender that is new there would never get in.
func (s *Series) poorest() (poorest *lockedTree) {
	var floor, keys int64
	few := s.keys.Load() / int64(len(s.trees)) / shareParts
	for _, t := range s.trees {
		f, k := t.floor.Load(), t.keys.Load()
		if k > 0 && k >= few && (poorest == nil || f < floor || f == floor && k > keys) {
			poorest, floor, keys = t, f, k
		}
	}
	if poorest == nil {
		return s.trees[0] // all has left meanwhile
	}
	return poorest
}

package series

import (
	"slices"
	"sync"
	"sync/atomic"
)

// expiry is how far the hand has come that drops what has expired. A pass begins
// when a window has ended, and each add moves it on, so that no add ever waits for a
// clean-up.
type expiry struct {
	oldest int64  // the window since which keys are kept, as the last pass has it
	hand   uint32 // the index looked at last
	left   uint32 // how many the pass has still to look at
}

// turn is the index to look at now, of so many that are in use; 0 when there is no
// pass.
func (e *expiry) turn(oldest int64, used uint32) uint32 {
	if oldest > e.oldest {
		e.oldest, e.left = oldest, used
	}
	if e.left == 0 {
		return 0
	}
	e.left--
	return next(&e.hand, used)
}

// next moves a hand on, round all indexes in use. There are some.
func next(hand *uint32, used uint32) uint32 {
	*hand = *hand%used + 1
	return *hand
}

// sweep looks at one leaf, while there is a pass.
func (t *tree) sweep(oldest int64) {
	if i := t.turn(oldest, t.leaves.used); i > 0 {
		t.expire(i)
	}
}

// janitor moves on the passes of trees to which nothing is added.
type janitor struct {
	swept atomic.Int64 // all trees have been swept since this window became the oldest

	mu     sync.Mutex
	oldest int64 // what is being swept for
	turn   int   // the tree in hand
}

func (j *janitor) init() {
	j.swept.Store(longAgo)
	j.oldest = longAgo
}

// sweep looks at one leaf of one tree, unless another session is about to or the
// tree is in use.
func (j *janitor) sweep(trees []*lockedTree, oldest int64) {
	if j.swept.Load() >= oldest || !j.mu.TryLock() {
		return
	}
	defer j.mu.Unlock()
	if oldest > j.oldest {
		j.oldest, j.turn = oldest, 0
	}
	if j.turn < len(trees) && trees[j.turn].trySweep(j.oldest) {
		j.turn++
	}
	if j.turn == len(trees) {
		j.swept.Store(j.oldest)
	}
}

// trySweep reports whether the pass is over.
func (t *lockedTree) trySweep(oldest int64) bool {
	if !t.mu.TryLock() {
		return false
	}
	defer t.mu.Unlock()
	t.sweep(oldest)
	return t.left == 0
}

// expire drops the keys of a leaf for which no window has a count.
func (t *tree) expire(i uint32) {
	if t.leaves.at(i).n == 0 {
		return
	}
	if a := t.leaves.address(i, 0); t.dropExpired(i) {
		t.tidy(a)
	} else {
		t.mend(a)
	}
}

// dropExpired reports whether there were any. It can leave the leaf empty.
func (t *tree) dropExpired(i uint32) bool {
	lf := t.leaves.at(i)
	was := lf.n
	for place := int(was) - 1; place >= 0; place-- {
		if t.expired(lf, place) {
			t.drop(i, place)
		}
	}
	return lf.n < was
}

// expired reports whether no window has a count of the key at a place.
func (t *tree) expired(lf *leaf, place int) bool {
	return !t.leaves.row(lf, place).counts(lf.window, t.kept(lf))
}

// kept is the span of all windows of a leaf that the tree keeps.
func (t *tree) kept(lf *leaf) span { return span{momentOf(lf.window, t.windows), t.oldest} }

// remove takes a key out of every window, and of every block. It reports
// whether there was one that counted in the window oldest or later.
func (t *tree) remove(a address, text string, oldest int64) bool {
	i, place := t.find(a, text)
	if place < 0 {
		return false
	}
	lf := t.leaves.at(i)
	gone := t.leaves.row(lf, place)
	live := gone.counts(lf.window, span{momentOf(lf.window, t.windows), oldest})
	t.noteRemoved(a, text, t.keyBits(), gone, lf.window)
	if !t.named {
		t.takeOutAbove(a, t.bits, gone, lf.window)
	}
	t.drop(i, place)
	t.tidy(a)
	return live
}

// takeOutAbove takes the counts of a row out of every block of at most so many
// bits that a, which is below all nodes on its way, is in.
func (t *tree) takeOutAbove(a address, bits uint8, gone row, window int64) {
	t.takeOut(&t.all.window, t.all.row, gone, window)
	for l := t.root; l.isNode(); {
		nd := t.nodes.at(l.index())
		if nd.bits > bits {
			return
		}
		t.takeOut(&nd.window, t.sums.at(l.index()), gone, window)
		l = *nd.toward(a)
	}
}

// takeOut takes the counts of a row out of a sum.
func (t *tree) takeOut(newest *int64, sum row, gone row, window int64) {
	reach(newest, sum, t.windows, momentOf(window, t.windows))
	sum.merge(*newest, gone, window, -1)
}

// find is the leaf of a key and its place there, or -1.
func (t *tree) find(a address, text string) (i uint32, place int) {
	l := t.root
	for l.isNode() {
		l = *t.nodes.at(l.index()).toward(a)
	}
	if l == none {
		return 0, -1
	}
	return l.index(), t.leaves.find(l.index(), a, text)
}

// drop frees a key and its counts.
func (t *tree) drop(i uint32, place int) {
	t.leaves.drop(i, place)
	t.keys.Add(-1)
	t.total.Add(-1)
}

// tidy takes away the leaf on a's way if it is empty, or if a neighbour has room
// for what is left in it, and then what is not needed above it.
func (t *tree) tidy(a address) {
	var nd *node
	at := &t.root
	for at.isNode() {
		nd = t.nodes.at(at.index())
		at = nd.toward(a)
	}
	old := *at
	heir := t.heir(nd, old)
	switch {
	case heir == none && t.leaves.at(old.index()).n > 0:
		return
	case nd == nil:
		t.root = none
	default:
		nd.replace(old, heir)
	}
	t.leaves.give(old.index())
	t.mend(a)
}

// heir is a leaf beside the old one that has taken its keys in, or none. Half of
// it stays free, so that the next key does not split it again.
func (t *tree) heir(nd *node, old link) link {
	if nd == nil {
		return none
	}
	lf := t.leaves.at(old.index())
	for _, kid := range nd.kids {
		if !kid.isLeaf() || kid == old || t.leaves.at(kid.index()).n+lf.n > leafCap/2 {
			continue
		}
		for place := int(lf.n) - 1; place >= 0; place-- {
			t.leaves.move(old.index(), place, kid.index())
		}
		return kid
	}
	return none
}

// mend takes away the nodes on a's way that have nothing to part, from the
// lowest up. What is left below takes their place.
func (t *tree) mend(a address) {
	var way [128/slotBits + 1]*link
	depth := 0
	for at := &t.root; at.isNode(); depth++ {
		way[depth] = at
		at = t.nodes.at(at.index()).toward(a)
	}
	for depth--; depth >= 0; depth-- {
		i := way[depth].index()
		nd := t.nodes.at(i)
		only, alone := nd.only()
		t.keepLone(nd, alone && only != none && t.holdsMore(nd, i, only))
		if alone && !nd.lone {
			*way[depth] = only
			t.sums.give(i)
		}
	}
}

// only is what stands in all slots of a node that are not empty, if that is one
// thing or nothing.
func (nd *node) only() (kid link, alone bool) {
	for _, k := range nd.kids {
		if kid == none {
			kid = k
		}
		if k != none && k != kid {
			return none, false
		}
	}
	return kid, true
}

// keepLone says whether a node is kept though it has nothing to part.
func (t *tree) keepLone(nd *node, kept bool) {
	switch {
	case kept && !nd.lone:
		t.lone++
	case nd.lone && !kept:
		t.lone--
	}
	nd.lone = kept
}

// A node that is kept alone may be there for so many keys, and beside these as many
// as can be on the way to one: else the largest network of few keys is not kept.
const (
	loneShare = 128
	loneWay   = 128 / slotBits
)

// holdsMore reports whether a node's sum holds more than what its only kid has:
// what evicted keys have left to it. A flood leaves ever more such nodes; those
// above the bound of their number leave it to the node above.
func (t *tree) holdsMore(nd *node, i uint32, only link) bool {
	if t.named || t.lone > loneWay+t.keys.Load()/loneShare {
		return false
	}
	window, own := t.own(nd.window, t.sums.at(i), only)
	return own.counts(window, span{momentOf(window, t.windows), t.oldest})
}

// own is what a sum has that its kids do not: what evicted keys have left to it.
func (t *tree) own(window int64, sum row, kids ...link) (newest int64, own row) {
	own = t.scratch
	copy(own, sum)
	for n, kid := range kids {
		switch {
		case kid.isNode():
			t.takeOut(&window, own, t.sums.at(kid.index()), t.nodes.at(kid.index()).window)
		case kid.isLeaf() && !slices.Contains(kids[:n], kid):
			lf := t.leaves.at(kid.index())
			for place := range int(lf.n) {
				t.takeOut(&window, own, t.leaves.row(lf, place), lf.window)
			}
		}
	}
	return window, own
}

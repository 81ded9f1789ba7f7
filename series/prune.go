package series

import "math"

// remove takes an address out of every window, and of every node above. It
// reports whether there was one that had counted in the window oldest or later.
func (t *tree) remove(a address, oldest int64) bool {
	lf, i := t.find(a)
	if i < 0 {
		return false
	}
	gone := t.rings.at(lf.rings[i])
	for l := t.root; l.isNode(); {
		nd := t.nodes.at(l.index())
		t.rings.at(nd.ring).merge(gone, -1)
		l = *nd.toward(a)
	}
	live := gone[0] >= oldest
	t.drop(lf, i)
	t.tidy(a)
	return live
}

// find is the leaf of an address and its place there, or -1.
func (t *tree) find(a address) (*leaf, int) {
	l := t.root
	for l.isNode() {
		l = *t.nodes.at(l.index()).toward(a)
	}
	if l == none {
		return nil, -1
	}
	lf := t.leaves.at(l.index())
	return lf, lf.find(a)
}

// drop frees an address and its counts.
func (t *tree) drop(lf *leaf, i int) {
	t.rings.give(lf.rings[i])
	lf.drop(i)
	t.keys--
}

// sweep moves the hand to the next leaf and drops what has not counted in the
// window oldest or later.
func (t *tree) sweep(oldest int64) {
	t.hand = t.hand%t.leaves.used + 1
	lf := t.leaves.at(t.hand)
	if lf.n == 0 || lf.oldest >= oldest {
		return
	}
	was, a := lf.n, lf.address(0)
	lf.oldest = math.MaxInt64
	for i := int(was) - 1; i >= 0; i-- {
		newest := t.rings.at(lf.rings[i])[0]
		if newest < oldest {
			t.drop(lf, i)
		} else {
			lf.oldest = min(lf.oldest, newest)
		}
	}
	if lf.n < was {
		t.tidy(a)
	}
}

// tidy takes away the leaf on a's way if it is empty, or if a neighbour has room
// for what is left in it, and then the node above if it has nothing left to part.
func (t *tree) tidy(a address) {
	var nd *node
	above, at := &t.root, &t.root
	for at.isNode() {
		nd = t.nodes.at(at.index())
		above, at = at, nd.toward(a)
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
		t.join(above, nd)
	}
	t.leaves.give(old.index())
}

// heir is a leaf beside the old one that has taken its addresses in, or none.
// Half of it stays free, so that the next address does not split it again.
func (t *tree) heir(nd *node, old link) link {
	if nd == nil {
		return none
	}
	lf := t.leaves.at(old.index())
	for _, kid := range nd.kids {
		if kid.isLeaf() && kid != old && t.leaves.at(kid.index()).absorb(lf) {
			return kid
		}
	}
	return none
}

// join takes away a node that has a single kid, which takes its place.
func (t *tree) join(above *link, nd *node) {
	only := none
	for _, kid := range nd.kids {
		if only == none {
			only = kid
		}
		if kid != none && kid != only {
			return
		}
	}
	i := above.index()
	*above = only
	t.rings.give(nd.ring)
	t.nodes.give(i)
}

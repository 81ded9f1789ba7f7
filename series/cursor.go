package series

import "slices"

// cursor goes through a tree by ranges of addresses, not by nodes and leaves, which
// come and go: under the lock it finds what stands where it has come to, takes along
// the keys that are in that slot, and moves behind it. What is yielded is behind it for
// good, so nothing comes twice, and nothing that stays is passed over.
type cursor struct {
	tree    *lockedTree
	left    extent // what is still to be looked at, if it is not over
	over    bool
	bits    uint8 // of the blocks that are counted, or all of them for keys
	windows span

	entries []entry // what was found at the last look
	counts  []int64 // their rows
	texts   []byte
	read    int // how many entries have been
	leaf    []placed
	rows    []int64
}

// entry is a block, by its first address, or a key.
type entry struct {
	at     address
	text   string
	length uint8 // of the text
}

// placed is a key of the leaf that is looked at.
type placed struct {
	at    address
	place int
}

// more reports whether there is an entry.
func (c *cursor) more() bool { return c.read < len(c.entries) }

func (c *cursor) entry() entry { return c.entries[c.read] }

// row is the counts of the entry.
func (c *cursor) row() []int64 {
	n := len(c.counts) / len(c.entries)
	return c.counts[c.read*n : (c.read+1)*n]
}

// next moves on to the next entry, if there is one.
func (c *cursor) next() {
	for c.read++; !c.more() && !c.over; c.read = 0 {
		c.look()
	}
}

// join adds what other cursors have of the same block, and moves them on.
func (c *cursor) join(cursors []cursor) {
	sums := c.row()
	for i := range cursors {
		other := &cursors[i]
		if other == c || !other.more() || other.entry().at != c.entry().at {
			continue
		}
		for w, n := range other.row() {
			sums[w] = Plus(sums[w], n)
		}
		other.next()
	}
}

// look takes along what stands at the cursor: of several slots, if they hold little,
// so that walks and adds do not fight for the lock at each of them.
func (c *cursor) look() {
	c.entries, c.counts, c.texts = c.entries[:0], c.counts[:0], c.texts[:0]
	c.tree.mu.Lock()
	for n := 0; n < slots && len(c.entries) < leafCap && !c.over; n++ {
		var more bool
		c.left, more = c.left.behind(c.tree.gather(c))
		c.over = !more
	}
	c.tree.mu.Unlock()
	c.nameEntries()
}

// nameEntries gives the entries the texts that were collected for them.
func (c *cursor) nameEntries() {
	texts := string(c.texts)
	for i := range c.entries {
		e := &c.entries[i]
		e.text, texts = texts[:e.length], texts[e.length:]
	}
}

// add makes an entry and says where its counts belong.
func (c *cursor) add(a address, windows int) tally {
	c.entries = append(c.entries, entry{at: a})
	n := len(c.counts)
	c.counts = appendZeros(c.counts, windows)
	return tally{span: c.windows, windows: c.counts[n:]}
}

// gather collects what stands at the cursor, and returns the last address of it.
func (t *tree) gather(c *cursor) (last address) {
	if c.bits == 0 {
		y := c.add(c.left.first, t.windows)
		t.count(&y, c.left.first, "", 0)
		return c.left.last
	}
	l, last := t.standing(c.left.first, c.bits)
	switch {
	case l.isNode():
		y := c.add(c.left.first, t.windows)
		t.within(&y, t.nodes.at(l.index()), l.index(), c.left.first, c.bits)
	case l.isLeaf():
		t.gatherLeaf(c, l.index(), extent{c.left.first, lower(last, c.left.last)})
	}
	return last
}

// standing is what stands where blocks of so many bits are looked for, and up to
// where: the node whose sums have the block of a, or a leaf, or nothing.
func (t *tree) standing(a address, bits uint8) (l link, last address) {
	l, last = t.root, blockOf(a, 0).last
	for l.isNode() {
		nd := t.nodes.at(l.index())
		if known := min(nd.bits, bits); a.shared(nd.any) < known {
			if below := blockOf(nd.any, known).first; a.compare(below) < 0 {
				last = below.before()
			}
			return none, last
		}
		if nd.bits+slotBits > bits {
			return l, blockOf(a, bits).last
		}
		l, last = nd.run(a)
	}
	return l, last
}

// run is the link toward a, and the last address up to which a leaf or nothing
// stands in one slot after the other.
func (nd *node) run(a address) (l link, last address) {
	slot := a.slot(nd.bits)
	l, last = nd.kids[slot], blockOf(a, nd.bits+slotBits).last
	for ; !l.isNode() && slot+1 < slots && nd.kids[slot+1] == l; slot++ {
		last = blockOf(last.next(), nd.bits+slotBits).last
	}
	return l, last
}

// gatherLeaf collects what a leaf has in a range.
func (t *tree) gatherLeaf(c *cursor, i uint32, in extent) {
	lf := t.leaves.at(i)
	c.leaf, c.rows = c.leaf[:0], t.leaves.appendRows(c.rows[:0], lf)
	for place := range int(lf.n) {
		if a := t.leaves.address(i, place); in.contains(a) {
			c.leaf = append(c.leaf, placed{a, place})
		}
	}
	if !t.named {
		slices.SortFunc(c.leaf, func(a, b placed) int { return a.at.compare(b.at) })
	}
	var y tally
	for _, p := range c.leaf {
		if block := blockOf(p.at, c.bits).first; t.named || y.windows == nil || block != c.entries[len(c.entries)-1].at {
			y = c.add(block, t.windows)
		}
		y.take(lf.window, c.rows[p.place*t.windows:(p.place+1)*t.windows])
	}
	if t.named {
		t.gatherTexts(c, i)
	}
}

// gatherTexts takes the texts of the keys along that were found in a leaf.
func (t *tree) gatherTexts(c *cursor, i uint32) {
	names := t.leaves.names.at(i)
	first := len(c.entries) - len(c.leaf)
	for n, p := range c.leaf {
		c.entries[first+n].length = names[p.place].length
		c.texts = t.leaves.texts.append(c.texts, names[p.place])
	}
}

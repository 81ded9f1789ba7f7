package series

import "slices"

// progress is how far a snapshot has come in a tree. What was added to a key that it
// has passed is told for both; what was added to others is in the row that it will
// find, and so only for who has begun with an older snapshot.
type progress struct {
	running bool
	left    extent
	told    block // the sum of all that was told of the tree since the begin, for who begins there
}

// isAhead reports whether the snapshot has still to come by.
func (p *progress) isAhead(a address) bool { return p.running && p.left.first.compare(a) <= 0 }

// account adds adjustments up that are not ahead.
func (p *progress) account(list []adjustment) {
	if !p.running || p.told.row == nil {
		return
	}
	for _, a := range list {
		if !p.isAhead(a.at) {
			p.add(a.window, a.amount)
		}
	}
}

func (p *progress) add(window, n int64) {
	windows := len(p.told.row)
	if m := momentOf(window, windows); reach(&p.told.window, p.told.row, windows, m) {
		p.told.row.add(m.place, n)
	}
}

// seriesSnapshot goes through the trees, one after the other.
type seriesSnapshot struct {
	of     *Series
	family int
	tree   int // of the family
	cursor cursor
	blocks []blockCount // of the tree
}

// blockCount is what evicted keys have left to a block in one window.
type blockCount struct {
	at     address
	bits   uint8
	window int64
	n      int64
}

// Snapshot begins a snapshot; one that was begun before is of no use any more. It is
// exact for every key, and for everything. What evicted keys have left to a network
// goes to the smallest network around it that there is for who merges it; what is
// evicted while the snapshot is taken can count in larger networks only.
func (s *Series) Snapshot() Snapshot {
	for _, t := range s.trees {
		t.mu.Lock()
		t.progress = progress{running: true, left: blockOf(address{}, 0)}
		if !t.named {
			t.progress.told = block{longAgo, make(row, t.windows)}
		}
		t.mu.Unlock()
	}
	n := &seriesSnapshot{of: s}
	n.begin()
	return n
}

// begin begins the tree in hand.
func (n *seriesSnapshot) begin() {
	f := n.of.families[n.family]
	n.blocks = n.blocks[:0]
	n.cursor = cursor{tree: &f.trees[n.tree], left: blockOf(address{}, 0), bits: f.bits}
}

// Next is that of [Snapshot].
func (n *seriesSnapshot) Next(yield func(Delta)) (more bool) {
	s, f, c := n.of, n.of.families[n.family], &n.cursor
	c.windows = s.span(s.clock.current(), 0, s.def.Windows-1)
	t := c.tree
	t.mu.Lock()
	out := t.tell()
	n.look(t)
	t.mu.Unlock()
	c.nameEntries()
	f.tell(out, s.clock, yield)
	for c.read = 0; c.more(); c.read++ {
		for age, amount := range c.row() {
			n.yield(yield, f.key(c.entry()), f.keyBits(), c.windows.newest.window-int64(age), amount)
		}
	}
	if !c.over {
		return true
	}
	for _, b := range n.blocks {
		n.yield(yield, f.key(entry{at: b.at}), b.bits, b.window, b.n)
	}
	if n.tree++; n.tree == len(f.trees) {
		n.family, n.tree = n.family+1, 0
	}
	if n.family == len(s.families) {
		return false
	}
	n.begin()
	return true
}

func (n *seriesSnapshot) yield(yield func(Delta), k Key, bits uint8, window, amount int64) {
	if amount != 0 {
		yield(Delta{Key: k, Bits: bits, For: Newer, Start: n.of.clock.start(window), Amount: amount})
	}
}

// look takes along the keys that stand at the cursor, and what evicted ones have left
// to the blocks that begin there.
func (n *seriesSnapshot) look(t *lockedTree) {
	c, p := &n.cursor, &t.progress
	c.entries, c.counts, c.texts = c.entries[:0], c.counts[:0], c.texts[:0]
	for looked := 0; looked < slots && len(c.entries) < leafCap && !c.over; looked++ {
		n.lookAbove(t)
		var more bool
		c.left, more = c.left.behind(t.gather(c))
		c.over = !more
	}
	for i := range c.entries {
		c.read = i
		n.account(t, c.row())
	}
	p.left = c.left
	if c.over {
		n.rest(t)
		*p = progress{}
	}
}

// account adds a row of counts up, if the tree has sums to compare that with.
func (n *seriesSnapshot) account(t *lockedTree, counts []int64) {
	for age, amount := range counts {
		if amount != 0 && !t.named {
			t.progress.add(n.cursor.windows.newest.window-int64(age), amount)
		}
	}
}

// lookAbove takes along what the blocks have that begin at the cursor, and their keys
// have not.
func (n *seriesSnapshot) lookAbove(t *lockedTree) {
	if t.named {
		return
	}
	a := n.cursor.left.first
	for l := t.root; l.isNode(); {
		nd := t.nodes.at(l.index())
		if blockOf(nd.any, nd.bits).first == a {
			window, own := t.own(nd.window, t.sums.at(l.index()), nd.kids[:]...)
			n.keep(t, a, nd.bits, window, own)
		}
		l = *nd.toward(a)
	}
}

// keep remembers what a block has until the keys in it have been told, since who
// merges it makes the block for them.
func (n *seriesSnapshot) keep(t *lockedTree, a address, bits uint8, window int64, own row) {
	windows := n.cursor.windows
	counts := make([]int64, t.windows)
	own.tally(window, counts, windows)
	n.account(t, counts)
	for age, amount := range counts {
		if amount != 0 {
			n.blocks = append(n.blocks, blockCount{a, bits, windows.newest.window - int64(age), amount})
		}
	}
}

// rest lets the whole tree count what it counts: what was evicted meanwhile, and what
// its largest block does not have.
func (n *seriesSnapshot) rest(t *lockedTree) {
	if t.named {
		return
	}
	newest, rest := t.all.window, slices.Clone(t.all.row)
	t.takeOut(&newest, rest, t.progress.told.row, t.progress.told.window)
	n.keep(t, address{}, 0, newest, rest)
}

package series

// leafCap is how many keys a leaf holds before it is split: more make descents
// shorter and memory smaller, and the sum of a block that lies within a leaf
// dearer.
const leafCap = 32

// leaf holds keys between which there is no node, in no order. What is looked at
// to find a key stands together here; the counts stand elsewhere, a row for each
// key in the same order.
type leaf struct {
	window int64                       // the newest window of all rows
	sheets [leafCap / sheetRows]uint32 // where the rows are: as many as the keys need
	n      uint8                       // how many keys there are
	epochs [leafCap]uint8              // when each key was counted last, as evict.go has it
	marks  [leafCap]uint32             // by which keys are told apart at first sight
}

// sheetRows is how many rows stand together in a sheet. All sheets are alike, so
// that what one leaf gives back any other can use.
const sheetRows = 4

// leaves holds all leaves of a tree.
type leaves struct {
	kind
	windows int
	indexes
	heads  arena[leaf]
	wides  arena[[leafCap]address] // the addresses, if the kind is wide
	names  arena[[leafCap]name]    // where the texts are, if it is named
	texts  texts
	sheets slab[int64] // the rows
}

func newLeaves(k kind, windows int) leaves {
	return leaves{kind: k, windows: windows, sheets: newSlab[int64](sheetRows * windows)}
}

func (l *leaves) at(i uint32) *leaf { return l.heads.at(i) }

// take is the index of an empty leaf.
func (l *leaves) take(window int64) uint32 {
	i := l.indexes.take()
	l.heads.reset(i).window = window
	if l.wide {
		l.wides.reset(i)
	}
	if l.named {
		l.names.reset(i)
	}
	return i
}

// row is the counts of the key at a place of the leaf.
func (l *leaves) row(lf *leaf, place int) row {
	at := place % sheetRows * l.windows
	return l.sheets.at(lf.sheets[place/sheetRows])[at : at+l.windows]
}

// appendRows appends all rows of a leaf. Copied in one go they come out of memory
// together, and not one after the other.
func (l *leaves) appendRows(rows []int64, lf *leaf) []int64 {
	for place := 0; place < int(lf.n); place += sheetRows {
		rows = append(rows, l.sheets.at(lf.sheets[place/sheetRows])...)
	}
	return rows
}

// reach is that of all rows of a leaf.
func (l *leaves) reach(lf *leaf, m moment) (kept bool) {
	if m.window == lf.window {
		return true
	}
	newest := lf.window
	for place := 0; place < int(lf.n); place += sheetRows {
		lf.window = newest
		kept = advance(&lf.window, l.sheets.at(lf.sheets[place/sheetRows]), l.windows, m)
	}
	return kept
}

// mark is an IPv4 address or the hash of a text itself, and of an IPv6 address
// some bits that differ between neighbours.
func (l *leaves) mark(a address) uint32 {
	if l.wide {
		return uint32((a.hi ^ a.lo*golden) * golden >> 32)
	}
	return uint32(a.hi >> 32)
}

// address is that of the key at a place of the leaf with index i.
func (l *leaves) address(i uint32, place int) address {
	if l.wide {
		return l.wides.at(i)[place]
	}
	return address{hi: uint64(l.at(i).marks[place]) << 32}
}

// find is the place of a key in the leaf with index i, or -1.
func (l *leaves) find(i uint32, a address, text string) int {
	lf, mark := l.at(i), l.mark(a)
	for place, m := range lf.marks[:lf.n] {
		if m == mark && (!l.wide || l.wides.at(i)[place] == a) && (!l.named || l.texts.equal(l.names.at(i)[place], text)) {
			return place
		}
	}
	return -1
}

// parting is the first bit in which any address of the leaf differs from a.
func (l *leaves) parting(i uint32, a address) uint8 {
	parting := uint8(128)
	for place := range int(l.at(i).n) {
		parting = min(parting, a.shared(l.address(i, place)))
	}
	return parting
}

// put takes a key into a leaf that is not full and returns its place. Its row
// is zero, and its text, if the kind is named, is still to be set.
func (l *leaves) put(i uint32, a address) int {
	lf := l.at(i)
	place := int(lf.n)
	if place%sheetRows == 0 {
		sheet := l.sheets.take()
		l.sheets.reset(sheet)
		lf.sheets[place/sheetRows] = sheet
	}
	lf.marks[place] = l.mark(a)
	if l.wide {
		l.wides.at(i)[place] = a
	}
	clear(l.row(lf, place))
	lf.n++
	return place
}

// insert takes a new key in.
func (l *leaves) insert(i uint32, a address, text string) int {
	place := l.put(i, a)
	if l.named {
		l.names.at(i)[place] = l.texts.keep(text)
	}
	return place
}

// move takes the key at a place of one leaf into another, counts and all.
func (l *leaves) move(from uint32, place int, to uint32) {
	source, target := l.at(from), l.at(to)
	at := l.put(to, l.address(from, place))
	target.epochs[at] = source.epochs[place]
	if l.named {
		l.names.at(to)[at] = l.names.at(from)[place]
	}
	l.reach(target, momentOf(source.window, l.windows))
	l.row(target, at).merge(target.window, l.row(source, place), source.window, 1)
	l.close(from, place)
}

// drop forgets the key at a place.
func (l *leaves) drop(i uint32, place int) {
	if l.named {
		l.texts.forget(l.names.at(i)[place])
	}
	l.close(i, place)
}

// close lets the last key take a place that has become free.
func (l *leaves) close(i uint32, place int) {
	lf := l.at(i)
	lf.n--
	last := int(lf.n)
	lf.marks[place], lf.epochs[place] = lf.marks[last], lf.epochs[last]
	if l.wide {
		wides := l.wides.at(i)
		wides[place] = wides[last]
	}
	if l.named {
		names := l.names.at(i)
		names[place] = names[last]
	}
	if place != last {
		copy(l.row(lf, place), l.row(lf, last))
	}
	if last%sheetRows == 0 {
		l.sheets.give(lf.sheets[last/sheetRows])
	}
}

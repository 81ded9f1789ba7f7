package series

import "hash/maphash"

// leafCap is how many keys a leaf holds before it is split: more make descents
// shorter and memory smaller, and the sum of a block that lies within a leaf
// dearer.
const leafCap = 32

// leaf holds keys between which there is no node, in no order. What is looked at
// to find a key stands together here; the counts stand elsewhere, a row for each
// key in the same order.
type leaf struct {
	window int64           // the newest window of all rows
	rows   uint32          // where they are, among those of the same room
	room   uint8           // how many rows there are, a multiple of roomStep
	n      uint8           // how many of them are a key's
	epochs [leafCap]uint8  // when each key was counted last, as evict.go has it
	marks  [leafCap]uint32 // by which keys are told apart at first sight
}

// leaves holds all leaves of a tree.
type leaves struct {
	kind
	windows int
	indexes
	heads arena[leaf]
	wides arena[[leafCap]address] // the addresses, if the kind is wide
	names arena[[leafCap]name]    // where the texts are, if it is named
	texts texts
	rooms [leafCap / roomStep]slab[int64] // the rows, by how many a leaf has
}

// roomStep is by how many rows a leaf grows.
const roomStep = 4

func newLeaves(k kind, windows int) leaves {
	l := leaves{kind: k, windows: windows}
	for i := range l.rooms {
		l.rooms[i] = newSlab[int64]((i + 1) * roomStep * windows)
	}
	return l
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

// give frees an empty leaf.
func (l *leaves) give(i uint32) {
	l.resize(l.at(i), 0)
	l.indexes.give(i)
}

// rows are all rows of a leaf in one slice, those included that no key has yet.
func (l *leaves) rows(lf *leaf) []int64 {
	if lf.room == 0 {
		return nil
	}
	return l.rooms[lf.room/roomStep-1].at(lf.rows)
}

// row is the counts of the key at a place of the leaf.
func (l *leaves) row(lf *leaf, place int) row {
	return l.rows(lf)[place*l.windows : (place+1)*l.windows]
}

// resize gives a leaf room for so many rows.
func (l *leaves) resize(lf *leaf, rows int) {
	room := (rows + roomStep - 1) / roomStep * roomStep
	if room == int(lf.room) {
		return
	}
	old, was := *lf, l.rows(lf)
	if lf.room = uint8(room); room > 0 {
		to := &l.rooms[room/roomStep-1]
		lf.rows = to.take()
		copy(to.reset(lf.rows), was)
	}
	if old.room > 0 {
		l.rooms[old.room/roomStep-1].give(old.rows)
	}
}

// mark is an IPv4 address itself, and of other keys some bits that differ
// between neighbours.
func (l *leaves) mark(a address) uint32 {
	if l.wide {
		return uint32((a.hi ^ a.lo*golden) * golden >> 32)
	}
	return uint32(a.hi >> 32)
}

// address is that of the key at a place of the leaf with index i.
func (l *leaves) address(i uint32, place int) address {
	switch {
	case l.wide:
		return l.wides.at(i)[place]
	case l.named:
		var buf [maxText]byte
		return address{hi: maphash.Bytes(l.seed, l.texts.append(buf[:0], l.names.at(i)[place]))}
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
	if lf.n == lf.room {
		l.resize(lf, place+1)
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
	reach(&target.window, l.rows(target), l.windows, momentOf(source.window, l.windows))
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
	copy(l.row(lf, place), l.row(lf, last))
}

// trim gives back the room of a leaf that has far too much.
func (l *leaves) trim(lf *leaf) {
	if lf.room >= lf.n+2*roomStep {
		l.resize(lf, int(lf.n)+1)
	}
}

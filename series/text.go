package series

// maxText is the longest text that can be a key, in bytes.
const maxText = 255

// texts keeps the texts of a tree's keys in cells of one size, so that what one
// leaves any other can use, whatever their lengths.
type texts struct {
	indexes
	cells arena[cell]
}

// cell is a part of a text.
type cell struct {
	next  uint32 // where the next part is
	bytes [cellSize]byte
}

const cellSize = 28

// name is where a text begins.
type name struct {
	at     uint32
	length uint8
}

// keep copies a text, which is not longer than maxText.
func (x *texts) keep(text string) name {
	n := name{length: uint8(len(text))}
	for link := &n.at; text != ""; {
		*link = x.take()
		c := x.cells.reset(*link)
		text = text[copy(c.bytes[:], text):]
		link = &c.next
	}
	return n
}

// append appends a text.
func (x *texts) append(b []byte, n name) []byte {
	for at, left := n.at, int(n.length); left > 0; left -= cellSize {
		c := x.cells.at(at)
		b = append(b, c.bytes[:min(left, cellSize)]...)
		at = c.next
	}
	return b
}

// equal reports whether a name's text is this one.
func (x *texts) equal(n name, text string) bool {
	if int(n.length) != len(text) {
		return false
	}
	for at := n.at; text != ""; {
		c := x.cells.at(at)
		size := min(len(text), cellSize)
		if string(c.bytes[:size]) != text[:size] {
			return false
		}
		at, text = c.next, text[size:]
	}
	return true
}

// forget gives a text's cells back.
func (x *texts) forget(n name) {
	for at, left := n.at, int(n.length); left > 0; left -= cellSize {
		next := x.cells.at(at).next
		x.give(at)
		at = next
	}
}

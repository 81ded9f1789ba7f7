package series

// maxText is the longest text that can be a key, in bytes.
const maxText = 255

// texts holds the texts of a tree's keys, apart by length, so that what one
// leaves another can use.
type texts [maxText/textStep + 1]slab[byte]

const (
	textStep  = 8
	textChunk = 4 << 10
)

// name is where a text is kept.
type name struct {
	at     uint32
	length uint8
}

func (x *texts) init() {
	for i := range x {
		x[i] = newSlab[byte]((i+1)*textStep, textChunk)
	}
}

// sized is the slab for texts of the length.
func (x *texts) sized(length uint8) *slab[byte] { return &x[length/textStep] }

// keep copies a text, which is not longer than maxText.
func (x *texts) keep(text string) name {
	n := name{length: uint8(len(text))}
	s := x.sized(n.length)
	n.at = s.take()
	copy(s.reset(n.at), text)
	return n
}

func (x *texts) at(n name) []byte { return x.sized(n.length).at(n.at)[:n.length] }

func (x *texts) give(n name) { x.sized(n.length).give(n.at) }

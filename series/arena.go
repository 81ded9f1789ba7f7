package series

// Everything that a series holds in number lies in arenas: in chunks that never
// move, addressed by 32-bit indexes, and used again when freed. Growing costs
// one chunk and never a copy, so no add waits for it, and except for texts the
// garbage collector has nothing to follow.

// indexes hands out the numbers from 1 on; 0 is none.
type indexes struct {
	used uint32 // the highest index handed out so far
	free []uint32
}

func (s *indexes) take() uint32 {
	if n := len(s.free); n > 0 {
		i := s.free[n-1]
		s.free = s.free[:n-1]
		return i
	}
	s.used++
	return s.used
}

func (s *indexes) give(i uint32) { s.free = append(s.free, i) }

// arena holds values of one kind. Who uses it has the indexes, so that several
// arenas can share them.
type arena[T any] struct {
	chunks []*[chunkLen]T
}

const (
	chunkBits = 5
	chunkLen  = 1 << chunkBits
)

func (a *arena[T]) at(i uint32) *T { return &a.chunks[i>>chunkBits][i%chunkLen] }

// reset makes the value at an index zero; an index that was just handed out may
// need a new chunk.
func (a *arena[T]) reset(i uint32) *T {
	for int(i>>chunkBits) >= len(a.chunks) {
		a.chunks = append(a.chunks, new([chunkLen]T))
	}
	var zero T
	v := a.at(i)
	*v = zero
	return v
}

// counts is an arena of rows of counts that differ in length from series to
// series.
type counts struct {
	len    int  // of what an index stands for, in numbers
	bits   uint // a chunk holds 1<<bits of that
	chunks [][]int64
}

// countsChunk is the size of a chunk of counts, in bytes, if what an index
// stands for is not larger.
const countsChunk = 8 << 10

func newCounts(length int) counts {
	c := counts{len: length}
	for length<<(c.bits+1)*8 <= countsChunk {
		c.bits++
	}
	return c
}

func (c *counts) at(i uint32) []int64 {
	start := int(i&(1<<c.bits-1)) * c.len
	return c.chunks[i>>c.bits][start : start+c.len]
}

// reset makes all counts at an index zero.
func (c *counts) reset(i uint32) []int64 {
	for int(i>>c.bits) >= len(c.chunks) {
		c.chunks = append(c.chunks, make([]int64, c.len<<c.bits))
	}
	at := c.at(i)
	clear(at)
	return at
}

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

// arena holds values of one kind.
type arena[T any] struct {
	indexes
	chunks []*[chunkLen]T
}

const (
	chunkBits = 5
	chunkLen  = 1 << chunkBits
)

func (a *arena[T]) at(i uint32) *T { return &a.chunks[i>>chunkBits][i%chunkLen] }

// take is the index of a zero T.
func (a *arena[T]) take() uint32 {
	i := a.indexes.take()
	if int(i>>chunkBits) == len(a.chunks) {
		a.chunks = append(a.chunks, new([chunkLen]T))
	}
	return i
}

func (a *arena[T]) give(i uint32) {
	var zero T
	*a.at(i) = zero
	a.indexes.give(i)
}

// rings is an arena of rings, whose length differs from series to series.
type rings struct {
	indexes
	len    int  // of a ring: windows + 1
	bits   uint // a chunk holds 1<<bits rings
	chunks [][]int64
}

// ringChunk is the size of a chunk of rings, in bytes, if one ring is not
// larger.
const ringChunk = 16 << 10

func newRings(windows int) rings {
	r := rings{len: windows + 1}
	for r.len<<(r.bits+1)*8 <= ringChunk {
		r.bits++
	}
	return r
}

func (r *rings) at(i uint32) ring {
	start := int(i&(1<<r.bits-1)) * r.len
	return r.chunks[i>>r.bits][start : start+r.len]
}

// take is the index of an empty ring that stands at the window.
func (r *rings) take(window int64) uint32 {
	i := r.indexes.take()
	r.place(i, window)
	return i
}

// place makes the ring of that index empty, at the window: for owners that have
// indexes of their own.
func (r *rings) place(i uint32, window int64) {
	for int(i>>r.bits) >= len(r.chunks) {
		r.chunks = append(r.chunks, make([]int64, r.len<<r.bits))
	}
	ring := r.at(i)
	clear(ring)
	ring[0] = window
}

package series

// Everything that a series holds in number lies in arenas: in chunks that never
// move, addressed by 32-bit indexes, and used again when freed. Growing costs
// one chunk and never a copy, so no add waits for it, and the garbage collector
// has nothing to follow.

// indexes hands out the numbers from 1 on; 0 is none.
type indexes struct {
	used uint32 // the highest index handed out so far
	free arena[uint32]
	left uint32 // how many there are in free
}

func (s *indexes) take() uint32 {
	if s.left > 0 {
		s.left--
		return *s.free.at(s.left)
	}
	s.used++
	return s.used
}

func (s *indexes) give(i uint32) {
	*s.free.reset(s.left) = i
	s.left++
}

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

// slab is an arena of rows that are all as long, which is known only when the
// program runs.
type slab[T any] struct {
	indexes
	len    int  // of each row
	bits   uint // a chunk holds 1<<bits of them
	chunks [][]T
}

// slabChunk is the size of a chunk, in elements, if one row has not more.
const slabChunk = 16 << 10 / 8

func newSlab[T any](length int) slab[T] {
	s := slab[T]{len: length}
	for length<<(s.bits+1) <= slabChunk {
		s.bits++
	}
	return s
}

func (s *slab[T]) at(i uint32) []T {
	start := int(i&(1<<s.bits-1)) * s.len
	return s.chunks[i>>s.bits][start : start+s.len]
}

// reset makes a row zero; an index that was just handed out may need a new
// chunk.
func (s *slab[T]) reset(i uint32) []T {
	for int(i>>s.bits) >= len(s.chunks) {
		s.chunks = append(s.chunks, make([]T, s.len<<s.bits))
	}
	at := s.at(i)
	clear(at)
	return at
}

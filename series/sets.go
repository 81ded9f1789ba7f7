package series

import (
	"math/bits"
	"slices"
)

// exact is up to how many different values a count is exact.
const exact = 64

// set is the different values of one window: their hashes while they are few, in
// no order, or a sketch. The zero set is empty.
type set struct {
	at   uint32 // where the hashes are, among the rooms for so many, or which sketch
	n    uint8  // how many there are, or many
	told uint8  // how many of the hashes [Distinct.Deltas] has told; n when nothing is new
}

// many is the n of a set that is a sketch.
const many = exact + 1

// sets keeps the values of all sets of a shard.
type sets struct {
	few      [7]slab[uint64] // rooms for 1, 2, 4 … 64 hashes
	sketches slab[uint64]    // whose indexes the totals share
	totals   arena[total]
}

// setBytes is the most memory that one set takes, with the rooms that it has
// outgrown and no other set has taken since.
const setBytes = 8 + (2*exact-1)*8 + numRegisters + 16

func newSets() (x sets) {
	for class := range x.few {
		x.few[class] = newSlab[uint64](1 << class)
	}
	x.sketches = newSlab[uint64](sketchWords)
	return x
}

// class is that of the smallest room for n hashes.
func class(n uint8) int { return bits.Len8(n - 1) }

// values are the hashes of a set that has some and is no sketch.
func (x *sets) values(s set) []uint64 { return x.few[class(s.n)].at(s.at)[:s.n] }

// count is how many different values a set has.
func (x *sets) count(s set) int64 {
	if s.n < many {
		return int64(s.n)
	}
	return max(many, x.totals.at(s.at).estimate())
}

// add puts a hash in and reports whether that changed the set. A sketch that
// changes is all new to Deltas.
func (x *sets) add(s *set, hash uint64) bool {
	switch {
	case s.n == many:
		was, is := registers(x.sketches.at(s.at)).raise(hash)
		if was == is {
			return false
		}
		x.totals.at(s.at).move(was, is)
		s.told = 0
		return true
	case s.n > 0 && slices.Contains(x.values(*s), hash):
		return false
	case s.n == exact:
		x.sketch(s)
		return x.add(s, hash)
	}
	x.append(s, hash)
	return true
}

// append puts a new hash into a set that has room for it, or gets some.
func (x *sets) append(s *set, hash uint64) {
	if s.n&(s.n-1) == 0 { // the room is full
		room := &x.few[class(s.n+1)]
		at := room.take()
		to := room.reset(at)
		if s.n > 0 {
			copy(to, x.values(*s))
			x.few[class(s.n)].give(s.at)
		}
		s.at = at
	}
	s.n++
	x.values(*s)[s.n-1] = hash
}

// sketch makes a set a sketch.
func (x *sets) sketch(s *set) {
	at := x.sketches.take()
	r := registers(x.sketches.reset(at))
	t := x.totals.reset(at)
	*t = emptyTotal
	if s.n > 0 {
		for _, hash := range x.values(*s) {
			t.move(r.raise(hash))
		}
		x.few[class(s.n)].give(s.at)
	}
	*s = set{at: at, n: many}
}

// merge puts all in that a sketch has seen, and reports whether that changed the
// set.
func (x *sets) merge(s *set, sketch registers) bool {
	fresh := s.n < many
	if fresh {
		x.sketch(s)
	}
	r, t := registers(x.sketches.at(s.at)), x.totals.at(s.at)
	was := *t
	r.merge(sketch)
	*t = r.total()
	changed := fresh || *t != was
	if changed {
		s.told = 0
	}
	return changed
}

// empty gives back what a set has.
func (x *sets) empty(s *set) {
	switch {
	case s.n == many:
		x.sketches.give(s.at)
	case s.n > 0:
		x.few[class(s.n)].give(s.at)
	}
	*s = set{}
}

// union is the different values of several sets: exact up to as many as a set is,
// and then a sketch, which is the same in whichever order they come.
type union struct {
	n      uint8               // how many hashes, or many
	hashes [2 * exact]uint64   // a hash table, 0 where none is
	sketch [sketchWords]uint64 // once they are many
}

// reset makes the union empty.
func (u *union) reset() {
	u.n = 0
	clear(u.hashes[:])
}

// take puts a set in.
func (u *union) take(x *sets, s set) {
	switch {
	case s.n == many:
		u.overflow()
		registers(u.sketch[:]).merge(x.sketches.at(s.at))
	case s.n > 0:
		for _, hash := range x.values(s) {
			u.add(hash)
		}
	}
}

func (u *union) add(hash uint64) {
	if u.n == many {
		registers(u.sketch[:]).raise(hash)
		return
	}
	i := hash % uint64(len(u.hashes))
	for u.hashes[i] != 0 && u.hashes[i] != hash {
		i = (i + 1) % uint64(len(u.hashes))
	}
	switch {
	case u.hashes[i] == hash:
	case u.n < exact:
		u.hashes[i] = hash
		u.n++
	default:
		u.overflow()
		u.add(hash)
	}
}

// overflow makes the union a sketch, if it is not one.
func (u *union) overflow() {
	if u.n == many {
		return
	}
	u.n = many
	clear(u.sketch[:])
	for _, hash := range u.hashes {
		if hash != 0 {
			registers(u.sketch[:]).raise(hash)
		}
	}
}

// count is how many different values there are.
func (u *union) count() int64 {
	if u.n < many {
		return int64(u.n)
	}
	return max(many, registers(u.sketch[:]).total().estimate())
}

package series

import (
	"math"
	"math/bits"
)

// registers are a HyperLogLog sketch of precision 12: an estimate of how many
// different hashes were put into it, with a standard error of 1.04/√4096 = 1.6 %.
// The first 12 bits of a hash choose one of 4096 registers, which keeps the highest
// rank seen: the place of the first bit set in the rest. The registers are bytes,
// eight in a word, the first one lowest.
//
// Two sketches merge into that of the union of what they saw, in any order and
// however often.
type registers []uint64

const (
	precision    = 12
	numRegisters = 1 << precision
	sketchWords  = numRegisters / 8
	maxRank      = 64 - precision
)

// raise puts a hash in and tells what its register was and is.
func (r registers) raise(hash uint64) (was, is uint8) {
	i := hash >> (64 - precision)
	rank := uint8(bits.LeadingZeros64(hash<<precision|1<<precision)) + 1
	word, shift := &r[i/8], i%8*8
	if was = uint8(*word >> shift); was >= rank {
		return was, was
	}
	*word += uint64(rank-was) << shift
	return was, rank
}

// merge puts all in that another sketch has seen: the larger one of each two
// registers, eight at a time. As no rank reaches 128, the highest bit of each
// byte is free to tell which one that is.
func (r registers) merge(other registers) {
	const high = 0x8080808080808080
	for i, theirs := range other {
		ours := r[i]
		larger := (ours | high) - theirs
		larger &= high
		larger |= larger - larger>>7
		r[i] = ours&larger | theirs&^larger
	}
}

// total is what an estimate needs to know of the registers. It is whole numbers,
// so that it is the same in whichever order they came about.
type total struct {
	sum   uint64 // of 2^(maxRank-rank) over the registers with a rank
	zeros uint32 // how many have none
}

// emptyTotal is that of a sketch that has seen nothing.
var emptyTotal = total{zeros: numRegisters}

// move notes that a register was raised.
func (t *total) move(was, is uint8) {
	if was == 0 {
		t.zeros--
	} else {
		t.sum -= 1 << (maxRank - was)
	}
	t.sum += 1 << (maxRank - is)
}

// total is counted anew, for a sketch that was merged.
func (r registers) total() (t total) {
	const low = 0x7f7f7f7f7f7f7f7f
	for _, word := range r {
		t.zeros += 8 - uint32(bits.OnesCount64((word+low)&^low))
		for range 8 {
			t.sum += 1 << maxRank >> (word & 63)
			word >>= 8
		}
	}
	t.sum -= uint64(t.zeros) << maxRank // right also where the sum has passed 2⁶⁴
	return t
}

// estimate is Ertl's improved raw estimate (arXiv:1702.01284, algorithm 6), which
// needs neither tables nor a second formula for few values. Its term for registers
// that are full is left out: there are none below 2⁵⁰ values.
func (t total) estimate() int64 {
	const m = numRegisters
	z := m*sigma(float64(t.zeros)/m) + float64(t.sum)/(1<<maxRank)
	return int64(math.Round(m * m / (2 * math.Ln2 * z)))
}

// sigma is Ertl's σ(x) = x + Σ x^2^k · 2^(k-1) over k ≥ 1. It is infinite at 1,
// which makes the estimate 0.
func sigma(x float64) float64 {
	if x == 1 {
		return math.Inf(1)
	}
	z, y := x, 1.0
	for last := -1.0; z != last; y += y {
		last = z
		x *= x
		z += x * y
	}
	return z
}

// hashOf is what a value is known by: FNV-1a, whose bits MurmurHash3's finalizer
// spreads. It is the same on every node and after every start, and never 0.
func hashOf(value string) uint64 {
	h := uint64(0xcbf29ce484222325)
	for i := range len(value) {
		h = (h ^ uint64(value[i])) * 0x100000001b3
	}
	h = (h ^ h>>33) * 0xff51afd7ed558ccd
	h = (h ^ h>>33) * 0xc4ceb9fe1a85ec53
	return max(h^h>>33, 1)
}

package series

import "encoding/binary"

// Delta is what a key or a block has counted or shown anew in one window, or that a
// key was removed.
type Delta struct {
	Key    Key      // an address of the block, or a text
	Bits   uint8    // of the block; 32 or 128 for an address alone, 0 for a text
	For    For      // who needs it, beside a snapshot
	Start  int64    // when the window begins, in seconds since 1970
	Amount int64    // of a [Series]: to be added
	Values []uint64 // of a [Distinct]: hashes of the values, while the window has up to 64
	Sketch *Sketch  // of all the window's values, once there are more

	// Removed says that someone took the key out. In a Series the amount is what it had
	// in that window, and negative; of a Distinct it has left all windows, Start is when
	// the then current one began, and what is told of it after that was shown after that.
	Removed bool
}

// Wish is what a node tells the others so that each takes back what itself has
// counted for the key or block: a removal of nothing, in no window. It changes no
// count where it is merged.
func Wish(k Key, bits uint8) Delta { return Delta{Key: k, Bits: bits, Removed: true} }

// IsWish reports whether the delta is a [Wish].
func (d *Delta) IsWish() bool { return d.Removed && d.Start == 0 && d.Amount == 0 }

// For says whom a delta is for that is told while a snapshot is being taken, which
// takes a while. What is told from its begin on gives the series again: from nothing
// without the deltas for [Older], or from what there was before without those for
// [Newer].
type For uint8

// Who needs a delta.
const (
	Both  For = iota
	Older     // who has what was before the snapshot: it is still to come in the snapshot
	Newer     // who begins with the snapshot: a part of it
)

// Snapshot tells all that a series counts, a few keys at a time. It is for who calls
// Deltas, and not for several goroutines at a time.
type Snapshot interface {
	// Next tells what stands at the next place, after what Deltas would tell. It
	// reports whether there is a place behind it.
	Next(yield func(Delta)) (more bool)
}

// Sketch is a HyperLogLog sketch of 4096 registers.
type Sketch [numRegisters]uint8

func (r registers) sketch() *Sketch {
	s := new(Sketch)
	for i, word := range r {
		binary.LittleEndian.PutUint64(s[8*i:], word)
	}
	return s
}

// registers takes the ranks as far as there can be any.
func (s *Sketch) registers() registers {
	r := make(registers, sketchWords)
	for i, rank := range s {
		r[i/8] |= uint64(min(rank, maxRank)) << (i % 8 * 8)
	}
	return r
}

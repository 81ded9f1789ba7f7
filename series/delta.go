package series

import (
	"encoding/binary"
	"maps"
	"math"
	"slices"
	"time"
)

// Delta is what a key or a block of a [Distinct] has shown anew in one window.
type Delta struct {
	Key    Key      // an address of the block, or a text
	Bits   uint8    // of the block; 32 or 128 for an address alone, 0 for a text
	Start  int64    // when the window begins, in seconds since 1970
	Values []uint64 // hashes of the values, while the window has up to 64
	Sketch *Sketch  // of all the window's values, once there are more
}

// Sketch is a HyperLogLog sketch of 4096 registers.
type Sketch [numRegisters]uint8

// changes remembers which holders Deltas has not told, once somebody wants to know.
type changes struct {
	wanted bool
	list   []uint32 // each index once
	listed []bool   // by index: it is in the list
}

// note notes that a holder has shown something new.
func (c *changes) note(i uint32) {
	if !c.wanted {
		return
	}
	for int(i) >= len(c.listed) {
		c.listed = append(c.listed, false)
	}
	if !c.listed[i] {
		c.listed[i] = true
		c.list = append(c.list, i)
	}
}

// Deltas tells what was added since it was called last; the first call tells all
// there is, and only from then on is anything remembered for the next: a mark for
// each key, however much it shows. What came by [Distinct.Merge] is not told, nor
// what has left the series before the call. No lock is held while yield runs.
func (d *Distinct) Deltas(yield func(Delta)) {
	for i := range d.shards {
		sh := &d.shards[i]
		for _, i := range sh.changed() {
			for _, delta := range sh.tell(i, d.clock) {
				yield(delta)
			}
		}
	}
}

// changed is the indexes of all holders that may have something to tell.
func (sh *shard) changed() (list []uint32) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if !sh.changes.wanted {
		sh.changes.wanted = true
		return slices.Collect(maps.Values(sh.index))
	}
	list, sh.changes.list = sh.changes.list, nil
	for _, i := range list {
		sh.changes.listed[i] = false
	}
	return list
}

// tell is what a holder has to tell, if there still is one.
func (sh *shard) tell(i uint32, c *clock) (deltas []Delta) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if !sh.lives(i) {
		return nil
	}
	for w, s := range sh.between(i, math.MaxInt64, longAgo) {
		if s.told != s.n {
			deltas = append(deltas, sh.delta(i, c.start(w), s, s.told))
			s.told = s.n
		}
	}
	return deltas
}

// delta is a set of a holder, of whose hashes so many are left out.
func (sh *shard) delta(i uint32, start int64, s *set, told uint8) Delta {
	h := sh.heads.at(i).holder
	d := Delta{Key: h.Key, Bits: h.bits, Start: start}
	if s.n == many {
		d.Sketch = registers(sh.sets.sketches.at(s.at)).sketch()
	} else {
		d.Values = slices.Clone(sh.sets.values(*s)[told:])
	}
	return d
}

// Merge puts in what another series of the same definition has told, and reports
// whether that changed any count. It may come in any order and several times. A
// window that has left is ignored, as are keys and blocks that are not kept here. One
// that has not begun here is taken if it is the next, since clocks differ, and goes
// into the current one: as the next it would end the oldest too early.
func (d *Distinct) Merge(delta Delta, now time.Time) (changed bool) {
	current, _ := d.clock.read(now)
	w := d.clock.window(delta.Start)
	if w < d.oldest(current) || w > current+1 || !d.Takes(delta.Key) || !slices.Contains(d.kept(delta.Key), delta.Bits) {
		return false
	}
	h := delta.Key.block(delta.Bits)
	sh := d.shard(h)
	sh.mu.Lock()
	changed = sh.merge(h, &delta, momentOf(min(w, current), d.def.Windows))
	sh.mu.Unlock()
	d.tidy(sh, d.oldest(current))
	return changed
}

// merge is Merge in one shard. What was told before stays told, since all that
// comes in has been told by its sender.
func (sh *shard) merge(h holder, delta *Delta, m moment) (changed bool) {
	_, s := sh.at(h, m)
	if s == nil {
		return false
	}
	told := s.told == s.n
	changed = sh.put(s, delta)
	if told {
		s.told = s.n
	}
	return changed
}

// put adds the values of a delta to a set and reports whether that changed it.
func (sh *shard) put(s *set, delta *Delta) (changed bool) {
	for _, hash := range delta.Values {
		changed = sh.sets.add(s, hash) || changed
	}
	if delta.Sketch != nil {
		changed = sh.sets.merge(s, delta.Sketch.registers()) || changed
	}
	return changed
}

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

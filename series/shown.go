package series

import (
	"math"
	"slices"
	"time"
)

// changes remembers what Deltas has not told, while somebody follows.
type changes struct {
	followed bool
	list     []uint32 // holders with values that were not told, each index once
	listed   []bool   // by index: it is in the list
	removed  []Key
}

// note notes that a holder has shown something new.
func (c *changes) note(i uint32) {
	if !c.followed {
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

// remove notes that a key was removed.
func (c *changes) remove(k Key) {
	if c.followed {
		c.removed = append(c.removed, k)
	}
}

// Follow lets [Distinct.Deltas] tell what is shown from now on.
func (d *Distinct) Follow() { d.follow(true) }

// Unfollow ends that, and forgets what was not told.
func (d *Distinct) Unfollow() { d.follow(false) }

func (d *Distinct) follow(followed bool) {
	for i := range d.shards {
		sh := &d.shards[i]
		sh.mu.Lock()
		if sh.changes.followed != followed {
			sh.changes = changes{followed: followed}
		}
		sh.mu.Unlock()
	}
}

// Deltas tells what was shown or removed since it was called last, or since
// [Distinct.Follow]; of a window that has shown something new before that, all it has
// can come once more. Until then it remembers a mark for each key, however much that
// shows. What came by [Distinct.Merge] is not told, nor what has left the series
// before the call. No lock is held while yield runs, and what it gets it may keep.
func (d *Distinct) Deltas(yield func(Delta)) {
	for i := range d.shards {
		sh := &d.shards[i]
		list, removed := sh.changed()
		for _, k := range removed {
			yield(Delta{Key: k, Bits: Host.bits(k.addr), Start: d.clock.start(d.clock.current()), Removed: true})
		}
		for _, i := range list {
			for _, delta := range sh.tell(i, d.clock) {
				yield(delta)
			}
		}
	}
}

// changed is the indexes of all holders that may have something to tell, and which
// keys were removed before they showed it.
func (sh *shard) changed() (list []uint32, removed []Key) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	c := &sh.changes
	list, removed = c.list, c.removed
	c.list, c.removed = nil, nil
	for _, i := range list {
		c.listed[i] = false
	}
	return list, removed
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

// Snapshot begins a snapshot. Deltas that show values are for both, since who has them
// already loses nothing.
func (d *Distinct) Snapshot() Snapshot { return &distinctSnapshot{of: d, at: 1} }

// distinctSnapshot is how far a snapshot has come.
type distinctSnapshot struct {
	of      *Distinct
	shard   int
	at      uint32 // the index to go on with
	holders []holder
}

// Next is that of [Snapshot].
func (n *distinctSnapshot) Next(yield func(Delta)) (more bool) {
	d := n.of
	d.Deltas(yield)
	sh := &d.shards[n.shard]
	n.holders, n.at = sh.appendHolders(n.holders[:0], n.at)
	for _, h := range n.holders {
		for _, delta := range sh.shown(h, d.oldest(d.clock.current()), d.clock) {
			delta.For = Newer
			yield(delta)
		}
	}
	if n.at == 0 {
		n.at = 1
		n.shard++
	}
	return n.shard < len(d.shards)
}

// Merge puts in what another series of the same definition has told, and reports
// whether that changed any count. Values may come in any order and several times. A
// window that has left is ignored, as are keys and blocks that are not kept here. One
// that has not begun here is taken if it is the next, since clocks differ, and goes
// into the current one: as the next it would end the oldest too early.
func (d *Distinct) Merge(delta Delta, now time.Time) (changed bool) {
	current, _ := d.clock.read(now)
	return d.merge(delta, current)
}

func (d *Distinct) merge(delta Delta, current int64) (changed bool) {
	if delta.IsWish() {
		return false
	}
	if delta.Removed {
		return d.remove(delta.Key, false)
	}
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

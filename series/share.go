package series

import (
	"net/netip"
	"time"
)

// Beside makes an empty series of the same definition that shares the clock of this
// one: both have the same windows at any time, whoever reads the clock last.
func (s *Series) Beside() *Series {
	return newSeries(s.def, s.clock)
}

// Beside is [Series.Beside], with the same masks.
func (d *Distinct) Beside() *Distinct {
	beside := &Distinct{def: d.def, clock: d.clock, lengths: d.lengths, shards: make([]shard, len(d.shards))}
	for i := range beside.shards {
		beside.shards[i].init(d.def.Windows, &beside.keys)
	}
	return beside
}

// Settle puts what Merge would take from the next window into the current one, and
// reports whether Merge would take it. After that the delta goes into one and the same
// window of several series that share a clock, even if one begins in between.
func (s *Series) Settle(d *Delta, now time.Time) bool {
	return s.Takes(d.Key) && s.clock.settle(d, s.def.Windows, now)
}

// Settle is [Series.Settle].
func (d *Distinct) Settle(delta *Delta, now time.Time) bool {
	return d.Takes(delta.Key) && d.clock.settle(delta, d.def.Windows, now)
}

func (c *clock) settle(d *Delta, windows int, now time.Time) bool {
	current, _ := c.read(now)
	w := c.window(d.Start)
	if w < current-int64(windows-1) || w > current+1 {
		return false
	}
	d.Start = c.start(min(w, current))
	return true
}

// TakeOut takes all that another series counts, keys and networks, out of this one,
// which is not told. They share a clock, and nobody follows the other one.
func (s *Series) TakeOut(other *Series) {
	other.whole(s.take)
}

// PutIn is the opposite of [Series.TakeOut].
func (s *Series) PutIn(other *Series) { other.whole(s.put) }

// whole yields all that a series counts, keys and networks.
func (s *Series) whole(yield func(Delta)) {
	for all := s.Snapshot(); all.Next(yield); {
	}
}

// put counts what is not told.
func (s *Series) put(d Delta) { s.merge(d, s.clock.current(), notAtAll) }

// Replace is a [Series.TakeOut] of one series and a [Series.PutIn] of another one, but
// only of what is not the same in both, so that it counts all the time. Between what one
// has more and what the other one has more it calls half.
func (s *Series) Replace(before, after *Series, half func()) {
	before.beyond(after, s.take)
	half()
	after.beyond(before, s.put)
}

// beyond yields what a series has more of than another one: of a key in a window also
// less, if the other one has none.
func (s *Series) beyond(other *Series, yield func(Delta)) {
	s.whole(func(d Delta) {
		if d.Bits == s.family(d.Key).keyBits() {
			current := other.clock.current()
			age := int(current - other.clock.window(d.Start))
			has := other.countAt(current, d.Key, Host, age, age)
			if d.Amount <= has && has != 0 {
				return
			}
			d.Amount -= has
		}
		yield(d)
	})
}

// take is the opposite of put, of what was put or added before.
func (s *Series) take(d Delta) { s.takeAt(d, s.clock.current()) }

// takeAt is take when that window is the current one. It reports whether it has the
// window and takes the key.
func (s *Series) takeAt(d Delta, current int64) bool {
	w := s.clock.window(d.Start)
	f := s.family(d.Key)
	if f == nil || d.Amount == 0 || w < s.oldest(current) || w > current+1 {
		return false
	}
	f.take(s.address(d.Key), d.Key.text, d.Bits, momentOf(min(w, current), s.def.Windows), d.Amount)
	s.shrink()
	return true
}

// take takes an amount out of a key, or of a block. A key that had to leave has its
// counts in the blocks around it, and where others came later, not in the smallest of
// these. So none gives more than it has: else it would count less than nothing.
func (f *family) take(a address, text string, bits uint8, m moment, n int64) {
	t := &f.trees[f.shard(a)]
	t.mu.Lock()
	defer t.mu.Unlock()
	isKey := bits == f.keyBits()
	if isKey && !t.folds {
		t.add(a, text, m, -n)
		return
	}
	if reach(&t.all.window, t.all.row, t.windows, m) {
		t.all.row.add(m.place, -n) // exact: it has all that was put in, whatever had to leave
	}
	l := t.root
	for ; l.isNode(); l = *t.nodes.at(l.index()).toward(a) {
		if f.named {
			continue // there are no sums of texts
		}
		nd, sum := t.nodes.at(l.index()), t.sums.at(l.index())
		if !isKey && nd.bits > bits || a.shared(nd.any) < nd.bits {
			return
		}
		if reach(&nd.window, sum, t.windows, m) {
			row(sum).take(m.place, n)
		}
	}
	if !isKey || !l.isLeaf() {
		return
	}
	lf := t.leaves.at(l.index())
	if place := t.leaves.find(l.index(), a, text); place >= 0 && t.leaves.reach(lf, m) {
		t.leaves.row(lf, place).take(m.place, n)
	}
}

// TakeBack takes what another series counts for a key out of this one, which is not
// told, and out of the other one, which is. They share a clock, and nobody adds to the
// other one meanwhile.
func (s *Series) TakeBack(own *Series, k Key) {
	if f := own.family(k); f != nil {
		current := own.clock.current()
		counts := own.countsAt(current, k, Host)
		own.Remove(k)
		s.takeRow(k, f.keyBits(), counts, current)
	}
}

// TakeBackBlock is [Series.TakeBack] of all addresses of a block, and of what evicted
// ones have left to it.
func (s *Series) TakeBackBlock(own *Series, block netip.Prefix) {
	own.removeBlock(block.Masked(), func(a adjustment) {
		k := Key{addr: a.at.ip(block.Addr().Is6())}
		s.take(Delta{Key: k, Bits: a.bits, Start: s.clock.start(a.window), Amount: -a.amount})
	})
}

// countsAt are all windows of a key or a block, when that one is the current one.
func (s *Series) countsAt(current int64, k Key, m Mask) []int64 {
	counts := make([]int64, s.def.Windows)
	s.collect(&tally{span: s.span(current, 0, s.def.Windows-1), windows: counts}, k, m)
	return counts
}

// takeRow takes the counts of a key or a block out, the current window first.
func (s *Series) takeRow(k Key, bits uint8, counts []int64, current int64) {
	for age, n := range counts {
		s.take(Delta{Key: k, Bits: bits, Start: s.clock.start(current - int64(age)), Amount: n})
	}
}

// PutIn lets the series have shown all that another one has, which is not told. They
// share a clock.
func (d *Distinct) PutIn(other *Distinct) {
	for h := range other.holders() {
		d.show(h, other)
	}
}

// TakeOut lets all that another one has shown be only what the rest have, which is
// not told. They share a clock.
func (d *Distinct) TakeOut(other *Distinct, rest []*Distinct) {
	for h := range other.holders() {
		d.rebuild(h, rest)
	}
}

// Replace lets all that a series has shown be what another one and the rest have, which is
// not told. They share a clock.
func (d *Distinct) Replace(before, after *Distinct, rest []*Distinct) {
	d.PutIn(after)
	d.TakeOut(before, rest)
}

// Rebuild lets a key have shown only what it has in these series, which is not told.
// They share a clock.
func (d *Distinct) Rebuild(k Key, of []*Distinct) {
	if d.Takes(k) {
		d.rebuild(k.block(Host.bits(k.addr)), of)
	}
}

// rebuild keeps the lock, so that nobody counts what is there only in part. What is added
// meanwhile to one of the series and to this one is in it afterwards.
func (d *Distinct) rebuild(h holder, of []*Distinct) {
	current := d.clock.current()
	sh := d.shard(h)
	sh.mu.Lock()
	if i, known := sh.index[h]; known {
		sh.drop(i)
	}
	for _, o := range of {
		for _, delta := range o.shard(h).shown(h, d.oldest(current), d.clock) {
			sh.merge(h, &delta, momentOf(min(d.clock.window(delta.Start), current), d.def.Windows))
		}
	}
	sh.mu.Unlock()
	d.tidy(sh, d.oldest(current))
}

// show puts in what another one has for a key or a block.
func (d *Distinct) show(h holder, of *Distinct) {
	current := d.clock.current()
	for _, delta := range of.shard(h).shown(h, d.oldest(current), d.clock) {
		d.merge(delta, current)
	}
}

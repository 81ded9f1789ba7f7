package series

import "time"

// Merge adds what another series of the same definition has told, and reports whether
// that changed any count; it is not told again. A window that has left is ignored, and
// so are keys that the series does not take. One that has not begun here is taken if
// it is the next, since clocks differ, and goes into the current one.
func (s *Series) Merge(d Delta, now time.Time) (changed bool) {
	current, _ := s.clock.read(now)
	if d.Removed { // the key may have had to leave here, and nothing is to count less than nothing
		d.Amount = -d.Amount
		return s.takeAt(d, current)
	}
	return s.merge(d, current, notAtAll)
}

// Apply adds what a series that shares the clock has told, and tells it again.
func (s *Series) Apply(d Delta) (changed bool) {
	how := asAdded
	if d.Removed {
		how = asRemoved
	}
	return s.merge(d, s.clock.current(), how)
}

func (s *Series) merge(d Delta, current int64, how telling) (changed bool) {
	w := s.clock.window(d.Start)
	f := s.family(d.Key)
	if f == nil || d.Amount == 0 || w < s.oldest(current) || w > current+1 {
		return false
	}
	if m := momentOf(min(w, current), s.def.Windows); d.Bits < f.keyBits() {
		f.addBlock(addressOf(d.Key.addr), d.Bits, m, d.Amount, how)
	} else {
		s.add(d.Key, d.Amount, m.window, current, how)
	}
	return true
}

// addBlock counts in a block what no key in it counts.
func (f *family) addBlock(a address, bits uint8, m moment, n int64, how telling) {
	t := &f.trees[f.shard(a)]
	t.mu.Lock()
	defer t.mu.Unlock()
	t.folds = true
	t.pending.noteAs(how, a, "", bits, m.window, n)
	if reach(&t.all.window, t.all.row, t.windows, m) {
		t.all.row.add(m.place, n)
	}
	for l := t.root; l.isNode(); {
		nd := t.nodes.at(l.index())
		if nd.bits > bits || a.shared(nd.any) < nd.bits {
			return
		}
		t.addBelow(nd, l.index(), m, n)
		l = *nd.toward(a)
	}
}

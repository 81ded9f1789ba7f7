package series

import "time"

// Merge adds what another series of the same definition has told, and reports whether
// that changed any count; it is not told again. A window that has left is ignored, and
// so are keys that the series does not take. One that has not begun here is taken if
// it is the next, since clocks differ, and goes into the current one.
func (s *Series) Merge(d Delta, now time.Time) (changed bool) {
	current, _ := s.clock.read(now)
	w := s.clock.window(d.Start)
	f := s.family(d.Key)
	if f == nil || d.Amount == 0 || w < s.oldest(current) || w > current+1 {
		return false
	}
	if m := momentOf(min(w, current), s.def.Windows); d.Bits < f.keyBits() {
		f.addBlock(addressOf(d.Key.addr), d.Bits, m, d.Amount)
	} else {
		s.add(d.Key, d.Amount, m.window, current, false)
	}
	return true
}

// addBlock counts in a block what no key in it counts.
func (f *family) addBlock(a address, bits uint8, m moment, n int64) {
	t := &f.trees[f.shard(a)]
	t.mu.Lock()
	defer t.mu.Unlock()
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

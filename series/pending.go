package series

// pending is what was added to a tree or removed from it and was not told, while
// somebody follows: a list, since an add must not look for anything.
type pending struct {
	followed bool
	list     []adjustment
	texts    []byte // of the keys in the list

	// What the one who was told last still reads; with the next call the two change
	// places, so that nothing is allocated. Nil if it was large, as when a network was
	// removed: that would stay for ever.
	spare      []adjustment
	spareTexts []byte
}

// adjustment is an amount of a key or of a block in one window.
type adjustment struct {
	at      address
	window  int64
	amount  int64
	text    uint32 // where the text begins
	length  uint8  // of the text
	bits    uint8  // of the block
	removed bool
}

// patience is how many adjustments a tree keeps before it looks which of them can be
// added up: more than come in a tick of a tenth of a second, and 3 MB. So it holds
// twice as many as there are keys and windows, or this many.
const patience = 1 << 16

// note notes an adjustment of the key or of a block of a.
func (p *pending) note(a address, text string, bits uint8, window, n int64, removed bool) {
	if len(p.list) >= patience && len(p.list) == cap(p.list) {
		p.addUp()
	}
	p.list = append(p.list, adjustment{a, window, n, uint32(len(p.texts)), uint8(len(text)), bits, removed})
	p.texts = append(p.texts, text...)
}

// telling is what Deltas has to tell of an adjustment.
type telling uint8

const (
	notAtAll telling = iota
	asAdded
	asRemoved
)

// noteAs notes an adjustment if it is to be told, and somebody follows.
func (p *pending) noteAs(how telling, a address, text string, bits uint8, window, n int64) {
	if how != notAtAll && p.followed {
		p.note(a, text, bits, window, n, how == asRemoved)
	}
}

// addUp makes one of all adjustments of the same key in the same window.
func (p *pending) addUp() {
	type subject struct {
		adjustment
		text string
	}
	sums := make(map[subject]int64)
	for _, a := range p.list {
		s := subject{a, string(p.texts[a.text:][:a.length])}
		s.amount, s.adjustment.text = 0, 0
		sums[s] = Plus(sums[s], a.amount)
	}
	p.list, p.texts = p.list[:0], p.texts[:0]
	for s, n := range sums {
		p.list = append(p.list, adjustment{s.at, s.window, n, uint32(len(p.texts)), s.length, s.bits, s.removed})
		p.texts = append(p.texts, s.text...)
	}
}

// noteRemoved notes what is taken out of a key or a block with a row.
func (t *tree) noteRemoved(a address, text string, bits uint8, gone row, window int64) {
	if !t.pending.followed && t.cleared == nil {
		return
	}
	place := momentOf(window, t.windows).place
	for w := window; w > window-int64(t.windows); w-- {
		if n := gone[place]; n != 0 {
			t.pending.noteAs(asRemoved, a, text, bits, w, -n)
			if t.cleared != nil {
				*t.cleared = append(*t.cleared, adjustment{at: a, window: w, amount: -n, bits: bits})
			}
		}
		place = before(place, 1, t.windows)
	}
}

// told is what a tree had to tell.
type told struct {
	list  []adjustment
	texts []byte
	ahead progress // where a snapshot was then
}

// tell hands out what was not told. It is good until the next call.
func (t *tree) tell() told {
	p := &t.pending
	out := told{p.list, p.texts, t.progress}
	p.list, p.spare = p.spare[:0], p.list
	p.texts, p.spareTexts = p.spareTexts[:0], p.texts
	if cap(p.spare) > patience || cap(p.spareTexts) > 16*patience {
		p.spare, p.spareTexts = nil, nil
	}
	t.progress.account(out.list)
	return out
}

// Follow lets [Series.Deltas] tell what is added or removed from now on. A gauge
// cannot be followed.
func (s *Series) Follow() { s.follow(true) }

// Unfollow ends that, and forgets what was not told.
func (s *Series) Unfollow() { s.follow(false) }

func (s *Series) follow(followed bool) {
	for _, t := range s.trees {
		t.mu.Lock()
		if t.pending.followed != followed {
			t.pending, t.progress = pending{followed: followed}, progress{}
		}
		t.mu.Unlock()
	}
}

// Deltas tells what was added or removed since it was called last, or since
// [Series.Follow]: each add by itself, or several in one. One goroutine at a time may
// ask. No lock is held while yield runs. Until it is called, 48 bytes and the text are
// kept for each add, above 65,536 in a part of the series for each key and window.
func (s *Series) Deltas(yield func(Delta)) {
	for _, f := range s.families {
		for i := range f.trees {
			t := &f.trees[i]
			t.mu.Lock()
			out := t.tell()
			t.mu.Unlock()
			f.tell(out, s.clock, yield)
		}
	}
}

func (f *family) tell(out told, c *clock, yield func(Delta)) {
	texts := string(out.texts)
	for _, a := range out.list {
		d := Delta{
			Key:     f.key(entry{at: a.at, text: texts[a.text:][:a.length]}),
			Bits:    a.bits,
			For:     Both,
			Start:   c.start(a.window),
			Amount:  a.amount,
			Removed: a.removed,
		}
		if out.ahead.isAhead(a.at) {
			d.For = Older
		}
		yield(d)
	}
}

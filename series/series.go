package series

import (
	"sync/atomic"
	"time"
)

// Window is the number of a window on the series' own line of windows, which
// goes on counting over every step of the clock.
type Window int64

// Series counts keys in rolling windows. All its methods may be called by any
// number of goroutines at a time; a count sees every add that has returned.
//
// The times given to it are readings of the clock, between the years 1678 and
// 2262, and never guesses: a time to come counts as time that has passed.
type Series struct {
	def       Definition
	clock     *clock        // nil in a gauge
	ipv4      *family       // nil unless the type takes IPv4 addresses
	ipv6      *family       // nil unless the type takes IPv6 addresses
	texts     *family       // nil unless the type takes texts
	families  []*family     // those that are there
	trees     []*lockedTree // of all families
	janitor   janitor
	keys      atomic.Int64 // in all families
	saturated atomic.Uint64
}

// Define checks the definition and makes an empty series of it.
func Define(d Definition) (*Series, error) {
	if err := d.check(); err != nil {
		return nil, err
	}
	if d.MaxKeys == 0 {
		d.MaxKeys = DefaultMaxKeys
	}
	return newSeries(d, newClock(d.Interval)), nil
}

// Memory is about how much memory, in bytes, a Series of this definition takes that has
// all its keys, after a flood of IPv6 addresses; texts come on top of it. Addresses
// chosen to be far from each other can take some times as much where windows are few.
func Memory(def Definition) int64 {
	keys := def.MaxKeys
	if keys == 0 {
		keys = DefaultMaxKeys
	}
	const key, window = 54, 9 // bytes, see BenchmarkMemory
	return int64(keys) * (key + window*int64(def.Windows))
}

func newSeries(d Definition, c *clock) *Series {
	s := &Series{def: d, clock: c}
	s.janitor.init()
	if d.Type == CIDR || d.Type == IP {
		s.ipv4 = s.newFamily(ofIPv4)
	}
	if d.Type == CIDR6 || d.Type == IP {
		s.ipv6 = s.newFamily(ofIPv6)
	}
	if d.Type == String {
		s.texts = s.newFamily(ofTexts)
	}
	return s
}

func (s *Series) newFamily(k kind) *family {
	f := newFamily(k, s.def, &s.keys)
	f.gauge = s.clock == nil
	s.families = append(s.families, f)
	for i := range f.trees {
		s.trees = append(s.trees, &f.trees[i])
	}
	return f
}

// Definition is what the series was defined as.
func (s *Series) Definition() Definition { return s.def }

// Takes reports whether the series counts keys of this kind and family. An
// absent key it never takes, nor a text over 255 bytes.
func (s *Series) Takes(k Key) bool { return s.def.Type.takes(k) }

// family is where keys like this one are counted; nil if they are not.
func (s *Series) family(k Key) *family {
	switch {
	case k.addr.Is4():
		return s.ipv4
	case k.addr.IsValid():
		return s.ipv6
	case s.Takes(k):
		return s.texts
	}
	return nil
}

// address is where a key that the series takes lies in its family.
func (s *Series) address(k Key) address {
	if k.addr.IsValid() {
		return addressOf(k.addr)
	}
	return s.texts.addressOfText(k.text)
}

// Add adjusts the count of k in the CURRENT window by n, which may be negative,
// and returns that window. A key that the series does not take is ignored.
func (s *Series) Add(k Key, n int64, now time.Time) Window {
	w, _ := s.clock.read(now)
	s.add(k, n, w, w, asAdded)
	return Window(w)
}

// AddTo adjusts the count of k in an EARLIER window, one that [Series.Add] has
// returned. It reports false when that window has left the series, or when the
// series does not take the key.
func (s *Series) AddTo(k Key, n int64, w Window) bool {
	current := s.clock.current()
	if !s.Takes(k) || int64(w) < s.oldest(current) || int64(w) > current {
		return false
	}
	s.add(k, n, int64(w), current, asAdded)
	return true
}

// AddAt adjusts the count of k in the window that is so many before the current
// one. It reports false when the series has no such window, or does not take the
// key.
func (s *Series) AddAt(k Key, n int64, age int, now time.Time) bool {
	current, _ := s.clock.read(now)
	if !s.Takes(k) || age < 0 || age >= s.def.Windows {
		return false
	}
	s.add(k, n, current-int64(age), current, asAdded)
	return true
}

func (s *Series) add(k Key, n, window, current int64, how telling) {
	f := s.family(k)
	if n == 0 || f == nil {
		return
	}
	oldest := s.oldest(current)
	if f.add(s.address(k), k.text, momentOf(window, s.def.Windows), n, oldest, how) {
		s.saturated.Add(1)
	}
	s.janitor.sweep(s.trees, oldest)
	if s.keys.Load() > int64(s.def.MaxKeys) {
		s.shrink()
	}
}

// oldest is the last window that the series still covers.
func (s *Series) oldest(current int64) int64 { return current - int64(s.def.Windows-1) }

// Count is the sum over the windows from..to, both ends included, where 0 is
// the current one: of the block that k is in under the mask, or of the text k.
// Windows that the series does not have count nothing, nor does a range that
// ends before it begins.
func (s *Series) Count(k Key, m Mask, from, to int, now time.Time) int64 {
	current, _ := s.clock.read(now)
	return s.countAt(current, k, m, from, to)
}

// countAt is Count when that window is the current one.
func (s *Series) countAt(current int64, k Key, m Mask, from, to int) int64 {
	from, to = max(from, 0), min(to, s.def.Windows-1)
	if from > to {
		return 0
	}
	y := tally{span: s.span(current, from, to)}
	s.collect(&y, k, m)
	return y.sum
}

func (s *Series) span(current int64, from, to int) span {
	newest := momentOf(current-int64(from), s.def.Windows)
	return span{newest, current - int64(to)}
}

// collect counts nothing for a key that the series does not take.
func (s *Series) collect(y *tally, k Key, m Mask) {
	if f := s.family(k); f != nil {
		f.count(y, s.address(k), k.text, m.bits(k.addr))
	}
}

// Counts is the count of every single window, the current one first, appended
// to dst[:0], and how much of the current window has passed, by the same
// reading of the clock: less than an interval. While a step back of the clock
// holds the window, that does not grow.
func (s *Series) Counts(dst []int64, k Key, m Mask, now time.Time) (counts []int64, elapsed time.Duration) {
	current, elapsed := s.clock.read(now)
	counts = appendZeros(dst[:0], s.def.Windows)
	y := tally{span: s.span(current, 0, s.def.Windows-1), windows: counts}
	s.collect(&y, k, m)
	return counts, elapsed
}

// Begin lets the series count from now on: what has not come until its first Add was
// not there. It is nothing to a series that was given a time before.
func (s *Series) Begin(now time.Time) { s.clock.read(now) }

// Begun is when the first window began that the series has counted from its begin, by
// the clock as it is now. It is a time to come while it has counted none so.
func (s *Series) Begun(now time.Time) time.Time { return time.Unix(0, s.clock.begun(now)) }

// Since lets the windows from that time on have been counted from their begin, though
// the series itself has begun later.
func (s *Series) Since(begun, now time.Time) { s.clock.since(begun.UnixNano(), now) }

// Covered is how many windows before the current one the series has counted from
// their begin to their end, Windows-1 at the most. It began to count with the
// first time that it was given, to whatever method.
func (s *Series) Covered(now time.Time) int {
	return int(min(s.clock.covered(now), int64(s.def.Windows-1)))
}

// Remove takes the counter of k out of every window, and an address out of
// every block. It reports false when there was nothing to take out: no such key,
// or one whose windows are all empty.
func (s *Series) Remove(k Key) bool {
	f := s.family(k)
	return f != nil && f.remove(s.address(k), k.text, s.oldest(s.clock.current()))
}

// Len is how many keys the series holds, MaxKeys at the most: those that counted
// within the time it covers, and those whose windows have all expired until the
// hand has come by.
func (s *Series) Len() int { return int(s.keys.Load()) }

// Stats are what a series has done since it was defined.
type Stats struct {
	Adds      uint64 // those that took something back among them
	Saturated uint64 // adds that were cut at the limit of 64 bits
	Evicted   uint64 // keys that had to leave for others, whether [Series.Evictions] has told them or not
}

// Stats looks at each tree in turn, so it may miss what is added meanwhile.
func (s *Series) Stats() Stats {
	stats := Stats{Saturated: s.saturated.Load()}
	for _, t := range s.trees {
		t.mu.Lock()
		stats.Adds += t.adds
		stats.Evicted += t.gone
		t.mu.Unlock()
	}
	return stats
}

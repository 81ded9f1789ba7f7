package series

import "math"

// ring is one counter: the number of its newest window, then a count for each
// of the series' windows, at the window's number modulo their number. What is
// older than the newest window by the number of windows is overwritten only
// when the ring is touched again, so nothing needs to be done when a window
// ends.
//
// Counts stop at ±(2⁶³-1). A sum that has been cut there is not exact until the
// window leaves.
type ring []int64

// moment is a window and its place in every ring of the series.
type moment struct {
	window int64
	place  int
}

func momentOf(window int64, windows int) moment {
	place := window % int64(windows)
	if place < 0 {
		place += int64(windows)
	}
	return moment{window, int(place)}
}

// span is a range of windows, both ends included.
type span struct {
	newest moment
	oldest int64
}

// add adjusts the count of a window, moving the ring up to it if it is newer,
// and reports whether the count was cut at the limit. A window that has left
// the ring is not counted.
func (r ring) add(m moment, n int64) (cut bool) {
	counts := r[1:]
	switch gap := m.window - r[0]; {
	case gap > 0:
		r.advance(m)
	case gap <= -int64(len(counts)):
		return false
	}
	counts[m.place], cut = plus(counts[m.place], n)
	return cut
}

// advance moves the ring up to a newer window.
func (r ring) advance(m moment) {
	counts := r[1:]
	gap := m.window - r[0]
	r[0] = m.window
	if gap >= int64(len(counts)) {
		clear(counts)
		return
	}
	for place := m.place; gap > 0; gap-- {
		counts[place] = 0
		place = before(place, 1, len(counts))
	}
}

// sum is the total over the windows of s.
func (r ring) sum(s span) (total int64) {
	counts := r[1:]
	first, n := r.overlap(s)
	for place := before(s.newest.place, first, len(counts)); n > 0; n-- {
		total, _ = plus(total, counts[place])
		place = before(place, 1, len(counts))
	}
	return total
}

// tally adds each window of s to its element of dst, the newest first.
func (r ring) tally(dst []int64, s span) {
	counts := r[1:]
	first, n := r.overlap(s)
	place := before(s.newest.place, first, len(counts))
	for i := first; i < first+n; i++ {
		dst[i], _ = plus(dst[i], counts[place])
		place = before(place, 1, len(counts))
	}
}

// overlap is the part of s that the ring holds: n windows, the newest of them
// first windows before that of s.
func (r ring) overlap(s span) (first, n int) {
	newest := min(s.newest.window, r[0])
	oldest := max(s.oldest, r[0]-int64(len(r)-2))
	if oldest > newest {
		return 0, 0
	}
	return int(s.newest.window - newest), int(newest - oldest + 1)
}

// merge adds sign times the other ring's counts, window by window.
func (r ring) merge(other ring, sign int64) {
	counts := r[1:]
	m := momentOf(other[0], len(counts))
	if m.window > r[0] {
		r.advance(m)
	}
	oldest := max(m.window, r[0]) - int64(len(counts)-1)
	for w, place := m.window, m.place; w >= oldest; w-- {
		counts[place], _ = plus(counts[place], sign*other[1+place])
		place = before(place, 1, len(counts))
	}
}

// before is the place in a ring of so many windows, n < windows earlier.
func before(place, n, windows int) int {
	if place -= n; place < 0 {
		place += windows
	}
	return place
}

// plus adds, and stops at the limits. The lower one is -MaxInt64, not MinInt64,
// so that a count can always be negated.
func plus(a, b int64) (sum int64, cut bool) {
	sum = a + b
	if (a^sum)&(b^sum) < 0 || sum == math.MinInt64 {
		return limit(b), true
	}
	return sum, false
}

func limit(sign int64) int64 {
	if sign < 0 {
		return -math.MaxInt64
	}
	return math.MaxInt64
}

package series

import (
	"math"
	"slices"
)

// row is the counts of one key or of one block: one for each of the series'
// windows, at the window's number modulo their number. Who owns a row, or
// several of them, keeps the number of their newest window. What is older than
// that by the number of windows is overwritten only when a newer window comes
// for the owner, so nothing needs to be done when a window ends.
//
// Counts stop at ±(2⁶³-1). A sum that has been cut there is not exact until the
// window leaves.
type row []int64

// moment is a window and its place in every row of the series.
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

// reach makes the owner's newest window that of m, if m is newer, with nothing
// counted in between, and reports whether m's window is one of those in the
// rows. All rows of the owner stand in one slice.
func reach(newest *int64, rows []int64, windows int, m moment) bool {
	return m.window == *newest || advance(newest, rows, windows, m)
}

// advance is reach for another window.
func advance(newest *int64, rows []int64, windows int, m moment) bool {
	gap := m.window - *newest
	if gap < 0 {
		return gap > -int64(windows)
	}
	*newest = m.window
	if gap >= int64(windows) {
		clear(rows)
		return true
	}
	for place := m.place; gap > 0; gap-- {
		for i := place; i < len(rows); i += windows {
			rows[i] = 0
		}
		place = before(place, 1, windows)
	}
	return true
}

// add adjusts a count and reports whether it was cut at the limit.
func (r row) add(place int, n int64) (cut bool) {
	r[place], cut = plus(r[place], n)
	return cut
}

// take takes from a count what it has of n, which may be negative, as the count may.
func (r row) take(place int, n int64) {
	if had := r[place]; n > 0 {
		r[place] -= min(n, max(had, 0))
	} else {
		r[place] -= max(n, min(had, 0))
	}
}

// sum is the total over the windows of s in a row whose newest window is given.
func (r row) sum(newest int64, s span) (total int64) {
	first, n := r.overlap(newest, s)
	end := before(s.newest.place, first, len(r)) + 1
	late := min(n, end)
	for _, count := range r[end-late : end] {
		total = Plus(total, count)
	}
	for _, count := range r[len(r)-(n-late):] {
		total = Plus(total, count)
	}
	return total
}

// tally adds each window of s to its element of dst, the newest first.
func (r row) tally(newest int64, dst []int64, s span) {
	first, n := r.overlap(newest, s)
	place := before(s.newest.place, first, len(r))
	for i := first; i < first+n; i++ {
		dst[i] = Plus(dst[i], r[place])
		place = before(place, 1, len(r))
	}
}

// overlap is the part of s that a row holds: n windows, the newest of them first
// windows before that of s.
func (r row) overlap(newest int64, s span) (first, n int) {
	last := min(s.newest.window, newest)
	oldest := max(s.oldest, newest-int64(len(r)-1))
	if oldest > last {
		return 0, 0
	}
	return int(s.newest.window - last), int(last - oldest + 1)
}

// merge adds sign times another row's counts, window by window. Its own newest
// window is given, and is as new as the other's.
func (r row) merge(newest int64, other row, othersNewest int64, sign int64) {
	m := momentOf(othersNewest, len(r))
	oldest := newest - int64(len(r)-1)
	for w, place := m.window, m.place; w >= max(oldest, m.window-int64(len(r)-1)); w-- {
		r[place] = Plus(r[place], sign*other[place])
		place = before(place, 1, len(r))
	}
}

// before is the place in a row of so many windows, n < windows earlier.
func before(place, n, windows int) int {
	if place -= n; place < 0 {
		place += windows
	}
	return place
}

// Plus adds counts, and stops at their limits. The lower one is -MaxInt64, not
// MinInt64, so that a count can always be negated.
func Plus(a, b int64) int64 {
	sum, _ := plus(a, b)
	return sum
}

// plus also tells whether it had to stop.
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

// counts reports whether any window of s has a count.
func (r row) counts(newest int64, s span) bool {
	first, n := r.overlap(newest, s)
	place := before(s.newest.place, first, len(r))
	for ; n > 0; n-- {
		if r[place] != 0 {
			return true
		}
		place = before(place, 1, len(r))
	}
	return false
}

// appendZeros appends so many counts of nothing.
func appendZeros(counts []int64, n int) []int64 {
	counts = slices.Grow(counts, n)[:len(counts)+n]
	clear(counts[len(counts)-n:])
	return counts
}

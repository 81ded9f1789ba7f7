package series

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// Carried is what [Series.CarryFrom] or [Distinct.CarryFrom] took over and what it could not.
type Carried struct {
	Keys    int   // taken over, with one window at least
	Foreign int   // keys that the new type does not take
	Past    int64 // counted, by keys and not by blocks, in windows that began before all those of the new series
	Folded  int64 // counted by keys that were evicted: only in blocks, which are not taken over; too low by what is added meanwhile
}

// CarryFrom takes over what another series counts whose interval, windows, type or
// MaxKeys are different, beside what there is already: the new one can be in use. It is no
// add, and Deltas does not tell it. Adds to the old one should have ended, since they may
// be missed. Neither is a gauge.
//
// A window goes whole into that in which it began. So windows of the same interval
// are kept, those of a finer one are summed, and a coarser one, of which nobody knows
// when it counted what, counts as if all of it were old: it may leave too early, but
// refuses nobody for what is long past. What the old series has seen from begin to
// end and still has, the new one has covered, unless it takes keys that the old one did
// not. While a step back of the clock holds the old one, it holds the new one too, if it
// is shorter than the interval of that.
func (s *Series) CarryFrom(old *Series, now time.Time) (c Carried) {
	now = old.clock.held(now, s.def.Interval)
	if old.def.Type.takesAll(s.def.Type) {
		s.clock.since(old.clock.keeps(old.def.Windows, now), now)
	}
	evicted := old.Stats().Evicted > 0
	for _, counts := range old.Blocks(Mask{}, now) {
		c.Folded = Plus(c.Folded, sum(counts))
	}
	for k, counts := range old.All(now) {
		if k.addr.IsValid() {
			c.Folded = Plus(c.Folded, -sum(counts))
		}
		if !s.Takes(k) {
			c.Foreign++
			continue
		}
		past, any := s.carry(k, counts, old.def.Interval, now)
		c.Past = Plus(c.Past, past)
		if any {
			c.Keys++
		}
	}
	if !evicted {
		c.Folded = 0 // the difference is what was added in between
	}
	c.Folded = max(c.Folded, 0)
	return c
}

// carry puts in the counts of a key, from windows of another interval. It returns what
// counts in none of the series' windows, and whether anything did.
func (s *Series) carry(k Key, counts []int64, interval time.Duration, now time.Time) (past int64, any bool) {
	current, _ := s.clock.read(now)
	for age, n := range counts {
		switch to := ageBy(s.def.Interval, interval, age, now); {
		case n == 0:
		case 0 <= to && to < s.def.Windows:
			s.add(k, n, current-int64(to), current, notAtAll)
			any = true
		default:
			past = Plus(past, n)
		}
	}
	return past, any
}

// ageBy is how many windows of one interval ago a window of another one began that
// is so many before the current one.
func ageBy(interval, other time.Duration, age int, now time.Time) int {
	t := now.UnixNano()
	began := (floorDiv(t, int64(other)) - int64(age)) * int64(other)
	return int(floorDiv(t, int64(interval)) - floorDiv(began, int64(interval)))
}

// CarryFrom is [Series.CarryFrom] for what another Distinct has been shown, whose
// masks may be different, too. Blocks that it kept go over as they are; those of a
// mask that is new have what the addresses in them have shown. Past is the sum of
// the windows' counts.
func (d *Distinct) CarryFrom(old *Distinct, now time.Time) (c Carried) {
	now = old.clock.held(now, d.def.Interval)
	if old.def.Type.takesAll(d.def.Type) {
		d.clock.since(old.clock.keeps(old.def.Windows, now), now)
	}
	current, _ := old.clock.read(now)
	for h := range old.holders() {
		if !d.Takes(h.Key) {
			if h.single() {
				c.Foreign++
			}
			continue
		}
		any := false
		for _, delta := range old.shard(h).shown(h, old.oldest(current), old.clock) {
			kept := d.carry(h, old, &delta, now)
			any = any || kept
			if !kept && h.single() {
				c.Past = Plus(c.Past, delta.count())
			}
		}
		if any && h.single() {
			c.Keys++
		}
	}
	return c
}

// carry adds what a holder has shown in one window, to all that are to have it from
// this holder. It reports false when the window is none of the series'.
func (d *Distinct) carry(h holder, old *Distinct, delta *Delta, now time.Time) bool {
	current, _ := d.clock.read(now)
	w := d.clock.window(delta.Start)
	if w < d.oldest(current) {
		return false
	}
	for _, bits := range d.kept(h.Key) {
		if bits == h.bits || h.single() && !slices.Contains(old.kept(h.Key), bits) {
			to := h.block(bits)
			sh := d.shard(to)
			sh.mu.Lock()
			sh.take(to, delta, momentOf(min(w, current), d.def.Windows))
			sh.mu.Unlock()
			d.tidy(sh, d.oldest(current))
		}
	}
	return true
}

// shown is all that a holder has shown in the windows that are left.
func (sh *shard) shown(h holder, oldest int64, c *clock) (all []Delta) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	i, known := sh.index[h]
	if !known {
		return nil
	}
	for w, s := range sh.between(i, math.MaxInt64, oldest) {
		if s.n > 0 {
			all = append(all, sh.delta(i, c.start(w), s, 0))
		}
	}
	return all
}

// take adds what a holder has shown elsewhere as if it were shown here.
func (sh *shard) take(h holder, delta *Delta, m moment) {
	i, s := sh.at(h, m)
	if s != nil && sh.put(s, delta) {
		sh.changes.note(i)
	}
}

// count is how many values there are.
func (d *Delta) count() int64 {
	if d.Sketch != nil {
		return max(many, d.Sketch.registers().total().estimate())
	}
	return int64(len(d.Values))
}

func sum(counts []int64) (total int64) {
	for _, n := range counts {
		total = Plus(total, n)
	}
	return total
}

// Lost says what was not taken over; "" for nothing.
func (c Carried) Lost() string {
	var lost []string
	if c.Foreign > 0 {
		lost = append(lost, fmt.Sprintf("keys of another type: %d", c.Foreign))
	}
	if c.Past != 0 {
		lost = append(lost, fmt.Sprintf("counts older than its windows: %d", c.Past))
	}
	if c.Folded != 0 {
		lost = append(lost, fmt.Sprintf("counts that evicted keys had left to networks: %d", c.Folded))
	}
	return strings.Join(lost, ", ")
}

package policy

import (
	"cmp"
	"slices"
	"time"

	"github.com/audit-milter/audit-milter/series"
)

// Near is a key near a threshold, or beyond it.
type Near struct {
	Rule *Rule
	Measure
	Percent int64 // of the threshold, rounded down; of `min` where a mean is 0
	Holds   bool  // the condition does; its rule may have others
}

// Limits are the keys nearest to a threshold over all rules, or of the one named:
// at most so many, the nearest first, once for each condition that reads them. Only
// above and at_least have a nearness, and only where nothing but the count keeps the
// condition from holding: not below a `min`, nor for a shared key.
//
// It goes once through each series under each mask, as [Walk] does, through several
// at a time where there are processors.
func (e *Engine) Limits(rule string, limit int, now time.Time) ([]Near, error) {
	rules, err := e.rulesNamed(rule)
	if err != nil {
		return nil, err
	}
	walks := expeditions(rules, now)
	found := make([]nearest, len(walks))
	concurrently(len(walks), func(i int) {
		found[i] = nearest{engine: e, limit: limit, now: now}
		found[i].walk(walks[i])
	})
	best := nearest{limit: limit}
	for _, one := range found {
		for _, k := range one.kept {
			best.keep(k)
		}
	}
	return best.all(), nil
}

// walk keeps the nearest of one series.
func (b *nearest) walk(x expedition) {
	_, b.elapsed = x.counter.Counts(nil, series.Key{}, x.mask, b.now)
	for t, counts := range Walk(x.counter, x.mask, b.now) {
		for i := range x.readers {
			b.offer(&x.readers[i], t.Key, counts)
		}
	}
}

// rulesNamed are all rules, or the one of that name.
func (e *Engine) rulesNamed(name string) ([]*rule, error) {
	if name == "" {
		return e.rules, nil
	}
	if r := ruleNamed(e.rules, name); r != nil {
		return []*rule{r}, nil
	}
	return nil, UnknownError{"rule", name, ruleNames(e.rules)}
}

// expedition is a walk for all conditions that read a series under a mask.
type expedition struct {
	counter Counter
	mask    series.Mask
	readers []reader
}

// reader is a condition of a rule.
type reader struct {
	rule *rule
	*condition
}

func expeditions(rules []*rule, now time.Time) (all []expedition) {
	for _, r := range rules {
		for c := range r.compiled() {
			if !c.hasNearness() || c.counter.Covered(now) < c.Baseline.To {
				continue
			}
			i := slices.IndexFunc(all, func(x expedition) bool { return x.counter == c.counter && x.mask == c.finest() })
			if i < 0 {
				i, all = len(all), append(all, expedition{counter: c.counter, mask: c.finest()})
			}
			all[i].readers = append(all[i].readers, reader{r, c})
		}
	}
	return all
}

// hasNearness reports whether a count can be near the threshold.
func (c *condition) hasNearness() bool {
	return (c.Op == Above || c.Op == AtLeast) && (c.Threshold.N > 0 || c.Table != nil)
}

// nearness is the count as a part of the threshold; 0 where something else keeps
// the condition from holding. A mean of 0 leaves it to `min`.
func (c *condition) nearness(n Numbers) float64 {
	part, of := float64(n.Count), float64(n.Threshold.N)
	switch c.Threshold.Unit {
	case Percent:
		if n.Base < c.Min {
			return 0
		}
		part, of = part*float64(n.Threshold.scale(0)), of*float64(n.Base)
	case Times:
		if n.Count < c.Min {
			return 0
		}
		part, of = part*float64(n.Threshold.scale(c.Baseline.windows())), of*float64(n.Base)
		if n.Base == 0 {
			part, of = float64(n.Count), float64(c.Min)
		}
	}
	if of <= 0 {
		return 0
	}
	return max(0, part/of)
}

// nearest keeps the keys that are nearest, in order.
type nearest struct {
	engine  *Engine
	limit   int
	now     time.Time
	elapsed time.Duration // of the current window of the series in hand
	kept    []kept
	room    []int64
}

type kept struct {
	reader
	key series.Key
	Numbers
	nearness float64
	holds    bool
}

// offer keeps a key if it is among the nearest so far. What its counts do not tell
// is looked up only if it can be.
func (b *nearest) offer(r *reader, key series.Key, counts []int64) {
	n, holds, sure := r.estimate(key, counts, b)
	if !sure && (r.finest() != r.Mask || b.takes(r.nearness(n))) {
		n, holds = r.evaluate(key, &b.room, b.now)
	}
	k := kept{*r, key, n, r.nearness(n), holds}
	if b.takes(k.nearness) && r.rule.asks(b.engine, r.condition, key) {
		b.keep(k)
	}
}

// keep keeps a key in its place, and one less if there are too many.
func (b *nearest) keep(k kept) {
	if !b.takes(k.nearness) {
		return
	}
	at, _ := slices.BinarySearchFunc(b.kept, k, func(have, k kept) int { return cmp.Or(cmp.Compare(k.nearness, have.nearness), -1) })
	b.kept = slices.Insert(b.kept[:min(len(b.kept), b.limit-1)], at, k)
}

// estimate are the numbers that the counts of a walk tell. Those that are not sure
// are no less near than the real ones: different values of a range are their union,
// and what a share is of has to be looked up.
func (r *reader) estimate(key series.Key, counts []int64, b *nearest) (n Numbers, holds, sure bool) {
	v := r.valueOf(counts, b.elapsed)
	n = Numbers{Count: v.floor, Threshold: r.threshold(key)}
	switch r.Threshold.Unit {
	case Percent:
		n.Base = r.Min
	case Times:
		n.Base = r.earlier(counts)
	}
	if r.Threshold.Unit == Percent || r.distinct && r.From < r.To {
		return n, false, false
	}
	return n, b.takes(r.nearness(n)) && r.holds(v, n, b.now), true
}

// takes reports whether one so near would be kept.
func (b *nearest) takes(nearness float64) bool {
	return nearness > 0 && (len(b.kept) < b.limit || nearness > b.kept[b.limit-1].nearness)
}

func (b *nearest) all() []Near {
	all := make([]Near, len(b.kept))
	for i, k := range b.kept {
		m := k.measure(k.key, k.Numbers)
		percent, ok := m.Percent()
		if !ok {
			percent = int64(100 * k.nearness)
		}
		all[i] = Near{k.rule.Rule, m, percent, k.holds}
	}
	return all
}

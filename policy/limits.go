package policy

import (
	"cmp"
	"iter"
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
// It goes once through each series under each mask, as [Walks] do.
func (e *Engine) Limits(rule string, limit int, now time.Time) ([]Near, error) {
	rules, err := e.rulesNamed(rule)
	if err != nil {
		return nil, err
	}
	legs := legsOf(expeditions(rules, now), now)
	found := make([]nearest, len(legs))
	Concurrently(len(legs), func(i int) {
		found[i] = nearest{engine: e, limit: limit, now: now}
		found[i].walk(legs[i])
	})
	best := nearest{limit: limit}
	for _, one := range found {
		for _, k := range one.kept {
			best.keep(k)
		}
	}
	return best.all(), nil
}

// walk keeps the nearest that a leg passes by.
func (b *nearest) walk(l leg) {
	_, b.elapsed = l.counter.Counts(nil, series.Key{}, l.mask, b.now)
	for t, counts := range l.walk {
		for i := range l.readers {
			b.offer(&l.readers[i], t, counts)
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

// leg is a part of an expedition.
type leg struct {
	expedition
	walk iter.Seq2[Target, []int64]
}

func legsOf(all []expedition, now time.Time) (legs []leg) {
	for _, x := range all {
		for _, walk := range Walks(x.counter, x.mask, now) {
			legs = append(legs, leg{x, walk})
		}
	}
	return legs
}

// reader is a condition of a rule.
type reader struct {
	place int // of the condition among those of all rules
	rule  *rule
	*condition
}

func expeditions(rules []*rule, now time.Time) (all []expedition) {
	place := 0
	for _, r := range rules {
		for c := range r.compiled() {
			place++
			if !c.hasNearness() || c.counter.Covered(now) < c.Baseline.To {
				continue
			}
			i := slices.IndexFunc(all, func(x expedition) bool { return x.counter == c.counter && x.mask == c.finest() })
			if i < 0 {
				i, all = len(all), append(all, expedition{counter: c.counter, mask: c.finest()})
			}
			all[i].readers = append(all[i].readers, reader{place, r, c})
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
	Target
	Numbers
	nearness float64
	holds    bool
}

// compare puts what is nearer first, and of what is as near the rule that is asked
// first, and then the lower address or text.
func (k kept) compare(other kept) int {
	if c := cmp.Or(cmp.Compare(other.nearness, k.nearness), cmp.Compare(k.place, other.place)); c != 0 {
		return c
	}
	return k.Target.Compare(other.Target)
}

// offer keeps a key if it is among the nearest so far. What its counts do not tell
// is looked up only if it can be.
func (b *nearest) offer(r *reader, t Target, counts []int64) {
	n, holds, sure := r.estimate(t.Key, counts, b)
	if !sure && (r.finest() != r.Mask || b.mayTake(r.nearness(n))) {
		n, holds = r.evaluate(t.Key, &b.room, b.now)
	}
	k := kept{*r, t, n, r.nearness(n), holds}
	if b.takes(k) && r.rule.asks(b.engine, r.condition, t.Key) {
		b.keep(k)
	}
}

// keep keeps a key in its place, and one less if there are too many.
func (b *nearest) keep(k kept) {
	if !b.takes(k) {
		return
	}
	at, _ := slices.BinarySearchFunc(b.kept, k, kept.compare)
	b.kept = slices.Insert(b.kept[:min(len(b.kept), b.limit-1)], at, k)
}

// takes reports whether a key is among the nearest so far.
func (b *nearest) takes(k kept) bool {
	return b.mayTake(k.nearness) && (len(b.kept) < b.limit || k.compare(b.kept[b.limit-1]) < 0)
}

// mayTake reports whether one so near can be.
func (b *nearest) mayTake(nearness float64) bool {
	return nearness > 0 && (len(b.kept) < b.limit || nearness >= b.kept[b.limit-1].nearness)
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
	return n, b.mayTake(r.nearness(n)) && r.holds(v, n, b.now), true
}

func (b *nearest) all() []Near {
	all := make([]Near, len(b.kept))
	for i, k := range b.kept {
		m := k.measure(k.Target.Key, k.Numbers)
		percent, ok := m.Percent()
		if !ok {
			percent = int64(100 * k.nearness)
		}
		all[i] = Near{k.rule.Rule, m, percent, k.holds}
	}
	return all
}

package policy

import (
	"container/heap"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/audit-milter/audit-milter/series"
)

// Penalty is a key for which a rule goes on firing, its conditions holding or
// not.
type Penalty struct {
	Rule   string
	Shadow bool // the rule does not enforce, nor does the penalty
	Subject
	Since time.Time // when it was imposed, or made longer; in a delta that it was removed: when that was
	Until time.Time // by the clock as it is now; the zero Time in a delta: it was removed
}

// PenaltyKey is what a penalty is about, whichever its times.
type PenaltyKey struct {
	Rule   string
	Shadow bool
	Subject
}

// Key is what the penalty is about.
func (p Penalty) Key() PenaltyKey { return PenaltyKey{p.Rule, p.Shadow, p.Subject} }

// IsEnded reports whether a removal at that time has ended the penalty: it was imposed
// before. Clocks of nodes may differ a bit.
func (p Penalty) IsEnded(removed time.Time) bool { return p.Since.Sub(removed) <= clockPrecision }

const clockPrecision = 100 * time.Millisecond

// Subject is what a condition counts as one: a network, or a text.
type Subject struct {
	Network netip.Prefix // of one address, where the condition has no mask
	Text    string
}

// String is the subject as a verdict spells it.
func (s Subject) String() string {
	switch {
	case !s.Network.IsValid():
		return s.Text
	case s.Network.IsSingleIP():
		return s.Network.Addr().String()
	}
	return s.Network.String()
}

// Concerns reports whether the subject is the target, or has addresses in common with it.
func (s Subject) Concerns(t Target) bool {
	if addr := t.Key.Addr(); addr.IsValid() {
		return s.Network.Overlaps(t.Block())
	}
	return !s.Network.IsValid() && s.Text == t.Key.String()
}

// subject is the key with what else the condition counts as one with it.
func (c *condition) subject(key series.Key) Subject {
	if addr := key.Addr(); addr.IsValid() {
		return Subject{Network: c.Mask.Of(addr)}
	}
	return Subject{Text: key.String()}
}

const (
	maxPenalties = 100_000     // of a rule; up to 30 MB and the texts, in a flood of new keys
	farBack      = time.Minute // a reading of the clock this much earlier is a step back, and not a late one
)

// penalties are those of one rule. They run on a line of time of their own,
// which a step of the clock forward moves, as time that passed, and a step back
// does not: a penalty neither ends by one, nor stands for years.
type penalties struct {
	shadow bool
	len    atomic.Int64 // of ends

	mu      sync.Mutex // owns what follows
	ahead   int64      // the line minus the clock, in nanoseconds
	newest  int64      // on the line
	running map[Subject]*penalty
	ends    endings
	changed map[Subject]change // since deltas was asked; nil before the first time
}

// change is what has become of a subject's penalty: first it was removed, then it
// was set, or one of the two.
type change struct {
	removed, set bool
	at           int64 // when it was removed, on the line
}

// penalty is one that runs.
type penalty struct {
	subject Subject
	since   atomic.Int64 // on the line; changed under the lock, read without it
	end     atomic.Int64 // the same
	place   int          // in ends
}

func newPenalties(shadow bool) *penalties {
	return &penalties{shadow: shadow, running: make(map[Subject]*penalty)}
}

// at is now on the line.
func (p *penalties) at(now time.Time) int64 {
	t := now.UnixNano() + p.ahead
	if p.newest-t > int64(farBack) {
		p.ahead += p.newest - t
		t = p.newest
	}
	p.newest = max(p.newest, t)
	return p.newest
}

// extend lets the subject's penalty run for so long from now on, unless it does
// so for longer.
func (p *penalties) extend(s Subject, length time.Duration, now time.Time) {
	p.extendAs(s, now, length, now, true)
}

// extendAs is extend, since some time, which may be for deltas to tell.
func (p *penalties) extendAs(s Subject, since time.Time, length time.Duration, now time.Time, told bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := p.at(now)
	p.forgetEnded(t)
	end := t + int64(length)
	one := p.running[s]
	switch {
	case one == nil && !p.hasRoom(end), one != nil && one.end.Load() >= end:
		return
	case one == nil:
		s.Text = strings.Clone(s.Text) // it may be a piece of something larger
		one = &penalty{subject: s}
		one.end.Store(end)
		p.running[s] = one
		heap.Push(&p.ends, one)
		p.len.Add(1)
	default:
		one.end.Store(end)
		heap.Fix(&p.ends, one.place)
	}
	one.since.Store(t - int64(now.Sub(since)))
	if told {
		p.noteSet(one.subject)
	}
}

// noteSet lets deltas tell when the subject's penalty ends.
func (p *penalties) noteSet(s Subject) {
	if p.changed != nil {
		c := p.changed[s]
		c.set = true
		p.changed[s] = c
	}
}

// shorten lets none run for longer than that from now on.
func (p *penalties) shorten(length time.Duration, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	end := p.at(now) + int64(length)
	for _, one := range p.ends {
		if one.end.Load() > end {
			one.end.Store(end)
			p.noteSet(one.subject)
		}
	}
	heap.Init(&p.ends)
}

// forgetEnded drops some of what has ended: two for each that comes keep up.
func (p *penalties) forgetEnded(t int64) {
	for range 2 {
		if len(p.ends) > 0 && p.ends[0].end.Load() <= t {
			p.drop(p.ends[0])
		}
	}
}

// hasRoom reports whether one more that ends then may run. The one that ends
// soonest leaves for it.
func (p *penalties) hasRoom(end int64) bool {
	switch {
	case len(p.ends) < maxPenalties:
		return true
	case p.ends[0].end.Load() >= end:
		return false
	}
	p.drop(p.ends[0])
	return true
}

func (p *penalties) drop(one *penalty) {
	delete(p.running, one.subject)
	if c := p.changed[one.subject]; c.removed {
		c.set = false
		p.changed[one.subject] = c
	} else {
		delete(p.changed, one.subject)
	}
	heap.Remove(&p.ends, one.place)
	p.len.Add(-1)
}

// left is for how long the subject's penalty runs on; 0 when there is none.
func (p *penalties) left(s Subject, now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	one := p.running[s]
	if one == nil {
		return 0
	}
	left := one.end.Load() - p.at(now)
	if left <= 0 {
		p.drop(one)
	}
	return time.Duration(max(left, 0))
}

// remove ends the subject's penalty and reports whether one ran.
func (p *penalties) remove(s Subject, now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := p.at(now)
	return p.end(p.running[s], t, t)
}

// removeImposed ends the subject's penalty if it was imposed by then.
func (p *penalties) removeImposed(s Subject, by, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	one, t := p.running[s], p.at(now)
	if one != nil && p.told("", one, t, now).IsEnded(by) {
		p.end(one, t-int64(now.Sub(by)), t)
	}
}

// end drops one that was removed at some time on the line, where t is now, reports whether
// it ran, and lets deltas tell that.
func (p *penalties) end(one *penalty, at, t int64) (ran bool) {
	if one == nil {
		return false
	}
	p.drop(one)
	if ran = one.end.Load() > t; ran && p.changed != nil {
		before := p.changed[one.subject]
		p.changed[one.subject] = change{removed: true, at: max(at, before.at)}
	}
	return ran
}

// list are all that run, in no order. Nobody waits while it is made.
func (p *penalties) list(rule string, now time.Time) []Penalty {
	p.mu.Lock()
	t, ends := p.at(now), slices.Clone(p.ends)
	p.mu.Unlock()
	all := make([]Penalty, 0, len(ends))
	for _, one := range ends {
		if one.end.Load() > t {
			all = append(all, p.told(rule, one, t, now))
		}
	}
	return all
}

// deltas are what changed since they were last asked for, and all that run at
// the first time.
func (p *penalties) deltas(rule string, now time.Time) (deltas []Penalty) {
	if p.collect() {
		return p.list(rule, now)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	t := p.at(now)
	for s, c := range p.changed {
		if c.removed {
			at := now.Round(0).Add(time.Duration(c.at - t))
			deltas = append(deltas, Penalty{Rule: rule, Shadow: p.shadow, Subject: s, Since: at})
		}
		if c.set {
			deltas = append(deltas, p.told(rule, p.running[s], t, now))
		}
	}
	clear(p.changed)
	return deltas
}

// collect begins to note what changes; false when it has begun before.
func (p *penalties) collect() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.changed != nil {
		return false
	}
	p.changed = make(map[Subject]change)
	return true
}

// told is a penalty by the clock: t is now on the line.
func (p *penalties) told(rule string, one *penalty, t int64, now time.Time) Penalty {
	at := func(t0 int64) time.Time { return now.Round(0).Add(time.Duration(t0 - t)) }
	return Penalty{rule, p.shadow, one.subject, at(one.since.Load()), at(one.end.Load())}
}

// endings are penalties as a heap: the first one ends soonest.
type endings []*penalty

func (e endings) Len() int           { return len(e) }
func (e endings) Less(i, j int) bool { return e[i].end.Load() < e[j].end.Load() }
func (e endings) Swap(i, j int)      { e[i], e[j] = e[j], e[i]; e[i].place, e[j].place = i, j }
func (e *endings) Push(one any)      { one.(*penalty).place = len(*e); *e = append(*e, one.(*penalty)) }
func (e *endings) Pop() any {
	last := len(*e) - 1
	one := (*e)[last]
	(*e)[last] = nil
	*e = (*e)[:last]
	return one
}

// Penalties are all that run, by rule in the order of the configuration, those
// that end soonest first.
func (e *Engine) Penalties(now time.Time) (all []Penalty) {
	for _, r := range e.penalizing {
		own := r.penalties.list(r.Name, now)
		slices.SortFunc(own, func(a, b Penalty) int { return a.Until.Compare(b.Until) })
		all = append(all, own...)
	}
	return all
}

// PenaltyDeltas are what changed since they were last asked for, at the first
// time all penalties. Merging them by [Engine.SetPenalty], in any order and any
// number of times, gives the same penalties; removals are for
// [Engine.EndPenalty], and come before what was set after them. One asker only.
func (e *Engine) PenaltyDeltas(now time.Time) (all []Penalty) {
	for _, r := range e.penalizing {
		all = append(all, r.penalties.deltas(r.Name, now)...)
	}
	return all
}

// SetPenalty lets a penalty run as long as it says, unless it does so for
// longer, but no longer than the rule gives from now on: another node's clock
// may be wrong. One of a rule that has none is left out, and so is one of the
// other mode. Where it does not say since when, it is as if the rule had given it whole.
func (e *Engine) SetPenalty(p Penalty, now time.Time) {
	e.setPenalty(p, now, true)
}

// giver is the rule that gives such penalties; nil where there is none of that mode.
func (e *Engine) giver(rule string, shadow bool) *rule {
	if r := ruleNamed(e.penalizing, rule); r != nil && r.penalties.shadow == shadow {
		return r
	}
	return nil
}

func (e *Engine) setPenalty(p Penalty, now time.Time, told bool) {
	r := e.giver(p.Rule, p.Shadow)
	length := p.Until.Sub(now)
	if r == nil || length <= 0 {
		return
	}
	since := p.Since
	if since.IsZero() {
		since = p.Until.Add(-r.Penalty)
	}
	if since.After(now) {
		since = now
	}
	r.penalties.extendAs(p.Subject, since, min(length, r.Penalty), now, told)
}

// MergePenalty is [Engine.SetPenalty] for a delta of another node, or of this one's
// earlier life; it is not told again.
func (e *Engine) MergePenalty(p Penalty, now time.Time) { e.setPenalty(p, now, false) }

// HasPenalty reports whether a penalty runs.
func (e *Engine) HasPenalty(k PenaltyKey, now time.Time) bool {
	r := e.giver(k.Rule, k.Shadow)
	return r != nil && r.penalties.left(k.Subject, now) > 0
}

// EndPenalty ends a penalty as another node has removed it, at the delta's Since: one that
// was imposed later runs on. If one ran, deltas tell that: else what this node has told or
// kept of it would bring it back at a restart.
func (e *Engine) EndPenalty(p Penalty, now time.Time) {
	if r := e.giver(p.Rule, p.Shadow); r != nil {
		r.penalties.removeImposed(p.Subject, p.Since, now)
	}
}

// RemovePenalty ends the penalty of a key, spelt as a verdict has it, or of the
// block ADDRESS/BITS that an address is in, and reports whether one ran. It is an error that the rule gives no penalties.
func (e *Engine) RemovePenalty(rule, key string, now time.Time) (bool, error) {
	r := ruleNamed(e.penalizing, rule)
	if r == nil {
		return false, UnknownError{"rule with a penalty", rule, ruleNames(e.penalizing)}
	}
	subjects := []Subject{{Text: key}, {Text: boundedKey(normalText(key))}}
	if t, err := ParseBlock(key); err == nil {
		subjects = append(subjects, Subject{Network: t.Block()})
	}
	ran := false
	for _, s := range subjects {
		ran = r.penalties.remove(s, now) || ran
	}
	return ran, nil
}

// CarryPenalties takes over the penalties of the engine before, by the names of
// the rules: those of rules that are gone, or whose mode is another, are
// dropped. One runs on for no longer than its rule gives now. It comes before the first
// event.
func (e *Engine) CarryPenalties(before *Engine, now time.Time) {
	for _, r := range e.penalizing {
		old := before.giver(r.Name, r.penalties.shadow)
		if old == nil {
			continue
		}
		r.penalties = old.penalties
		if r.Penalty < old.Penalty {
			r.penalties.shorten(r.Penalty, now)
		}
	}
}

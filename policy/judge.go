package policy

import (
	"iter"
	"slices"
	"sync/atomic"
	"time"

	"github.com/audit-milter/audit-milter/series"
)

// rule is a Rule ready to be judged.
type rule struct {
	*Rule
	reply    replyTemplate
	all, any []condition
	retry    bool // a text of the rule says when to try again
	shadow   bool // the rule is not enforced, or the policy is not

	penalties *penalties     // nil: the rule gives none
	decisions *atomic.Uint64 // how many it has taken
}

func (e *Engine) newRule(r *Rule) (*rule, error) {
	compiled := &rule{Rule: r, shadow: r.Shadow || e.policy.Shadow}
	compiled.decisions = e.stats.decisions(RuleVerdict{r.Name, r.Then, compiled.shadow})
	switch r.Then {
	case Tempfail, Reject, Disconnect:
		reply, err := newReply(r.Reply, r.Then)
		if err != nil {
			return nil, err
		}
		compiled.reply = reply
	}
	for _, list := range []struct {
		from []Condition
		to   *[]condition
	}{{r.If, &compiled.all}, {r.Any, &compiled.any}} {
		for _, c := range list.from {
			ready, err := e.newCondition(c)
			if err != nil {
				return nil, err
			}
			*list.to = append(*list.to, ready)
		}
	}
	compiled.retry = compiled.tellsRetry()
	if r.Penalty > 0 {
		compiled.penalties = newPenalties(compiled.shadow)
	}
	return compiled, nil
}

func (e *Engine) newCondition(c Condition) (ready condition, err error) {
	c.Key = e.policy.key(&c)
	if c.Of != nil {
		of := *c.Of
		c.Of = &of
		if ready.of, err = e.source(c.Of); err != nil {
			return ready, err
		}
	}
	if ready.counter, err = e.source(&c.Reading); err != nil {
		return ready, err
	}
	ready.total = e.Counter(c.Series)
	ready.Condition, ready.def = c, ready.counter.Definition()
	_, ready.distinct = ready.counter.(*series.Distinct)
	return ready, nil
}

// source is the series, or the part of it, that is read. Without a mask it is asked
// for whole addresses.
func (e *Engine) source(r *Reading) (Counter, error) {
	if !r.Masked {
		r.Mask = series.Host
	}
	switch l := e.Lasting(r.Series); {
	case l == nil:
	case r.Scope == NodeScope:
		return l.Share(""), nil
	default:
		return l.Counter, nil
	}
	return nil, UnknownError{"series", r.Series, e.policy.seriesNames()}
}

// judge is the verdict of the rule, nil when it does not fire.
func (r *rule) judge(e *Engine, ev *Event, s Stage, now time.Time) (*Verdict, error) {
	holds, err := r.applies(ev)
	if err != nil || !holds {
		return nil, err
	}
	decisive, numbers, fires := r.fires(e, ev, now)
	var penalty time.Duration
	switch {
	case r.penalties == nil:
	case fires:
		r.penalties.extend(decisive.subject(decisive.key(ev)), r.Penalty, now)
	default:
		if decisive, penalty = r.penalized(e, ev, now); decisive != nil {
			numbers, _ = decisive.evaluate(decisive.key(ev), &ev.state.counts, now)
			fires = true
		}
	}
	if !fires {
		return nil, nil
	}
	v := &Verdict{Action: r.Then, Stage: s, Rule: r.Name, Delay: r.Delay}
	if decisive != nil {
		v.Measure = decisive.measure(decisive.key(ev), numbers)
		v.Penalty = penalty
		if r.retry {
			v.RetryAfter = r.retryAfter(e, ev, v, now)
		}
	}
	r.dress(ev, v)
	return v, nil
}

// applies is the answer of the rule's `when`, as [Event.Unknown] has it where that
// cannot be told.
func (r *rule) applies(ev *Event) (bool, error) {
	if r.When.unknown(ev) {
		return r.Then == Accept, nil
	}
	return r.When.holds(ev)
}

// dress adds the texts of the verdict.
func (r *rule) dress(ev *Event, v *Verdict) {
	switch v.Action {
	case Tempfail, Reject, Disconnect:
		v.Reply = r.reply.render(ev, v)
	case Quarantine:
		v.Reason = bounded(harmless(v.sentence()))
	}
	for _, h := range r.Headers {
		v.Headers = append(v.Headers, HeaderField{h.Name, h.Value.render(ev, v)})
	}
}

// fires reports whether all of `if` and at least one of `any` hold, and which
// condition the verdict speaks of: the first of `if`, else the first of `any`
// that holds.
func (r *rule) fires(e *Engine, ev *Event, now time.Time) (decisive *condition, numbers Numbers, fires bool) {
	for i := range r.all {
		c := &r.all[i]
		n, holds := r.read(e, c, ev, now)
		if !holds {
			return nil, n, false
		}
		if decisive == nil {
			decisive, numbers = c, n
		}
	}
	if len(r.any) == 0 {
		return decisive, numbers, true
	}
	for i := range r.any {
		c := &r.any[i]
		n, holds := r.read(e, c, ev, now)
		if !holds {
			continue
		}
		if decisive == nil {
			decisive, numbers = c, n
		}
		return decisive, numbers, true
	}
	return nil, numbers, false
}

// read evaluates a condition for the event, and the log hears of a shared key.
func (r *rule) read(e *Engine, c *condition, ev *Event, now time.Time) (n Numbers, holds bool) {
	n, holds, shared := r.meets(e, c, c.key(ev), &ev.state.counts, now)
	if shared {
		e.log.sharedKey(r.Name, c.Series, c.key(ev), now)
	}
	return n, holds
}

// meets evaluates a condition; one that would hold for a shared key does so only
// where the rule allows it.
func (r *rule) meets(e *Engine, c *condition, key series.Key, room *[]int64, now time.Time) (n Numbers, holds, shared bool) {
	n, holds = c.evaluate(key, room, now)
	shared = holds && !r.asks(e, c, key)
	return n, holds && !shared, shared
}

// asks reports whether the rule lets the condition hold for a key: one that many
// share may be excepted.
func (r *rule) asks(e *Engine, c *condition, key series.Key) bool {
	return r.AllowSharedKey || !c.shared(key, e.own)
}

// penalized is the condition for whose key a penalty runs longest, and how long
// that is; nil when none does.
func (r *rule) penalized(e *Engine, ev *Event, now time.Time) (longest *condition, left time.Duration) {
	if r.penalties == nil || r.penalties.len.Load() == 0 {
		return nil, 0
	}
	decisive := r.decisive()
	for i := range decisive {
		c := &decisive[i]
		if runs := r.penalty(e, c, c.key(ev), now); runs > left {
			longest, left = c, runs
		}
	}
	return longest, left
}

// decisive are the conditions that a verdict, and a penalty, can be about.
func (r *rule) decisive() []condition {
	if len(r.all) > 0 {
		return r.all[:1]
	}
	return r.any
}

// decidesBy reports whether a decisive condition is about the series.
func (r *rule) decidesBy(c Counter) bool {
	return slices.ContainsFunc(r.decisive(), func(d condition) bool { return d.total == c })
}

// penalty is how long one still runs for the key of a decisive condition.
func (r *rule) penalty(e *Engine, c *condition, key series.Key, now time.Time) time.Duration {
	if !c.counter.Takes(key) || !r.asks(e, c, key) {
		return 0
	}
	return r.penalties.left(c.subject(key), now)
}

// tellsRetry reports whether a text of the rule says when to try again: the
// verdict's own sentence does, and so do notifications.
func (r *rule) tellsRetry() bool {
	if len(r.Notify) > 0 || r.reply.text == nil && (r.Then == Tempfail || r.Then == Disconnect) || r.reply.text.has(retryPlaceholder) {
		return true
	}
	return slices.ContainsFunc(r.Headers, func(h HeaderTemplate) bool { return h.Value.has(retryPlaceholder) })
}

// retryAfter is the earliest time at which the same event would not fire the
// rule. Where one cannot be known, the rule's longest range stands for it; where
// only the penalty fires, nothing does.
func (r *rule) retryAfter(e *Engine, ev *Event, v *Verdict, now time.Time) time.Duration {
	_, penalty := r.penalized(e, ev, now)
	return r.ends(penalty, func(c *condition, least time.Duration) Ending {
		return Ending{true, r.clears(e, ev, c, v, least, now)}
	}).After
}

// clears is when the condition does not hold any more, not before least, as
// retryAfter has it.
func (r *rule) clears(e *Engine, ev *Event, c *condition, v *Verdict, least time.Duration, now time.Time) time.Duration {
	key := c.key(ev)
	if !c.counter.Takes(key) || !r.asks(e, c, key) {
		return least // does not hold, and will not
	}
	own, back := ev.ownAmount(c, key)
	switch {
	case !v.RefusesAt(v.Stage):
		back = 0
	case !r.shadow && !ev.Unheard.Has(v.Stage):
		back = series.Plus(back, -e.refusalAmount(ev, c, key, v))
	}
	wait, known := c.clears(key, own, back, least, &ev.state.counts, now)
	switch {
	case known:
		return wait
	case v.Penalty > 0:
		return least
	}
	return max(least, r.longest())
}

// longest is the longest range of the rule's conditions.
func (r *rule) longest() (longest time.Duration) {
	for c := range r.compiled() {
		longest = max(longest, c.span())
	}
	return longest
}

// compiled yields the conditions of `if`, then those of `any`.
func (r *rule) compiled() iter.Seq[*condition] {
	return func(yield func(*condition) bool) {
		for _, list := range [][]condition{r.all, r.any} {
			for i := range list {
				if !yield(&list[i]) {
					return
				}
			}
		}
	}
}

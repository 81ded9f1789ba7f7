package policy

import (
	"slices"
	"time"

	"github.com/audit-milter/audit-milter/series"
)

// rule is a Rule ready to be judged.
type rule struct {
	*Rule
	reply    replyTemplate
	all, any []condition
	retry    bool // a text of the rule says when to try again
}

func (e *Engine) newRule(r *Rule) (*rule, error) {
	compiled := &rule{Rule: r}
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
	ready.Condition, ready.def = c, ready.counter.Definition()
	_, ready.distinct = ready.counter.(*series.Distinct)
	return ready, nil
}

// source is the series that is read. Without a mask it is asked for whole
// addresses.
func (e *Engine) source(r *Reading) (Counter, error) {
	if !r.Masked {
		r.Mask = series.Host
	}
	if counter := e.Counter(r.Series); counter != nil {
		return counter, nil
	}
	return nil, UnknownError{"series", r.Series, e.policy.seriesNames()}
}

// judge is the verdict of the rule, nil when it does not fire.
func (r *rule) judge(e *Engine, ev *Event, s Stage, now time.Time) (*Verdict, error) {
	holds, err := r.When.holds(ev)
	if err != nil || !holds {
		return nil, err
	}
	decisive, numbers, fires := r.fires(e, ev, now)
	if !fires {
		return nil, nil
	}
	v := &Verdict{Action: r.Then, Stage: s, Rule: r.Name, Delay: r.Delay}
	if decisive != nil {
		v.Measure = decisive.measure(decisive.key(ev), numbers)
		if r.retry {
			v.RetryAfter = r.retryAfter(e, ev, s, now)
		}
	}
	r.dress(ev, v)
	return v, nil
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
		n := r.read(e, c, ev, now)
		if !n.Holds {
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
		n := r.read(e, c, ev, now)
		if !n.Holds {
			continue
		}
		if decisive == nil {
			decisive, numbers = c, n
		}
		return decisive, numbers, true
	}
	return nil, numbers, false
}

// read evaluates a condition; one that holds for a shared key does so only
// where the rule allows it.
func (r *rule) read(e *Engine, c *condition, ev *Event, now time.Time) Numbers {
	n := c.evaluate(c.key(ev), &ev.state.counts, now)
	if n.Holds && !r.AllowSharedKey && c.shared(ev, e.own) {
		e.log.sharedKey(r.Name, c.Series, c.key(ev), now)
		n.Holds = false
	}
	return n
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
// rule: the earliest of `if`, the latest of `any`, whichever is sooner. Where
// one cannot be known, the rule's longest range stands for it.
func (r *rule) retryAfter(e *Engine, ev *Event, s Stage, now time.Time) time.Duration {
	refuses := (&Verdict{Action: r.Then}).RefusesAt(s)
	clears := func(c *condition) time.Duration {
		key := c.key(ev)
		if !c.counter.Takes(key) || !r.AllowSharedKey && c.shared(ev, e.own) {
			return 0 // does not hold, and will not
		}
		own, leaky := ev.ownAmount(c, key)
		if !refuses {
			leaky = 0
		}
		if wait, ok := c.clears(ev, key, own, leaky, now); ok {
			return wait
		}
		return r.longest()
	}
	wait := r.longest()
	for i := range r.all {
		wait = min(wait, clears(&r.all[i]))
	}
	if len(r.any) == 0 {
		return wait
	}
	var all time.Duration
	for i := range r.any {
		all = max(all, clears(&r.any[i]))
	}
	return min(wait, all)
}

// longest is the longest range of the rule's conditions.
func (r *rule) longest() time.Duration {
	var longest time.Duration
	for _, list := range [][]condition{r.all, r.any} {
		for i := range list {
			longest = max(longest, list[i].span())
		}
	}
	return longest
}

func (p *Policy) seriesNames() []string {
	names := make([]string, len(p.Series))
	for i, s := range p.Series {
		names[i] = s.Name
	}
	return names
}

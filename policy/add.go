package policy

import (
	"log/slog"
	"time"

	"github.com/audit-milter/audit-milter/series"
)

// add is an Add ready to count.
type add struct {
	Add
	*Lasting
}

// counted is an amount that an event has added.
type counted struct {
	add    *add
	key    series.Key
	amount int64
	window series.Window
}

// add counts the event in every series that wants it, also behind one whose
// `when` fails; it returns the first failure.
func (e *Engine) add(ev *Event, s Stage, now time.Time) (err error) {
	for _, a := range e.stages[s].adds {
		if a.When.unknown(ev) {
			continue
		}
		holds, whenErr := a.When.holds(ev)
		if whenErr != nil && err == nil {
			err = whenErr
		}
		if holds && whenErr == nil {
			e.count(ev, s, a, now)
		}
	}
	return err
}

func (e *Engine) count(ev *Event, s Stage, a *add, now time.Time) {
	key := a.Key.of(ev, a.Definition.Type)
	if !a.takes(key) || a.over.Load() {
		return
	}
	if a.distinct != nil {
		e.show(ev, s, a, key, now)
		return
	}
	n := a.Amount.of(ev)
	w := a.series.Add(key, n, now)
	ev.state.counted = append(ev.state.counted, counted{a, key, n, w})
	e.log.add(ev, s, a.Definition.Name, key, slog.Int64("amount", n))
}

// of is the amount in this event.
func (a Amount) of(ev *Event) int64 {
	if a.From {
		return int64(attributes[a.Attr].number(ev))
	}
	return a.N
}

// takeBack undoes the leaky adds of the event in hand, each in the window that
// it was added to.
func (e *Engine) takeBack(ev *Event, s Stage) {
	for _, c := range ev.state.counted {
		if c.add.Leaky && !c.add.over.Load() {
			c.add.series.AddTo(c.key, -c.amount, c.window)
			e.log.add(ev, s, c.add.Definition.Name, c.key, slog.Int64("amount", -c.amount))
		}
	}
}

// ownAmount is what the event in hand has added to the condition's count, and
// the part of it that a refusal takes back.
func (ev *Event) ownAmount(c *condition, key series.Key) (own, leaky int64) {
	for _, done := range ev.state.counted {
		if done.add.Counter != c.total || !c.covers(key, done.key) {
			continue
		}
		own = series.Plus(own, done.amount)
		if done.add.Leaky {
			leaky = series.Plus(leaky, done.amount)
		}
	}
	return own, leaky
}

// refusalAmount is what the refusal of the event in hand will add to the condition's
// count, at `refused`.
func (e *Engine) refusalAmount(ev *Event, c *condition, key series.Key, v *Verdict) (amount int64) {
	ev.Outcome = v.outcome()
	for _, a := range e.stages[Refused].adds {
		if a.Counter != c.total || a.When.unknown(ev) {
			continue
		}
		k := a.Key.of(ev, a.Definition.Type)
		if holds, err := a.When.holds(ev); holds && err == nil && a.takes(k) && c.covers(key, k) {
			amount = series.Plus(amount, a.Amount.of(ev))
		}
	}
	ev.Outcome = Outcome{}
	return amount
}

// covers reports whether other counts in the condition's count of key.
func (c *condition) covers(key, other series.Key) bool {
	if !c.def.Type.IsAddress() {
		return key == other
	}
	return c.Mask.Of(key.Addr()).Contains(other.Addr())
}

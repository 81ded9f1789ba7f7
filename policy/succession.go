package policy

import (
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// Changes say what became of the series when one policy followed another: by
// name, each in one of their lists, in the order of the configuration.
type Changes struct {
	Kept     []string   // not changed: the very same, with their counts
	Reshaped []Reshaped // changed: made anew, with what could be carried over
	Begun    []string   // new, and empty
	Dropped  []string   // gone, with their counts

	Freed []string // rules whose penalties are dropped: none of that name and mode gives any
}

// Reshaped is a series that a reload has changed.
type Reshaped struct {
	Name string
	Lost string // what of its counts could not be carried over, in words; "" for nothing
}

// Successor prepares an engine for the policy that follows this engine's.
// Series that did not change are the same in both, and so are open_sessions, the
// penalties of rules of the same name, the watch over the clock and what the log
// holds back; a series that changed takes over what it
// can of the counts as they are at Options.Start. Options.Monotonic is not looked at.
//
// This engine goes on until [Engine.Retire]. What it adds to a series while that is
// carried over can be missed there.
func (e *Engine) Successor(p *Policy, o Options) (*Engine, Changes, error) {
	now := o.Start
	next := &Engine{
		policy: p,
		uses:   p.uses(),
		own:    make(map[netip.Addr]bool),
		notify: o.Notify,
		open:   e.open,
		clock:  e.clock,
		log:    newDecisionLog(o.Log, p.LogRepeats, e.log.held, &e.stats.repeats),
		stats:  e.stats,
	}
	for _, addr := range o.OwnAddresses {
		next.own[addr.Unmap()] = true
	}
	var changes Changes
	for _, s := range p.Series {
		l, err := NewLasting(s.Definition, s.Distinct, p.masks(s.Name))
		if err != nil {
			return nil, changes, err
		}
		if s.Replicate != None {
			l.replicate()
		}
		if !now.IsZero() {
			l.Counter.Begin(now)
		}
		l = changes.follow(e.Lasting(s.Name), l, now)
		next.series = append(next.series, l)
		next.planAdds(s, l)
	}
	for _, l := range e.series {
		if next.Lasting(l.Definition.Name) == nil {
			changes.Dropped = append(changes.Dropped, l.Definition.Name)
		}
	}
	for _, r := range p.Rules {
		if err := next.planRule(r); err != nil {
			return nil, changes, fmt.Errorf("rule %q: %w", r.Name, err)
		}
	}
	next.CarryPenalties(e, now)
	for _, r := range e.penalizing {
		if next.giver(r.Name, r.penalties.shadow) == nil && len(r.penalties.list(r.Name, now)) > 0 {
			changes.Freed = append(changes.Freed, r.Name)
		}
	}
	return next, changes, nil
}

// follow is the series from before if it serves as the new one, else the new one.
func (c *Changes) follow(before, l *Lasting, now time.Time) *Lasting {
	name := l.Definition.Name
	switch {
	case before == nil:
		c.Begun = append(c.Begun, name)
	case before.serves(l):
		c.Kept = append(c.Kept, name)
		return before
	default:
		c.Reshaped = append(c.Reshaped, Reshaped{name, l.CarryFrom(before, now)})
	}
	return l
}

// Retire ends the adds to the series that the successor has not got, once it is
// in use, and logs what there is to say of them. Sessions in the middle of a
// message go on to be judged by this engine, and to count in the series that
// both have. Nothing is left to be closed when the last of them has gone.
func (e *Engine) Retire(successor *Engine) {
	for _, l := range e.series {
		if !slices.Contains(successor.series, l) {
			l.over.Store(true)
			l.tell(&e.log)
		}
	}
}

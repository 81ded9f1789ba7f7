package policy

import (
	"errors"
	"slices"
)

// Restored is what was kept of the time before the daemon started.
type Restored struct {
	Series    []*Lasting // each name once; of one that replicates, what this node has counted
	Penalties []Penalty
}

// Restore is [NewEngine] with what was kept. A series that is as the policy has it
// becomes the engine's own, the same pointer; one that changed goes over as at a
// reload. One that persists no longer is dropped and begins empty, so the changes
// have it in both lists. A penalty runs on if its rule has the same mode and gives
// any, for no longer than that.
//
// Options.Start is the time at which all that happens; it is an error that there is none.
func Restore(r Restored, p *Policy, o Options) (*Engine, Changes, error) {
	if o.Start.IsZero() {
		return nil, Changes{}, errors.New("nothing can be restored without a time at which it is: Options.Start needs one")
	}
	before := noEngine(o)
	var dropped []string
	for _, l := range r.Series {
		s := p.Find(l.Definition.Name)
		if s == nil || !s.Persist {
			dropped = append(dropped, l.Definition.Name)
			continue
		}
		if s.Replicate != None {
			l.replicate()
		}
		before.series = append(before.series, l)
	}
	e, changes, err := before.Successor(p, o)
	if err != nil {
		return nil, changes, err
	}
	changes.Dropped = dropped
	for _, penalty := range r.Penalties {
		if e.giver(penalty.Rule, penalty.Shadow) == nil && penalty.Until.After(o.Start) {
			changes.Freed = append(changes.Freed, penalty.Rule)
		}
		e.SetPenalty(penalty, o.Start)
	}
	slices.Sort(changes.Freed)
	changes.Freed = slices.Compact(changes.Freed)
	return e, changes, nil
}

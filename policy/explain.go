package policy

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/audit-milter/audit-milter/series"
)

// Explanation is what the engine has on a key: an address, a block or a text.
type Explanation struct {
	Key   string      // in the spelling of addresses, or of the first series that takes it
	Held  []Holding   // in the order of the configuration; an address is followed by its networks
	Rules []RuleState // in the order of the configuration
}

// Holding is what a series has of the key, or of a network that it is in.
type Holding struct {
	Counter
	Target
	Counts []int64 // of each window, the current one first
	Total  int64   // over all windows; of different values, their union
}

// Explain tells what the engine has on a key, spelt as a person writes it: who
// holds it, and each rule of which a condition's series holds it, or its network
// under the condition's mask, or for which a penalty runs; with all, each rule that
// could read it. Rules are judged by the code that decides.
//
// A text can be a user, a sender or anything else: it is taken for what it is held
// as. Conditions whose key is another attribute depend on the event, and so do
// those that tell smaller networks apart than the block that is asked for.
//
// It is an error that no series takes such a key.
func (e *Engine) Explain(written string, all bool, now time.Time) (*Explanation, error) {
	k := known{engine: e, now: now, targets: make(map[Counter]Target), roles: make(map[string]bool)}
	x := &Explanation{}
	for _, c := range e.Counters() {
		t, err := e.ParseTarget(c, written, now)
		if err != nil {
			continue
		}
		k.targets[c] = t
		if x.Key == "" || t.Key.Addr().IsValid() {
			x.Key = t.String()
		}
		x.Held = append(x.Held, k.held(c, t)...)
	}
	if len(k.targets) == 0 {
		return nil, fmt.Errorf("no series takes a key such as %q", written)
	}
	k.findRoles()
	for _, r := range e.rules {
		if roles := k.rolesIn(r, all); len(roles) > 0 {
			x.Rules = append(x.Rules, k.judge(r, roles))
		}
	}
	return x, nil
}

// known is what is known of the key that is asked for.
type known struct {
	engine  *Engine
	now     time.Time
	targets map[Counter]Target // what it is to each series that takes it
	roles   map[string]bool    // the keys of conditions, such as sasl_username, as which it is held
	room    []int64
}

// held is what a series has of the target and of its networks under the masks that
// rules name, the smallest first.
func (k *known) held(c Counter, t Target) (held []Holding) {
	targets := []Target{t}
	if t.Key.Addr().IsValid() {
		for _, m := range k.engine.policy.masks(c.Definition().Name) {
			if block := m.Of(t.Key.Addr()); block.Bits() < t.Block().Bits() {
				targets = append(targets, Target{series.AddrKey(block.Addr()), m})
			}
		}
	}
	slices.SortStableFunc(targets, func(a, b Target) int { return cmp.Compare(blockBits(b), blockBits(a)) })
	targets = slices.CompactFunc(targets, func(a, b Target) bool { return blockBits(a) == blockBits(b) })
	for _, t := range targets {
		counts, _ := c.Counts(nil, t.Key, t.Mask, k.now)
		if anyCounts(counts) {
			total := c.Count(t.Key, t.Mask, 0, c.Definition().Windows-1, k.now)
			held = append(held, Holding{c, t, counts, total})
		}
	}
	return held
}

// blockBits is how long the target's network is; 0 for a text.
func blockBits(t Target) int {
	if addr := t.Key.Addr(); addr.IsValid() {
		return t.Block().Bits()
	}
	return 0
}

// findRoles notes as what the key is held.
func (k *known) findRoles() {
	for _, r := range k.engine.rules {
		for c := range r.compiled() {
			if k.takes(c) && k.holds(c) {
				k.roles[c.Key.String()] = true
			}
		}
		for _, c := range r.decisive() {
			if k.penalty(r, &c) > 0 {
				k.roles[c.Key.String()] = true
			}
		}
	}
}

// takes reports whether the key, all of it, has one value of the condition.
func (k *known) takes(c *condition) bool {
	t, ok := k.targets[c.total]
	return ok && (!t.IsBlock() || c.merges(t.Block()))
}

// merges reports whether the condition counts all of a block as one.
func (c *condition) merges(block netip.Prefix) bool {
	return c.finest().Of(block.Addr()).Bits() <= block.Bits()
}

// holds reports whether the condition's series counts the key in any window.
func (k *known) holds(c *condition) bool {
	counts, _ := c.counts(k.targets[c.total].Key, &k.room, k.now)
	return anyCounts(counts)
}

// penalty is how long one runs for the key.
func (k *known) penalty(r *rule, c *condition) time.Duration {
	if r.penalties == nil || !k.takes(c) {
		return 0
	}
	return r.penalty(k.engine, c, k.targets[c.total].Key, k.now)
}

// rolesIn are those that the key has in a rule that is to be shown; none for any
// other. With all it is also taken for what it is not held as, where the rule has
// nothing else.
func (k *known) rolesIn(r *rule, all bool) map[string]bool {
	roles, could, shown := make(map[string]bool), make(map[string]bool), all
	for c := range r.compiled() {
		role := c.Key.String()
		if !k.takes(c) {
			continue
		}
		could[role] = true
		if k.roles[role] {
			roles[role] = true
			shown = shown || k.holds(c) || k.penalty(r, c) > 0
		}
	}
	switch {
	case !shown:
		return nil
	case len(roles) == 0:
		return could
	}
	return roles
}

// judge is what the rule makes of the key.
func (k *known) judge(r *rule, roles map[string]bool) RuleState {
	s := RuleState{Rule: r.Rule, Shadow: r.Shadow || k.engine.policy.Shadow}
	for i := range r.all {
		s.If = append(s.If, k.evaluate(r, &r.all[i], roles))
	}
	for i := range r.any {
		s.Any = append(s.Any, k.evaluate(r, &r.any[i], roles))
	}
	unsure := false // whether a penalty runs for what else an event has
	for i, c := range r.decisive() {
		if roles[c.Key.String()] {
			s.Penalty = max(s.Penalty, k.penalty(r, &c))
		}
		unsure = unsure || s.decisive()[i].Holds == Depends && r.penalties != nil && r.penalties.len.Load() > 0
	}
	s.conclude(unsure)
	if s.Fires == Yes {
		s.Ends = r.ends(s.Penalty, func(c *condition, least time.Duration) Ending { return k.clears(r, c, roles, least) })
	}
	return s
}

// clears is when the condition does not hold, not before some time. One that does
// not hold now may by then.
func (k *known) clears(r *rule, c *condition, roles map[string]bool, least time.Duration) Ending {
	if !k.takes(c) || !roles[c.Key.String()] {
		return Ending{false, least}
	}
	key := k.targets[c.total].Key
	if !r.asks(k.engine, c, key) {
		return Ending{true, least} // does not hold, and will not
	}
	if after, known := c.clears(key, 0, 0, least, &k.room, k.now); known {
		return Ending{true, after}
	}
	_, holds, _ := r.meets(k.engine, c, key, &k.room, k.now)
	return Ending{!holds && (least == 0 || c.onlyFalls()), least}
}

// evaluate is what the condition says of the key.
func (k *known) evaluate(r *rule, c *condition, roles map[string]bool) ConditionState {
	s := ConditionState{Condition: &c.Condition, Holds: Depends}
	if !k.takes(c) || !roles[c.Key.String()] {
		return s
	}
	key := k.targets[c.total].Key
	n, holds, shared := r.meets(k.engine, c, key, &k.room, k.now)
	s.Measure, s.Holds, s.Shared = c.measure(key, n), No, shared
	if holds {
		s.Holds = Yes
		s.Ends.After, s.Ends.Known = c.clears(key, 0, 0, 0, &k.room, k.now)
	}
	return s
}

package policy

import (
	"math"
	"time"
)

// Whether is what can be said of a key alone, without an event.
type Whether uint8

// What can be said.
const (
	No Whether = iota
	Yes
	Depends // on what else an event has
)

var whetherNames = [...]string{"no", "yes", "depends"}

func (w Whether) String() string { return whetherNames[w] }

// RuleState is what a rule makes of the key now.
type RuleState struct {
	Rule    *Rule
	Shadow  bool // judged and not enforced, by its own mode or that of all
	If, Any []ConditionState
	Fires   Whether       // where its `when` holds
	Penalty time.Duration // that still runs; 0 for none
	Ends    Ending        // when it does not fire any more, where it does
}

// ConditionState is what a condition says of the key now.
type ConditionState struct {
	Condition *Condition
	Measure           // the zero Measure where Holds depends
	Holds     Whether // it depends where the key is none of this condition's
	Shared    bool    // it would hold, but the rule excepts keys that many share
	Ends      Ending  // when it does not hold any more, where it does
}

// Ending is when something ends if nothing more arrives.
type Ending struct {
	Known bool
	After time.Duration // from now; where it is not known, not before that
}

// conclude says from the conditions and the penalty whether the rule fires.
func (s *RuleState) conclude(unsure bool) {
	s.Fires = s.hold()
	switch {
	case s.Penalty > 0:
		s.Fires = Yes
	case s.Fires == No && unsure:
		s.Fires = Depends
	}
}

// hold reports whether all of `if` and one of `any` hold.
func (s *RuleState) hold() Whether {
	answer := Yes
	for _, c := range s.If {
		answer = answer.and(c.Holds)
	}
	if len(s.Any) == 0 {
		return answer
	}
	one := No
	for _, c := range s.Any {
		one = one.or(c.Holds)
	}
	return answer.and(one)
}

func (w Whether) and(b Whether) Whether {
	switch {
	case w == No || b == No:
		return No
	case w == Yes && b == Yes:
		return Yes
	}
	return Depends
}

func (w Whether) or(b Whether) Whether {
	switch {
	case w == Yes || b == Yes:
		return Yes
	case w == No && b == No:
		return No
	}
	return Depends
}

func (e Ending) sooner(other Ending) Ending {
	if other.After < e.After || other.After == e.After && other.Known {
		return other
	}
	return e
}

func (e Ending) later(other Ending) Ending {
	return Ending{e.Known && other.Known, max(e.After, other.After)}
}

// ends is when the rule does not fire any more, not before a penalty ends: when the
// first of `if` does not hold or none of `any`, whichever is sooner. It is told when
// each condition does not hold, not before some time.
func (r *rule) ends(penalty time.Duration, clears func(c *condition, least time.Duration) Ending) Ending {
	ends := Ending{true, math.MaxInt64}
	for i := range r.all {
		ends = ends.sooner(clears(&r.all[i], penalty))
	}
	if len(r.any) > 0 {
		ends = ends.sooner(r.noneHolds(penalty, clears))
	}
	return ends
}

// noneHolds is when none of `any` holds. One that has cleared can hold again when the
// next one does not, so they are asked until they agree.
func (r *rule) noneHolds(least time.Duration, clears func(c *condition, least time.Duration) Ending) Ending {
	for {
		all := Ending{true, least}
		for i := range r.any {
			all = all.later(clears(&r.any[i], all.After))
		}
		if all.After == least {
			return all
		}
		least = all.After
	}
}

// decisive are the conditions that a penalty can be about.
func (s *RuleState) decisive() []ConditionState {
	if len(s.If) > 0 {
		return s.If[:1]
	}
	return s.Any
}

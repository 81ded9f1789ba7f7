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

// conclude says from the conditions and the penalty whether the rule fires, and
// until when.
func (s *RuleState) conclude(unsure bool) {
	s.Fires = s.hold()
	switch conditions := s.Fires; {
	case s.Penalty > 0:
		s.Fires = Yes
		s.Ends = Ending{true, s.Penalty}
		if conditions != No {
			s.Ends = s.Ends.later(s.lasts())
		}
	case conditions == Yes:
		s.Ends = s.lasts()
	case conditions == No && unsure:
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

// lasts is when the conditions do not hold any more: the first of `if`, the last of
// `any`, whichever is sooner.
func (s *RuleState) lasts() Ending {
	ends := Ending{true, math.MaxInt64}
	for _, c := range s.If {
		ends = ends.sooner(c.Ends)
	}
	if len(s.Any) == 0 {
		return ends
	}
	last := Ending{Known: true}
	for _, c := range s.Any {
		if c.Holds != No {
			last = last.later(c.Ends)
		}
	}
	return ends.sooner(last)
}

func (e Ending) sooner(other Ending) Ending {
	return Ending{e.Known && other.Known, min(e.After, other.After)}
}

func (e Ending) later(other Ending) Ending {
	return Ending{e.Known && other.Known, max(e.After, other.After)}
}

// decisive are the conditions that a penalty can be about.
func (s *RuleState) decisive() []ConditionState {
	if len(s.If) > 0 {
		return s.If[:1]
	}
	return s.Any
}

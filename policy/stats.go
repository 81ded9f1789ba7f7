package policy

import (
	"sync"
	"sync/atomic"
)

// Stats are what engines did. They outlive an engine: the one that takes its
// place goes on with the same Stats, so that no count goes backwards. The zero
// Stats are those of a daemon that has just begun.
type Stats struct {
	Recent Recent // what was decided last

	events   [numStages]atomic.Uint64
	failures [numStages]atomic.Uint64
	repeats  atomic.Uint64

	mu    sync.Mutex // owns the map, not the numbers
	rules map[RuleVerdict]*atomic.Uint64
}

// RuleVerdict is what one rule gives: Continue where it only marks.
type RuleVerdict struct {
	Rule    string
	Verdict Action
	Shadow  bool
}

// Events is how many events came to a stage or an outcome.
func (s *Stats) Events(at Stage) uint64 { return s.events[at].Load() }

// Failures is at how many of them the daemon itself failed. At a stage on_error
// was then the answer.
func (s *Stats) Failures(at Stage) uint64 { return s.failures[at].Load() }

// Repeats is how many verdicts the log left out as repeated ones.
func (s *Stats) Repeats() uint64 { return s.repeats.Load() }

// Decisions is how often each rule gave its verdict, also one that has not yet
// fired or that is no longer in the policy.
func (s *Stats) Decisions() map[RuleVerdict]uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	decisions := make(map[RuleVerdict]uint64, len(s.rules))
	for of, n := range s.rules {
		decisions[of] = n.Load()
	}
	return decisions
}

// decisions is where the verdicts of a rule are counted.
func (s *Stats) decisions(of RuleVerdict) *atomic.Uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.rules == nil {
		s.rules = make(map[RuleVerdict]*atomic.Uint64)
	}
	if s.rules[of] == nil {
		s.rules[of] = new(atomic.Uint64)
	}
	return s.rules[of]
}

package policy

import (
	"math/bits"
	"strings"
)

// Stage is a step of the SMTP dialogue, or an outcome: what became of it.
// Rules stand at stages, adds at stages and outcomes.
type Stage uint8

// The stages in the order in which a dialogue passes them, then the outcomes.
const (
	Connect Stage = iota
	Helo
	Mail
	Rcpt // a recipient that the MTA itself would take
	Data
	EOH // end of headers
	EOM // end of message

	RcptRefused // the MTA itself refused the recipient
	Accepted    // the message passed this filter
	Refused     // this filter tempfailed, rejected, disconnected or discarded
	Abort       // a MAIL that was not refused and whose message never got its answer at eom
	End         // the MTA closed the session

	numStages
)

var stageNames = [numStages]string{
	"connect", "helo", "mail", "rcpt", "data", "eoh", "eom",
	"rcpt_refused", "accepted", "refused", "abort", "end",
}

func (s Stage) String() string { return stageNames[s] }

// IsOutcome reports whether s is an outcome, at which only adds may stand.
func (s Stage) IsOutcome() bool { return s >= RcptRefused }

// ParseStage is the inverse of [Stage.String].
func ParseStage(name string) (Stage, bool) {
	for s, n := range stageNames {
		if n == name {
			return Stage(s), true
		}
	}
	return 0, false
}

// StageNames lists the names of all stages, then those of the outcomes.
func StageNames() []string { return stageNames[:] }

// StageSet is a set of stages and outcomes.
type StageSet uint16

// Stages returns the set of the given stages.
func Stages(stages ...Stage) StageSet {
	var set StageSet
	for _, s := range stages {
		set |= 1 << s
	}
	return set
}

// Has reports whether s is in the set.
func (set StageSet) Has(s Stage) bool { return set&(1<<s) != 0 }

// With returns the set with s in it.
func (set StageSet) With(s Stage) StageSet { return set | 1<<s }

// All yields the members in the order of their declaration.
func (set StageSet) All(yield func(Stage) bool) {
	for rest := set; rest != 0; rest &= rest - 1 {
		if !yield(Stage(bits.TrailingZeros16(uint16(rest)))) {
			return
		}
	}
}

func (set StageSet) String() string {
	var names []string
	for s := range set.All {
		names = append(names, s.String())
	}
	return strings.Join(names, ", ")
}

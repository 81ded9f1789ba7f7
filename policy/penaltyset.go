package policy

import (
	"maps"
	"time"
)

// PenaltySet are penalties without an engine: when each ends.
type PenaltySet map[PenaltyKey]time.Time

// Merge puts in a delta of [Engine.PenaltyDeltas], those of one engine in their
// order: the last one counts. It can end earlier than one before, after a step of the
// clock back.
func (s PenaltySet) Merge(delta Penalty) {
	if delta.Until.IsZero() {
		delete(s, delta.Key())
		return
	}
	s[delta.Key()] = delta.Until
}

// Forget drops those that have ended.
func (s PenaltySet) Forget(now time.Time) {
	maps.DeleteFunc(s, func(_ PenaltyKey, until time.Time) bool { return !until.After(now) })
}

// Running are those that have not ended, in no order. It forgets all others.
func (s PenaltySet) Running(now time.Time) []Penalty {
	s.Forget(now)
	running := make([]Penalty, 0, len(s))
	for k, until := range s {
		running = append(running, Penalty{Rule: k.Rule, Shadow: k.Shadow, Subject: k.Subject, Until: until})
	}
	return running
}

package policy

import "time"

// PenaltySet are penalties without an engine: when each ends. The zero Until
// makes a Penalty a key, whichever its end.
type PenaltySet map[Penalty]time.Time

// Merge puts in a delta of [Engine.PenaltyDeltas], those of one engine in their
// order: the last one counts. It can end earlier than one before, after a step of the
// clock back.
func (s PenaltySet) Merge(delta Penalty) {
	until := delta.Until
	delta.Until, delta.Over = time.Time{}, time.Time{}
	if until.IsZero() {
		delete(s, delta)
		return
	}
	s[delta] = until
}

// Running are those that have not ended, in no order. It forgets all others.
func (s PenaltySet) Running(now time.Time) []Penalty {
	running := make([]Penalty, 0, len(s))
	for p, until := range s {
		if !until.After(now) {
			delete(s, p)
			continue
		}
		p.Until = until
		running = append(running, p)
	}
	return running
}

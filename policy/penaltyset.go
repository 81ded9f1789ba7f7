package policy

import "time"

// PenaltySet are penalties without an engine: when each ends. The zero Until
// makes a Penalty a key, whichever its end.
type PenaltySet map[Penalty]time.Time

// Merge puts in a delta of [Engine.PenaltyDeltas], those of one engine in their
// order: a removal takes out, of two ends the later one stays.
func (s PenaltySet) Merge(delta Penalty) {
	until := delta.Until
	delta.Until = time.Time{}
	switch {
	case until.IsZero():
		delete(s, delta)
	case until.After(s[delta]):
		s[delta] = until
	}
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

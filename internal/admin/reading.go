package admin

import (
	"math"
	"time"

	"github.com/audit-milter/audit-milter/policy"
)

// Reading is a count and what it is compared with.
type Reading struct {
	Series          string           `json:"series"`
	Key             string           `json:"key"` // what was counted as one: an address, a network or a text
	IntervalSeconds int64            `json:"interval_seconds"`
	From            int              `json:"from"` // the newest window of the range
	To              int              `json:"to"`   // its oldest window
	Sliding         bool             `json:"sliding,omitempty"`
	Count           int64            `json:"count"`
	Compare         string           `json:"compare"`           // above, at_least, below or at_most
	Threshold       policy.Threshold `json:"threshold"`         // a number, or a text such as "50%" or "5x"
	Of              *int64           `json:"of,omitempty"`      // what a share is of
	Mean            *float64         `json:"mean,omitempty"`    // what a multiple is of, to one decimal
	Percent         *int64           `json:"percent,omitempty"` // of the threshold, rounded down; where it has a share in that
}

func readingOf(m policy.Measure) *Reading {
	r := &Reading{
		Series: m.Series, Key: m.Subject(), IntervalSeconds: seconds(m.Interval), From: m.From, To: m.To,
		Sliding: m.Sliding, Count: m.Count, Compare: m.Op.String(), Threshold: m.Threshold,
	}
	switch m.Threshold.Unit {
	case policy.Percent:
		r.Of = &m.Base
	case policy.Times:
		mean := math.Round(10*m.Mean()) / 10
		r.Mean = &mean
	}
	if percent, ok := m.Percent(); ok {
		r.Percent = &percent
	}
	return r
}

// later is a moment that comes so much later, to the full second.
func later(now time.Time, d time.Duration) *time.Time {
	t := now.Add(d + time.Second - 1).Truncate(time.Second).UTC()
	return &t
}

package policy

import (
	"iter"
	"slices"
	"time"

	"github.com/audit-milter/audit-milter/series"
)

// Counter is a series that runs: what conditions read. A range of windows has
// both ends included, and 0 is the current one.
type Counter interface {
	Definition() series.Definition

	// Takes reports whether it counts keys like this one.
	Takes(k series.Key) bool
	// Count is the total over the windows from..to of the block that k is in
	// under the mask, or of the text k; of different values, their union.
	Count(k series.Key, m series.Mask, from, to int, now time.Time) int64
	// Counts is the count of every single window, appended to dst[:0], and how
	// much of the current one has passed.
	Counts(dst []int64, k series.Key, m series.Mask, now time.Time) (counts []int64, elapsed time.Duration)
	// Covered is how many windows before the current one it has counted from
	// their begin to their end.
	Covered(now time.Time) int
	// All yields every key that counts in any window, with its counts as Counts has
	// them, which are good until the next key. It may take its time.
	All(now time.Time) iter.Seq2[series.Key, []int64]
	// Remove forgets a key and reports whether there was anything to forget.
	Remove(k series.Key) bool
	// Len is how many keys there are.
	Len() int
	// Stats are what it has done since it was made.
	Stats() series.Stats

	// Begin lets it count from now on; Begun is since when it has, and Since lets it
	// have counted since then.
	Begin(now time.Time)
	Begun(now time.Time) time.Time
	Since(begun, now time.Time)

	// Follow, Unfollow, Deltas, Snapshot and Merge are those of a [series.Series].
	Follow()
	Unfollow()
	Deltas(yield func(series.Delta))
	Snapshot() series.Snapshot
	Merge(d series.Delta, now time.Time) (changed bool)
}

var (
	_ Counter = (*series.Series)(nil)
	_ Counter = (*series.Distinct)(nil)
)

// Counters are the engine's series, in the order of the configuration, and
// open_sessions behind them.
func (e *Engine) Counters() []Counter {
	counters := make([]Counter, 0, len(e.series)+1)
	for _, l := range e.series {
		counters = append(counters, l.Counter)
	}
	return append(counters, e.open.Counter)
}

// Open is open_sessions.
func (e *Engine) Open() *Lasting { return e.open }

// Counter is the series of that name; nil when there is none.
func (e *Engine) Counter(name string) Counter {
	if l := e.Lasting(name); l != nil {
		return l.Counter
	}
	return nil
}

// Lasting is the series of that name, also open_sessions; nil when there is none.
func (e *Engine) Lasting(name string) *Lasting {
	if name == OpenSessions {
		return e.open
	}
	i := slices.IndexFunc(e.series, func(l *Lasting) bool { return l.Definition.Name == name })
	if i < 0 {
		return nil
	}
	return e.series[i]
}

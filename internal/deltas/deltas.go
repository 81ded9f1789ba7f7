// Package deltas collects what the series of an engine, and its penalties, show anew
// in each tick, and hands it to all who keep it: the journal of what persists, the
// history of what is serialized, the cluster of what replicates.
package deltas

import (
	"time"

	"github.com/audit-milter/audit-milter/policy"
	"github.com/audit-milter/audit-milter/series"
)

// Interval is the time of a tick.
const Interval = 100 * time.Millisecond

// Batch is what is new in one tick. It is not to be changed, and may be kept.
type Batch struct {
	Number uint64    // higher than that of every batch before, over restarts too; at least the milliseconds since 1970 when the daemon started
	Now    time.Time // without a monotonic reading

	// Begin says that a snapshot of all that persists or replicates begins with this batch, End that
	// it is complete with it. A snapshot that has begun may never be complete: another
	// one begins.
	Begin, End bool

	Series    []Series         // those with deltas; at Begin all that persist, serialize or replicate
	Penalties []policy.Penalty // in this order; the zero Until: removed. At Begin all that run stand behind those that changed: who starts there forgets all others
}

// Series is what one series shows, of one that replicates what this node counts: others
// are told of by themselves.
type Series struct {
	policy.Kept
	Begun  time.Time      // at Begin: since when it has counted
	Deltas []series.Delta // those that are wishes first
}

// Taker keeps batches. Its methods are called from one goroutine and never wait for
// a disk or a network.
type Taker interface {
	// Take takes the next batch.
	Take(*Batch)
	// WantsSnapshot reports whether a snapshot is to begin.
	WantsSnapshot() bool
}

// Slow is a Taker that snapshots go on to no faster than it passes them on.
type Slow interface {
	Taker
	// IsBusy reports whether the next part of a snapshot is to wait for a tick. What is
	// new does not wait.
	IsBusy() bool
}

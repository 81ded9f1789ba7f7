package history

import (
	"maps"
	"math"
	"slices"
	"time"

	"github.com/audit-milter/audit-milter/internal/deltas"
	"github.com/audit-milter/audit-milter/policy"
	"github.com/audit-milter/audit-milter/series"
)

// account is what a series has counted that is not yet on its way to a file.
type account struct {
	identity
	kept    policy.Kept
	node    string
	share   bool    // another node's
	held    bool    // of a share: its snapshot is being told, and nothing is written
	last    uint64  // of a share: the number of the last batch
	before  earlier // the files there were at the start; none when no batch from before comes any more
	windows map[int64]*openWindow

	// newest is the newest window of which something was written, in seconds since 1970.
	newest int64
}

// openWindow is what a window has.
type openWindow struct {
	counts  map[series.Key]int64 // nil where different values are counted
	whole   bool                 // of a share: they are all that the node has counted in it, also before the start
	due     time.Time            // when it is written
	through uint64               // the last batch that is written already
}

func newAccount(id identity, kept policy.Kept, before earlier) *account {
	a := &account{identity: id, kept: kept, before: before, windows: make(map[int64]*openWindow), newest: math.MinInt64}
	if kept.Persist || !id.distinct { // of a distinct one that begins anew there is a further estimate
		a.newest = before.newest(id)
	}
	return a
}

// grace is how long after its end a window is still waited for.
func (a *account) grace() time.Duration { return min(a.interval/4, 10*time.Second) }

func (a *account) starts() []int64 { return slices.Sorted(maps.Keys(a.windows)) }

// counter is what estimates are read from: what the node itself has shown. Nil where
// nothing is known of it any more.
func (a *account) counter() policy.Counter {
	if a.share {
		return a.kept.Share(a.node)
	}
	return a.kept.Share("")
}

// over reports whether a window is to be written: its time has come, or the clock has
// stepped back so far that it cannot be the current one.
func (a *account) over(start int64, now time.Time) bool {
	if a.share { // by the other node's clock
		return !now.Before(a.windows[start].due)
	}
	return !now.Before(a.windows[start].due) || now.Before(time.Unix(start, 0).Add(-a.interval))
}

// add adds what a batch tells, unless it is in a file already.
func (a *account) add(d *series.Delta, b *deltas.Batch, replayed bool) {
	switch {
	case a.distinct:
		if !d.Removed && d.Start > a.newest && (replayed || d.For != series.Newer) {
			a.window(d.Start, b.Now)
		}
	case d.For == series.Newer: // it was counted before
	case d.Removed:
		if int(d.Bits) == d.Key.Addr().BitLen() {
			a.forget(d.Key, b.Number)
		}
	default:
		if win := a.window(d.Start, b.Now); win.through < b.Number {
			win.counts[d.Key] = series.Plus(win.counts[d.Key], d.Amount)
		}
	}
}

// window is the one that begins then, which is opened if it is not. Of another node none is
// open for longer than an interval: if its clock is a day ahead all would be kept for a day.
func (a *account) window(start int64, now time.Time) *openWindow {
	win := a.windows[start]
	if win == nil {
		due := time.Unix(start, 0).Add(a.interval)
		if latest := now.Add(a.interval); a.share && due.After(latest) {
			due = latest
		}
		if due.Before(now) {
			due = now
		}
		win = &openWindow{due: due.Add(a.grace()), through: a.before.through(a.identity, start), whole: a.share && start > a.newest}
		a.windows[start] = win
	}
	if win.counts == nil && !a.distinct {
		win.counts = make(map[series.Key]int64)
	}
	return win
}

// forget takes a key out of what is not written. Of a block that is removed each key is
// told that the series has, and what others had stays.
func (a *account) forget(k series.Key, number uint64) {
	for _, win := range a.windows {
		if win.through < number {
			delete(win.counts, k)
		}
	}
}

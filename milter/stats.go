package milter

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/audit-milter/audit-milter/policy"
)

// Stats are what a server did since it was made. They can be read at any time.
type Stats struct {
	Sessions       atomic.Uint64 // begun
	TurnedAway     atomic.Uint64 // connections above max_sessions, told on_error
	Overflow       atomic.Uint64 // those above them, closed at once
	NotAllowed     atomic.Uint64 // connections from elsewhere than allow, closed at once
	AcceptFailures atomic.Uint64 // connections that could not be taken; tried again

	Delayed   atomic.Int64  // answers that wait now
	Delays    atomic.Uint64 // answers that waited
	Undelayed atomic.Uint64 // answers that should have waited, above max_delayed

	Malformed atomic.Uint64 // connections closed for what came
	Panics    atomic.Uint64 // sessions whose own code failed
	TimedOut  struct {      // connections closed, by the one of Timeouts that was over
		Negotiate, Frame, Write, Idle atomic.Uint64
	}

	// Latency is how long the steps of the dialogue took: from the moment at
	// which the frame was read until its verdict was there. It is what the MTA
	// waits for but for the network; the delay that a rule asks for comes after
	// it. What came in one read came at one moment, so a frame's time has in it
	// those that were before it.
	Latency [policy.RcptRefused + 1]Histogram
}

// ended counts why a connection ended, where that is not as it should be.
func (s *Stats) ended(err error) {
	switch {
	case isMalformed(err):
		s.Malformed.Add(1)
	case errors.Is(err, errNoFirst):
		s.TimedOut.Negotiate.Add(1)
	case errors.Is(err, errUnended):
		s.TimedOut.Frame.Add(1)
	case errors.Is(err, errNoReader):
		s.TimedOut.Write.Add(1)
	case errors.Is(err, errIdle):
		s.TimedOut.Idle.Add(1)
	}
}

// Bounds are the longest durations of a histogram's buckets, but for the last
// one, which has none.
var Bounds = [...]time.Duration{
	1 * time.Microsecond, 2500 * time.Nanosecond, 5 * time.Microsecond,
	10 * time.Microsecond, 25 * time.Microsecond, 50 * time.Microsecond,
	100 * time.Microsecond, 250 * time.Microsecond, 500 * time.Microsecond,
	1 * time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond,
	10 * time.Millisecond, 25 * time.Millisecond, 50 * time.Millisecond,
	100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond,
	1 * time.Second, 2500 * time.Millisecond, 5 * time.Second,
	10 * time.Second,
}

// Histogram counts durations. The zero Histogram is empty.
type Histogram struct {
	sum     atomic.Int64 // in nanoseconds
	buckets [len(Bounds) + 1]atomic.Uint64
}

// observe finds most durations among the first buckets.
func (h *Histogram) observe(d time.Duration) {
	i := 0
	for i < len(Bounds) && d > Bounds[i] {
		i++
	}
	h.buckets[i].Add(1)
	h.sum.Add(int64(d))
}

// Read tells how many durations there were in each bucket, and their sum, which
// may have one that the buckets do not have yet or the other way round.
func (h *Histogram) Read() (buckets [len(Bounds) + 1]uint64, sum time.Duration) {
	for i := range h.buckets {
		buckets[i] = h.buckets[i].Load()
	}
	return buckets, time.Duration(h.sum.Load())
}

package policy

import (
	"sync/atomic"
	"time"
)

// clockWatch notices steps of the wall clock by a clock that no step touches.
type clockWatch struct {
	monotonic func(now time.Time) time.Duration
	offset    *atomic.Int64 // wall minus monotonic, in nanoseconds; 0 before the first reading
}

const (
	loudStep  = time.Second            // a step over this is logged
	quietStep = 100 * time.Millisecond // what slewing accumulates is forgotten at this
)

func newClockWatch(monotonic func(now time.Time) time.Duration) clockWatch {
	if monotonic == nil {
		start := time.Now()
		monotonic = func(now time.Time) time.Duration { return now.Sub(start) }
	}
	return clockWatch{monotonic, new(atomic.Int64)}
}

// step is how far the wall clock was set since the last reading, 0 when it was
// not or when another session has noticed the same step.
func (c *clockWatch) step(now time.Time) time.Duration {
	offset := now.UnixNano() - int64(c.monotonic(now))
	known := c.offset.Load()
	diff := time.Duration(offset - known)
	if diff.Abs() < quietStep || !c.offset.CompareAndSwap(known, offset) {
		return 0
	}
	if known == 0 || diff.Abs() <= loudStep {
		return 0
	}
	return diff
}

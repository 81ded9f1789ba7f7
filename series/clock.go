package series

import (
	"math"
	"runtime"
	"sync/atomic"
	"time"
)

// clock turns readings of the wall clock into numbers of windows. A step
// forward is time that passed; a step back of less than one interval holds the
// clock at the newest time seen; a larger one begins a new timeline, on which
// the newest window is the current one. So a window's number never goes back.
//
// A session may come late with a reading that it took before another's. Go's
// readings carry a monotonic clock, which no step touches: by it, a reading
// taken before the newest one is known and moves nothing.
//
// A gauge has no clock, which stands at the beginning of window 0.
type clock struct {
	interval int64 // nanoseconds
	line     atomic.Pointer[timeline]
	first    atomic.Int64 // the first window that was there from its begin; never before the first reading
}

// timeline is how times and numbers of windows belong together between two
// steps back.
type timeline struct {
	offset int64        // added to floor(time / interval), so that numbers go on over a step back
	newest atomic.Int64 // the newest time seen, in nanoseconds since 1970, or retired
	taken  atomic.Int64 // when that was read, by the monotonic clock since origin
}

// origin is what monotonic readings are told from; its wall time is not used.
var origin = time.Now()

const (
	never   = math.MinInt64 // newest and first, before the first reading
	retired = math.MaxInt64 // newest, once a step back is about to replace the timeline
)

func newClock(interval time.Duration) *clock {
	c := &clock{interval: int64(interval)}
	c.first.Store(never)
	c.begin(0, never, math.MinInt64)
	return c
}

// read is the window at now, by the timeline's number, and how much of it has
// passed.
func (c *clock) read(now time.Time) (w int64, elapsed time.Duration) {
	if c == nil {
		return 0, 0
	}
	line, t := c.advance(now)
	w = floorDiv(t, c.interval)
	return w + line.offset, time.Duration(t - w*c.interval)
}

// held is the time that now counts as: a later one, while a step back holds the clock
// and would hold one of that interval.
func (c *clock) held(now time.Time, interval time.Duration) time.Time {
	_, t := c.advance(now)
	if t-now.UnixNano() >= int64(interval) {
		return now
	}
	return time.Unix(0, t)
}

// covered is how many windows before the one at now were there from their begin.
func (c *clock) covered(now time.Time) int64 {
	if c == nil {
		return 0
	}
	w, _ := c.read(now)
	first := c.first.Load()
	if first == never {
		return 0
	}
	return max(w-first, 0)
}

// begun is when the first window began that was there from its begin, by the
// clock as it is now.
func (c *clock) begun(now time.Time) int64 {
	w, _ := c.read(now)
	return (floorDiv(now.UnixNano(), c.interval) - (w - c.first.Load())) * c.interval
}

// keeps is when the first window began that was there from its begin, of the last so
// many.
func (c *clock) keeps(windows int, now time.Time) int64 {
	return max(c.begun(now), (floorDiv(now.UnixNano(), c.interval)-int64(windows-1))*c.interval)
}

// since lets the windows from that time on have been there from their begin.
func (c *clock) since(begun int64, now time.Time) {
	w, _ := c.read(now)
	first := w - floorDiv(now.UnixNano(), c.interval) - floorDiv(-begun, c.interval)
	if first < c.first.Load() {
		c.first.Store(first)
	}
}

// current is the newest window read so far; lower than any before the first.
func (c *clock) current() int64 {
	if c == nil {
		return 0
	}
	for {
		line := c.line.Load()
		if t := line.newest.Load(); t != retired {
			return floorDiv(t, c.interval) + line.offset
		}
	}
}

// start is when a window begins, in seconds since 1970, as the clock has it now:
// after a step back, the windows before it begin earlier than they did.
func (c *clock) start(w int64) int64 {
	return (w - c.line.Load().offset) * (c.interval / int64(time.Second))
}

// window is the one that begins at that second or has it.
func (c *clock) window(start int64) int64 {
	if c == nil {
		return 0
	}
	return floorDiv(start, c.interval/int64(time.Second)) + c.line.Load().offset
}

// advance is the time that now counts as, and the timeline that it is on. A
// timeline is retired before its successor stands, and read only if it is not
// retired: so two readers can disagree about the time, but never about which
// window has which number.
func (c *clock) advance(reading time.Time) (*timeline, int64) {
	now := reading.UnixNano()
	monotonic := reading != reading.Round(0)
	for {
		line := c.line.Load()
		last := line.taken.Load()
		taken := last // a replay's, or one that was told, says nothing of when it was read
		if monotonic {
			taken = int64(reading.Sub(origin))
		}
		switch t := line.newest.Load(); judge(t, now, c.interval, taken < last) {
		case passed:
			if taken != last { // most readings are used several times, and a store takes the line from other processors
				line.taken.Store(taken)
			}
			if t == now || line.newest.CompareAndSwap(t, now) {
				if t == never {
					c.first.Store(-floorDiv(-now, c.interval) + line.offset)
				}
				return line, now
			}
		case held:
			return line, t
		case steppedBack:
			if line.newest.CompareAndSwap(t, retired) {
				c.begin(line.offset+floorDiv(t, c.interval)-floorDiv(now, c.interval), now, taken)
			}
		case replaced: // its successor is one store away
			runtime.Gosched()
		}
	}
}

func (c *clock) begin(offset, newest, taken int64) {
	line := &timeline{offset: offset}
	line.newest.Store(newest)
	line.taken.Store(taken)
	c.line.Store(line)
}

// reading is what a time means beside the newest one seen.
type reading uint8

const (
	passed      reading = iota // as late or later
	held                       // earlier by less than an interval, or read before it
	steppedBack                // earlier by an interval or more
	replaced                   // the timeline has ended
)

func judge(newest, now, interval int64, late bool) reading {
	switch {
	case newest == retired:
		return replaced
	case late:
		return held
	case now >= newest:
		return passed
	case newest-now < interval:
		return held
	}
	return steppedBack
}

// floorDiv rounds down, also before 1970, where Go's division rounds up.
func floorDiv(a, b int64) int64 {
	q := a / b
	if q*b > a {
		q--
	}
	return q
}

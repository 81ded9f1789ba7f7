package policy

import (
	"math"
	"math/bits"
	"net/netip"
	"time"

	"github.com/audit-milter/audit-milter/series"
)

// condition is a Condition ready to be evaluated.
type condition struct {
	Condition
	series *series.Series
	def    series.Definition
	single Attribute // the attribute that is the whole key
	only   bool      // single is meant
}

// reading is a condition's state for one event.
type reading struct {
	key   series.Key
	count int64 // rounded down
	holds bool
}

// read evaluates the condition. An absent key, or one that the series does not
// take, never holds.
func (c *condition) read(ev *Event, now time.Time) reading {
	key := c.Key.Of(ev, c.def.Type)
	if !c.series.Takes(key) {
		return reading{}
	}
	v := c.value(key, now)
	return reading{key, v.floor, v.meets(c.Op, c.Threshold)}
}

// value is the count of the condition's windows.
func (c *condition) value(key series.Key, now time.Time) value {
	if !c.Sliding {
		return value{floor: c.series.Count(key, c.Mask, c.From, c.To, now)}
	}
	whole := c.series.Count(key, c.Mask, 0, c.To-1, now)
	last := c.series.Count(key, c.Mask, c.To, c.To, now)
	return slide(whole, last, c.def.Interval-c.series.Elapsed(now), c.def.Interval)
}

// value is a count that may have a fraction, which only sliding makes.
type value struct {
	floor    int64
	fraction bool // there is something above floor, below 1
}

// slide is whole + last × rest/interval, exactly: Momentum's weighted average,
// for any number of whole windows.
func slide(whole, last int64, rest, interval time.Duration) value {
	hi, lo := bits.Mul64(magnitude(last), uint64(rest))
	q, r := bits.Div64(hi, lo, uint64(interval)) // rest ≤ interval, so q ≤ |last|
	part := int64(min(q, math.MaxInt64))
	if last < 0 {
		part = -part
		if r > 0 {
			part-- // floor rounds towards minus infinity
		}
	}
	return value{addCapped(whole, part), r > 0}
}

func magnitude(n int64) uint64 {
	if n < 0 {
		return uint64(-n)
	}
	return uint64(n)
}

// addCapped stops at the limits of 64 bits, as counts do.
func addCapped(a, b int64) int64 {
	sum := a + b
	switch {
	case a > 0 && b > 0 && sum < 0:
		return math.MaxInt64
	case a < 0 && b < 0 && sum >= 0:
		return math.MinInt64
	}
	return sum
}

// meets compares the exact value, fraction included.
func (v value) meets(op Op, threshold int64) bool {
	switch op {
	case Above:
		return v.floor > threshold || v.floor == threshold && v.fraction
	case AtLeast:
		return v.floor >= threshold
	case Below:
		return v.floor < threshold
	default:
		return v.floor < threshold || v.floor == threshold && !v.fraction
	}
}

// shared reports whether the key is one that many share: a loopback address,
// an address of this host unless a whole larger network is counted, or the
// null sender. Only the key itself is looked at, never the client.
func (c *condition) shared(ev *Event, key series.Key, own map[netip.Addr]bool) bool {
	if !c.only {
		return false
	}
	addr := key.Addr()
	if !c.def.Type.IsAddress() {
		switch c.single {
		case ClientAddress:
			addr = ev.ClientAddr
		case ServerAddress:
			addr = ev.ServerAddr
		default:
			return key == series.TextKey(nullSender)
		}
	}
	return addr.IsLoopback() || own[addr] && !c.coarse(addr)
}

// coarse reports whether the condition counts a network wider than one site's.
func (c *condition) coarse(addr netip.Addr) bool {
	if !c.def.Type.IsAddress() {
		return false
	}
	if addr.Is4() {
		return c.Mask.IPv4 < 24
	}
	return c.Mask.IPv6 < 64
}

// measure is what the verdict says of a reading.
func (c *condition) measure(r reading) Measure {
	m := Measure{
		Series: c.Series, Key: r.key.String(),
		From: c.From, To: c.To, Sliding: c.Sliding, Interval: c.def.Interval,
		Op: c.Op, Count: r.count, Threshold: c.Threshold,
	}
	if addr := r.key.Addr(); addr.IsValid() {
		m.Network = addr.String()
		if block := c.Mask.Of(addr); !block.IsSingleIP() {
			m.Network = block.String()
		}
	}
	return m
}

// span is how far back the condition looks.
func (c *condition) span() time.Duration {
	return time.Duration(c.To+1) * c.def.Interval
}

// clears is how long it takes until the same event, coming again with nothing
// else in between, would not meet the condition; false when that cannot be
// known or never happens. Own is what the event itself adds to the key, and
// back is the part of what it has just added that is taken back.
func (c *condition) clears(key series.Key, own, back int64, now time.Time) (time.Duration, bool) {
	if c.Op != Above && c.Op != AtLeast {
		return 0, false
	}
	counts := c.series.Counts(nil, key, c.Mask, now)
	counts[0] = addCapped(counts[0], -back)
	return clearAfter(counts, c.Condition, own, c.series.Elapsed(now), c.def.Interval)
}

// clearAfter is the arithmetic of clears. Counts are the windows as they are
// now, elapsed is how much of window 0 has passed.
func clearAfter(counts []int64, c Condition, own int64, elapsed, interval time.Duration) (time.Duration, bool) {
	for shift := 0; shift <= c.To+1; shift++ {
		from := elapsed // where in the then current window the search begins
		if shift > 0 {
			from = 0
		}
		begin := time.Duration(shift)*interval - elapsed
		if at, ok := clearWithin(counts, c, own, shift, from, interval); ok {
			return max(0, begin+at), true
		}
	}
	return 0, false
}

// clearWithin looks for the first moment at which the condition does not hold
// while the windows stand shifted by a number of windows; the result counts
// from the begin of the then current window.
func clearWithin(counts []int64, c Condition, own int64, shift int, from, interval time.Duration) (time.Duration, bool) {
	to := c.To
	if c.Sliding {
		to--
	}
	whole := shifted(counts, c.From, to, shift)
	if c.From == 0 {
		whole = addCapped(whole, own)
	}
	if !c.Sliding {
		return from, !value{floor: whole}.meets(c.Op, c.Threshold)
	}
	last := shifted(counts, c.To, c.To, shift)
	if !slide(whole, last, interval-from, interval).meets(c.Op, c.Threshold) {
		return from, true
	}
	room := c.Threshold - whole // what the last window may still weigh
	if room < 0 || last < room || last <= 0 {
		return 0, false
	}
	hi, lo := bits.Mul64(uint64(room), uint64(interval))
	q, _ := bits.Div64(hi, lo, uint64(last))
	at := interval - time.Duration(q)
	if c.Op == AtLeast {
		at++ // it still holds when the value is the threshold
	}
	return at, at < interval
}

// shifted is the sum of the windows from..to as they will stand after shift
// more windows have begun.
func shifted(counts []int64, from, to, shift int) int64 {
	var sum int64
	for i := from; i <= to; i++ {
		if i >= shift && i-shift < len(counts) {
			sum = addCapped(sum, counts[i-shift])
		}
	}
	return sum
}

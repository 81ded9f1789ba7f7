package policy

import (
	"cmp"
	"math"
	"math/bits"
	"net/netip"
	"time"

	"github.com/audit-milter/audit-milter/series"
)

// condition is a Condition ready to be evaluated.
type condition struct {
	Condition
	total    Counter // the series
	counter  Counter // the part of it that is read: the total, or this node's own
	def      series.Definition
	distinct bool    // it counts different values, of which nobody knows when they leave
	of       Counter // what a share is of
}

// key is whose count is read.
func (c *condition) key(ev *Event) series.Key { return c.Key.of(ev, c.def.Type) }

// Numbers are what a condition compares for one key at one time. They fit into
// registers: most are looked at once, and then nothing fires.
type Numbers struct {
	Count     int64 // rounded down
	Threshold Threshold
	Base      int64 // what a share is of; for a multiple, the sum over the windows of the baseline
}

// evaluate is what the condition says of a key, which may be any. An absent
// one, or one that the series does not take, never holds. The room is for
// counts.
func (c *condition) evaluate(key series.Key, room *[]int64, now time.Time) (n Numbers, holds bool) {
	if !c.counter.Takes(key) {
		return Numbers{Threshold: c.Threshold}, false
	}
	v := c.value(key, room, now)
	n = Numbers{Count: v.floor, Threshold: c.threshold(key)}
	switch c.Threshold.Unit {
	case Percent:
		n.Base = c.whole(key, now)
	case Times:
		counts, _ := c.counts(key, room, now)
		n.Base = c.earlier(counts)
	}
	return n, c.holds(v, n, now)
}

// holds compares a value with the threshold in the numbers.
func (c *condition) holds(v value, n Numbers, now time.Time) bool {
	switch c.Threshold.Unit {
	case Percent:
		return n.Base >= c.Min && c.meets(n)
	case Times:
		return n.Count >= c.Min && c.meets(n) && c.counter.Covered(now) >= c.Baseline.To
	}
	return v.meets(c.Op, n.Threshold.N)
}

// whole is what a share is of.
func (c *condition) whole(key series.Key, now time.Time) int64 {
	return c.of.Count(key, c.Of.Mask, c.Of.From, c.Of.To, now)
}

// earlier is the sum over the windows of the baseline. Of different values, the
// count of a range would be their union.
func (c *condition) earlier(counts []int64) int64 {
	return max(0, Sum(counts, c.Baseline.From, c.Baseline.To))
}

// threshold is that of the key.
func (c *condition) threshold(key series.Key) Threshold {
	t := c.Threshold
	if c.Table == nil {
		return t
	}
	if n, ok := c.Table.number(key, c.Mask); ok {
		t.N = n
	}
	return t
}

// meets compares a share or a multiple: count / base with N / scale, but
// without dividing.
func (c *condition) meets(n Numbers) bool {
	return c.Op.meets(compareProducts(n.Count, n.Threshold.scale(c.Baseline.windows()), n.Threshold.N, n.Base))
}

// value is the count of the condition's windows. What slides needs all of them
// and the time by one reading of the clock.
func (c *condition) value(key series.Key, room *[]int64, now time.Time) value {
	if !c.Sliding {
		return value{floor: c.counter.Count(key, c.Mask, c.From, c.To, now)}
	}
	counts, elapsed := c.counts(key, room, now)
	return c.valueOf(counts, elapsed)
}

// valueOf is the value of a key with these windows; of different values it is that
// only where the range is one window, and else a bound.
func (c *condition) valueOf(counts []int64, elapsed time.Duration) value {
	if !c.Sliding {
		return value{floor: Sum(counts, c.From, c.To)}
	}
	return slide(Sum(counts, 0, c.To-1), counts[c.To], c.def.Interval-elapsed, c.def.Interval)
}

// counts are all windows of the key, good until the room is used again, and how
// much of the current one has passed.
func (c *condition) counts(key series.Key, room *[]int64, now time.Time) ([]int64, time.Duration) {
	var elapsed time.Duration
	*room, elapsed = c.counter.Counts(*room, key, c.Mask, now)
	return *room, elapsed
}

// Sum adds up the windows from..to of a key's counts, as far as there are any. It
// stops at the limits of 64 bits, as counts do.
func Sum(counts []int64, from, to int) (total int64) {
	for i := max(from, 0); i <= to && i < len(counts); i++ {
		total = series.Plus(total, counts[i])
	}
	return total
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
	return value{series.Plus(whole, part), r > 0}
}

// meets compares the exact value, fraction included.
func (v value) meets(op Op, threshold int64) bool {
	comparison := cmp.Compare(v.floor, threshold)
	if comparison == 0 && v.fraction {
		comparison = 1
	}
	return op.meets(comparison)
}

// shared reports whether the key is one that many share: a loopback address,
// an address of this host unless a whole larger network is counted, or the
// null sender. Only the key itself is looked at, never the client.
func (c *condition) shared(key series.Key, own map[netip.Addr]bool) bool {
	if len(c.Key) != 1 {
		return false
	}
	switch c.Key[0].Attribute {
	case ClientAddress, ServerAddress:
		addr := key.Addr()
		if !addr.IsValid() { // in a series of texts
			addr, _ = netip.ParseAddr(key.String())
		}
		return addr.IsLoopback() || own[addr] && !c.coarse(addr)
	case Sender:
		return key.String() == nullSender
	case SenderRaw:
		sender, _ := normalAddress(key.String())
		return sender == ""
	}
	return false
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

// measure is what is said of the condition for a key.
func (c *condition) measure(key series.Key, n Numbers) Measure {
	m := Measure{
		Series: c.Series, Key: key.String(),
		From: c.From, To: c.To, Sliding: c.Sliding, Interval: c.def.Interval,
		Op: c.Op, Numbers: n, Of: c.Of, Baseline: c.Baseline,
	}
	if addr := key.Addr(); addr.IsValid() {
		m.Network = addr.String()
		if block := c.Mask.Of(addr); !block.IsSingleIP() {
			m.Network = block.String()
		}
	}
	return m
}

// finest is the mask under which each network has one value of the condition: a
// share may be of the count of smaller ones.
func (c *condition) finest() series.Mask {
	m := c.Mask
	if c.Of != nil {
		m.IPv4, m.IPv6 = max(m.IPv4, c.Of.Mask.IPv4), max(m.IPv6, c.Of.Mask.IPv6)
	}
	return m
}

// span is how far back the condition looks. Of what is open at present nobody knows
// how long it will be; a minute stands for that.
func (c *condition) span() time.Duration {
	span := time.Duration(max(c.To, c.Baseline.To)+1) * c.def.Interval
	if c.Of != nil {
		span = max(span, time.Duration(c.Of.To+1)*c.of.Definition().Interval)
	}
	return cmp.Or(span, time.Minute)
}

// clears is how long it takes, not less than a given time, until the same event,
// coming again with nothing else in between, would not meet the condition; false
// when that cannot be known or never happens. Own is what the event itself adds to
// the key, and back is the part of what it has just added that is taken back.
func (c *condition) clears(key series.Key, own, back int64, least time.Duration, room *[]int64, now time.Time) (time.Duration, bool) {
	if c.distinct || c.def.IsGauge() || c.Op != Above && c.Op != AtLeast || c.Threshold.Unit != Plain {
		return 0, false
	}
	counts, elapsed := c.counts(key, room, now)
	counts[0] = series.Plus(counts[0], -back)
	of := c.Condition
	of.Threshold = c.threshold(key)
	return clearAfter(counts, of, own, least, elapsed, c.def.Interval)
}

// onlyFalls reports whether time alone cannot make the condition hold, of those for
// which clears knows nothing: what is open now, and different values up to now, only
// become fewer.
func (c *condition) onlyFalls() bool {
	return (c.distinct || c.def.IsGauge()) && c.From == 0 && (c.Op == Above || c.Op == AtLeast) && c.Threshold.Unit == Plain
}

// clearAfter is the arithmetic of clears. Counts are the windows as they are
// now, elapsed is how much of window 0 has passed.
func clearAfter(counts []int64, c Condition, own int64, least, elapsed, interval time.Duration) (time.Duration, bool) {
	s := shifts{Condition: c, counts: counts, interval: interval}
	s.whole = Sum(counts, c.From, s.lastWhole())
	if c.From == 0 {
		s.whole = series.Plus(s.whole, own)
	}
	for ; s.shift <= c.To; s.next() {
		from := max(least-s.begins(elapsed), 0) // where in the then current window the search begins
		if from >= interval {
			continue
		}
		if at, ok := s.clearWithin(from); ok {
			return s.begins(elapsed) + at, true
		}
	}
	return max(least, s.begins(elapsed)), !value{floor: s.whole}.meets(c.Op, c.Threshold.N)
}

// shifts looks at a condition's windows as they will stand after more of them
// have begun, one after the other.
type shifts struct {
	Condition
	counts   []int64 // as they stand now
	interval time.Duration
	shift    int   // how many windows have begun
	whole    int64 // the sum of those that count whole, then
}

// begins is how long it takes until the then current window begins.
func (s *shifts) begins(elapsed time.Duration) time.Duration {
	return time.Duration(s.shift)*s.interval - elapsed
}

// lastWhole is the last window that counts whole.
func (s *shifts) lastWhole() int {
	if s.Sliding {
		return s.To - 1
	}
	return s.To
}

// next begins one more window: one enters the range, one leaves it.
func (s *shifts) next() {
	s.whole -= s.count(s.lastWhole())
	s.shift++
	s.whole += s.count(s.From)
}

// count is what window i holds then.
func (s *shifts) count(i int) int64 {
	if i -= s.shift; i < 0 {
		return 0
	}
	return s.counts[i]
}

// clearWithin is the first moment of the then current window, not before from,
// at which the condition does not hold.
func (s *shifts) clearWithin(from time.Duration) (time.Duration, bool) {
	if !s.Sliding {
		return from, !value{floor: s.whole}.meets(s.Op, s.Threshold.N)
	}
	last := s.count(s.To)
	if !slide(s.whole, last, s.interval-from, s.interval).meets(s.Op, s.Threshold.N) {
		return from, true
	}
	room := s.Threshold.N - s.whole // what the last window may still weigh
	if room < 0 || last < room || last <= 0 {
		return 0, false
	}
	hi, lo := bits.Mul64(uint64(room), uint64(s.interval))
	q, _ := bits.Div64(hi, lo, uint64(last))
	at := s.interval - time.Duration(q)
	if s.Op == AtLeast {
		at++ // it still holds when the value is the threshold
	}
	return at, at < s.interval
}

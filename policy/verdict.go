package policy

import (
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"
	"time"
)

// Verdict is what a rule, or none, answers at a stage, with the numbers that
// led to it. The zero Verdict lets the dialogue go on.
type Verdict struct {
	Action Action
	Stage  Stage  // where the rule fired: for a discard or quarantine that can be before eom
	Rule   string // "" when no rule fired, or when the daemon itself failed
	Shadow bool   // judged and logged, not enforced

	Measure // of the condition that fired, if the rule has one

	Reply   Reply         // with Tempfail, Reject and Disconnect
	Reason  string        // with Quarantine
	Delay   time.Duration // to wait before the answer, with any action
	Headers []HeaderField // at eom: to insert at the top, the first one topmost, after removing same-named ones
}

// Measure is one condition's reading: what it counted and against what.
type Measure struct {
	Series   string
	Key      string // as the series spells it
	Network  string // the block of the key under the condition's mask; "" for a text
	From, To int    // the windows
	Sliding  bool
	Interval time.Duration // of one window; 0 for a gauge
	Op       Op
	Numbers
	Of         *Reading      // what a share is of
	Baseline   Baseline      // what a multiple is of
	Penalty    time.Duration // for how long the penalty runs that fired the rule; 0 where its conditions did
	RetryAfter time.Duration // until the same event would not fire the rule; whole windows where it cannot be known
}

// Reply is an SMTP reply: code, enhanced status code and one line of printable
// ASCII, at most 900 bytes.
type Reply struct {
	Code     int
	Enhanced string
	Text     string
}

func (r Reply) String() string { return fmt.Sprintf("%d %s %s", r.Code, r.Enhanced, r.Text) }

// HeaderField is a header to insert. Value is printable ASCII on one line.
type HeaderField struct {
	Name, Value string
}

// Refuses reports whether the message or command does not pass.
func (v *Verdict) Refuses() bool {
	switch v.Action {
	case Tempfail, Reject, Disconnect, Discard:
		return true
	}
	return false
}

// RefusesAt reports whether the refusal goes out at this stage; a discard does
// so at eom only.
func (v *Verdict) RefusesAt(s Stage) bool {
	return v.Refuses() && (v.Action != Discard || s == EOM)
}

// outcome is what is known of the verdict at `refused`.
func (v *Verdict) outcome() Outcome {
	return Outcome{Verdict: v.Action.String(), Rule: v.Rule, Stage: v.Stage.String()}
}

// sentence says why: the reply, or the quarantine's reason, where the rule has
// no text of its own.
func (v *Verdict) sentence() string {
	switch {
	case v.Rule == "":
		return "temporary failure of the policy service"
	case v.Series == "" && v.Action == Quarantine:
		return "held by rule " + v.Rule
	case v.Series == "":
		return "refused by rule " + v.Rule
	}
	var b strings.Builder
	b.Grow(192) // most fit
	if v.Penalty > 0 {
		fmt.Fprintf(&b, "%s: penalty for %s, whose count in %s was %s %s", v.Rule, v.Subject(), v.Series, v.Op.Words(), v.Threshold)
	} else {
		fmt.Fprintf(&b, "%s: %d in %s for %s %s, %s %s", v.Rule, v.Count, v.Series, v.Subject(), v.span(), v.Op.Words(), v.Threshold.String())
		b.WriteString(v.base())
	}
	if v.Action == Tempfail || v.Action == Disconnect {
		fmt.Fprintf(&b, "; try again in %s", DurationText(v.RetryAfter))
	}
	return b.String()
}

// base says in words what the threshold is a share or a multiple of.
func (m *Measure) base() string {
	switch m.Threshold.Unit {
	case Percent:
		return fmt.Sprintf(" of %d in %s", m.Base, m.Of.Series)
	case Times:
		return fmt.Sprintf(" the mean of %s in windows %s", m.meanText(), windowsText(m.Baseline.From, m.Baseline.To))
	}
	return ""
}

// Mean is that of the windows of the baseline, which a multiple is of.
func (m *Measure) Mean() float64 { return float64(m.Base) / float64(m.Baseline.windows()) }

// meanText is the mean, rounded to one decimal.
func (m *Measure) meanText() string {
	return strings.TrimSuffix(strconv.FormatFloat(m.Mean(), 'f', 1, 64), ".0")
}

// Percent is the count in per cent of the threshold, rounded down; ok is false
// for a threshold that is not above 0.
func (m *Measure) Percent() (percent int64, ok bool) {
	base := m.Base
	if m.Threshold.Unit == Plain {
		base = 1
	}
	threshold := new(big.Int).Mul(big.NewInt(m.Threshold.N), big.NewInt(base))
	if threshold.Sign() <= 0 {
		return 0, false
	}
	count := new(big.Int).Mul(big.NewInt(m.Count), big.NewInt(100*m.Threshold.scale(m.Baseline.windows())))
	switch count.Div(count, threshold); {
	case count.IsInt64():
		return count.Int64(), true
	case count.Sign() < 0:
		return math.MinInt64, true
	}
	return math.MaxInt64, true
}

// Subject is the block, the address or the text that was counted.
func (m *Measure) Subject() string {
	if m.Network != "" {
		return m.Network
	}
	return m.Key
}

// span says in words which time the windows cover.
func (m *Measure) span() string {
	switch {
	case m.Interval == 0:
		return "at present"
	case m.Sliding:
		return "over the last " + DurationText(time.Duration(m.To)*m.Interval)
	case m.From == 0:
		return "over " + DurationText(time.Duration(m.To+1)*m.Interval)
	}
	return fmt.Sprintf("in windows %s of %s", m.Windows(), DurationText(m.Interval))
}

// Windows is the range of windows as the configuration spells it.
func (m *Measure) Windows() string { return windowsText(m.From, m.To) }

func windowsText(from, to int) string {
	if from == to {
		return strconv.Itoa(from)
	}
	return fmt.Sprintf("%d-%d", from, to)
}

// number is what a placeholder of the condition stands for.
func (v *Verdict) number(p placeholder) string {
	switch p {
	case countPlaceholder:
		return strconv.FormatInt(v.Count, 10)
	case thresholdPlaceholder:
		return v.Threshold.String()
	case seriesPlaceholder:
		return v.Series
	case networkPlaceholder:
		return v.Network
	case retryPlaceholder:
		return DurationText(v.RetryAfter)
	}
	panic("policy: unknown placeholder " + string(p))
}

// Words is the comparison as a sentence has it.
func (o Op) Words() string { return strings.ReplaceAll(o.String(), "_", " ") }

// FullSeconds is a duration rounded up to the second.
func FullSeconds(d time.Duration) time.Duration {
	return (d + time.Second - 1).Truncate(time.Second)
}

// DurationText is a duration in one unit, rounded up: 40 seconds, 12 minutes, 3
// hours, 2 days. Each unit is used up to twice the next one, so that rounding
// stays below a half.
func DurationText(d time.Duration) string {
	units := []struct {
		name string
		size time.Duration
	}{{"second", time.Second}, {"minute", time.Minute}, {"hour", time.Hour}, {"day", 24 * time.Hour}}
	for i, u := range units {
		n := max(1, int64((d+u.size-1)/u.size))
		if i+1 < len(units) && time.Duration(n)*u.size > 2*units[i+1].size {
			continue
		}
		if i+1 < len(units) && time.Duration(n)*u.size%units[i+1].size == 0 {
			continue
		}
		if n == 1 {
			return "1 " + u.name
		}
		return strconv.FormatInt(n, 10) + " " + u.name + "s"
	}
	panic("unreachable: the last unit takes every duration")
}

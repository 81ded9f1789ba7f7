package policy_test

import (
	"fmt"
	"math"
	"net/netip"
	"testing"
	"time"

	"github.com/audit-milter/audit-milter/policy"
	"github.com/audit-milter/audit-milter/series"
)

// count adds to a series by hand, as of a time.
func (w *world) count(name, key string, n int64, now time.Time) {
	w.t.Helper()
	k := series.TextKey(key)
	if addr, err := netip.ParseAddr(key); err == nil {
		k = series.AddrKey(addr)
	}
	w.engine.Counter(name).(*series.Series).Add(k, n, now)
}

func TestShareOfAnotherCount(t *testing.T) {
	const policyText = `
series:
  unknown: {type: ip, interval: 15m, windows: 4, add: {at: rcpt_refused}}
  recipients: {type: ip, interval: 15m, windows: 4, add: {at: [rcpt, rcpt_refused]}}
rules:
  - {name: mostly-refused, at: mail, if: {series: unknown, windows: 0-3, %s, of: {series: recipients, windows: 0-3}, min: 20}, then: tempfail}
`
	for _, row := range []struct {
		name, threshold     string
		unknown, recipients int64
		fires               bool
	}{
		{"exactly half of it is not above a half", "above: 50%", 29, 58, false},
		{"one more is", "above: 50%", 30, 58, true},
		{"exactly half of it is at least a half", "at_least: 50%", 29, 58, true},
		{"half of an odd number lies between two counts", "above: 50%", 10, 21, false},
		{"and the upper one of them is above it", "above: 50%", 11, 21, true},
		{"below half", "below: 50%", 28, 58, true},
		{"at most half", "at_most: 50%", 29, 58, true},
		{"the minimum is exactly met", "above: 50%", 20, 20, true},
		{"one below the minimum, whatever the share", "above: 50%", 19, 19, false},
		{"nor with below", "below: 50%", 0, 19, false},
		{"no denominator at all", "above: 0%", 5, 0, false},
		{"an eighth, exactly", "above: 12.5%", 5, 40, false},
		{"a bit more than an eighth", "above: 12.5%", 6, 47, true},
		{"a thousandth of a per cent counts", "above: 33.333%", 1000, 3000, true},
		{"and so does the next one", "above: 33.334%", 1000, 3000, false},
		{"more than the whole", "above: 100%", 21, 20, true},
		{"a negative count is a negative share", "below: 0%", -1, 20, true},
		{"which is above none", "above: 0%", -1, 20, false},
		{"a negative denominator is below every minimum", "at_least: 0%", -30, -20, false},
		{"counts at the limit of 64 bits", "at_least: 100%", math.MaxInt64, math.MaxInt64, true},
		{"one below that", "at_least: 100%", math.MaxInt64 - 1, math.MaxInt64, false},
		{"the lower limit", "below: 0%", -math.MaxInt64, math.MaxInt64, true},
	} {
		w := newWorld(t, fmt.Sprintf(policyText, row.threshold))
		w.count("unknown", "198.51.100.7", row.unknown, w.now)
		w.count("recipients", "198.51.100.7", row.recipients, w.now)
		v, err := w.engine.Decide(w.client("198.51.100.7"), policy.Mail, w.now)
		if fires := v.Action == policy.Tempfail; err != nil || fires != row.fires {
			t.Errorf("%s: %d %s of %d fires is %v, %v", row.name, row.unknown, row.threshold, row.recipients, fires, err)
		}
	}
}

// The two counts have windows and masks of their own, and one key.
func TestShareOfAWiderCount(t *testing.T) {
	w := newWorld(t, `
series:
  spam: {type: ip, interval: 15m, windows: 4, add: {at: accepted}}
  messages: {type: cidr, interval: 1h, windows: 2, add: {at: eom}}
rules:
  - name: much-spam
    at: mail
    if: {series: spam, windows: 0-1, above: 10%, of: {series: messages, mask: 24, windows: 1}, min: 100}
    then: reject
`)
	w.count("messages", "198.51.100.9", 50, begin.Add(-time.Hour))
	w.count("messages", "198.51.100.200", 50, begin.Add(-time.Hour))
	w.count("messages", "198.51.100.7", 1000, begin) // not in window 1
	w.count("spam", "198.51.100.7", 7, begin.Add(-15*time.Minute))
	w.count("spam", "198.51.100.7", 3, begin)
	w.count("spam", "2001:db8::7", 100, begin)
	w.expect(w.client("198.51.100.7"), policy.Mail, "continue")
	w.count("spam", "198.51.100.7", 1, begin)
	w.expect(w.client("198.51.100.7"), policy.Mail, "reject: 550 5.7.1 much-spam: 11 in spam for 198.51.100.7 over 30 minutes, above 10% of 100 in messages")
	w.expect(w.client("2001:db8::7"), policy.Mail, "continue") // messages does not take IPv6
}

func TestShareInTheLogAndTheReply(t *testing.T) {
	w := newWorld(t, `
series:
  unknown: {type: ip, interval: 15m, windows: 4, add: {at: rcpt_refused}}
  recipients: {type: ip, interval: 15m, windows: 4, add: {at: [rcpt, rcpt_refused]}}
rules:
  - name: mostly-refused
    at: mail
    if: {series: unknown, windows: 0-3, above: 50%, of: {series: recipients, windows: 0-3}, min: 20}
    then: tempfail
    reply: "{count} of {series}, above {threshold}, {retry_after}"
`)
	w.count("unknown", "198.51.100.7", 31, w.now)
	w.count("recipients", "198.51.100.7", 58, w.now)
	w.expect(w.client("198.51.100.7"), policy.Mail, "tempfail: 451 4.7.1 31 of unknown, above 50%, 1 hour")
	line := w.lines("verdict")[0]
	if got := fmt.Sprintf("%v %v %v", line["count"], line["threshold"], line["of"]); got != "31 50% 58" {
		t.Errorf("the log says count, threshold and of are %s", got)
	}
}

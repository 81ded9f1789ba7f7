package policy_test

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/audit-milter/audit-milter/policy"
)

const tenMinutes = 10 * time.Minute

func TestMultipleOfTheMean(t *testing.T) {
	const policyText = `
series:
  sent: {type: string, interval: 10m, windows: 6, add: {at: rcpt, key: sasl_username}}
rules:
  - {name: burst, at: mail, if: {series: sent, windows: 0, %s, baseline: {windows: 1-5}, min: 100}, then: tempfail}
`
	for _, row := range []struct {
		name, threshold string
		windows         [6]int64 // the current one first
		fires           bool
	}{
		{"five times the mean is not above it", "above: 5x", [6]int64{500, 100, 100, 100, 100, 100}, false},
		{"one more is", "above: 5x", [6]int64{501, 100, 100, 100, 100, 100}, true},
		{"five times the mean is at least that", "at_least: 5x", [6]int64{500, 100, 100, 100, 100, 100}, true},
		{"empty windows are in the mean", "above: 5x", [6]int64{101, 100, 0, 0, 0, 0}, true},
		{"and a full one among them", "above: 5x", [6]int64{100, 0, 100, 0, 0, 0}, false},
		{"a mean with a fraction is not rounded", "above: 5x", [6]int64{102, 101, 1, 0, 0, 0}, false},
		{"nor is it to the count's favour", "above: 5x", [6]int64{103, 101, 1, 0, 0, 0}, true},
		{"two and a half times", "above: 2.5x", [6]int64{250, 100, 100, 100, 100, 100}, false},
		{"a bit more than two and a half times", "above: 2.5x", [6]int64{251, 100, 100, 100, 100, 100}, true},
		{"the minimum is exactly met", "above: 5x", [6]int64{100, 1, 1, 1, 1, 1}, true},
		{"one below the minimum", "above: 5x", [6]int64{99, 1, 1, 1, 1, 1}, false},
		{"a dormant account at the minimum", "above: 5x", [6]int64{100, 0, 0, 0, 0, 0}, true},
		{"a dormant account below it", "above: 5x", [6]int64{99, 0, 0, 0, 0, 0}, false},
		{"a dormant account with at_least", "at_least: 5x", [6]int64{100, 0, 0, 0, 0, 0}, true},
		{"no more than usual", "at_most: 2x", [6]int64{200, 100, 100, 100, 100, 100}, true},
		{"more than that", "at_most: 2x", [6]int64{201, 100, 100, 100, 100, 100}, false},
		{"less than usual", "below: 0.5x", [6]int64{100, 300, 300, 300, 300, 300}, true},
		{"a mean below 0 is 0", "above: 5x", [6]int64{100, -900, 0, 0, 0, 0}, true},
		{"a negative count is below every minimum", "at_most: 5x", [6]int64{-1, 1, 1, 1, 1, 1}, false},
		{"counts at the limit of 64 bits", "above: 5x", [6]int64{math.MaxInt64, math.MaxInt64 / 5, math.MaxInt64 / 5, 0, 0, 0}, true},
		{"whose sum stops there", "above: 5x", [6]int64{math.MaxInt64, math.MaxInt64, math.MaxInt64, math.MaxInt64, 0, 0}, false},
	} {
		w := newWorld(t, fmt.Sprintf(policyText, row.threshold))
		for age := 5; age >= 0; age-- {
			w.count("sent", "alice", row.windows[age], begin.Add(-time.Duration(age)*tenMinutes))
			w.engine.Counter("sent").Covered(begin.Add(-time.Duration(age) * tenMinutes))
		}
		ev := w.client("198.51.100.7")
		ev.SetText(policy.SASLUsername, "alice")
		v, err := w.engine.Decide(ev, policy.Mail, w.now)
		if fires := v.Action == policy.Tempfail; err != nil || fires != row.fires {
			t.Errorf("%s: %v %s fires is %v, %v", row.name, row.windows, row.threshold, fires, err)
		}
	}
}

// A series that has just begun to count knows no mean: not the daemon's first
// hour, but only the account's, is a change of behaviour.
func TestBaselineHasToBeCountedFirst(t *testing.T) {
	for _, row := range []struct {
		name    string
		started time.Duration // after the begin of a window
		after   time.Duration // after that begin, too
		fires   bool
	}{
		{"at once", 0, 0, false},
		{"in the first seconds", 0, 5 * time.Second, false},
		{"when the last window of the range is still to come", 0, 50*time.Minute - 1, false},
		{"once five windows were counted", 0, 50 * time.Minute, true},
		{"when the first of them was there in part only", time.Nanosecond, 50 * time.Minute, false},
		{"then one more is needed", time.Nanosecond, time.Hour, true},
	} {
		w := newWorld(t, `
series:
  sent: {type: string, interval: 10m, windows: 6, add: {at: rcpt, key: sasl_username}}
rules:
  - {name: burst, at: rcpt, if: {series: sent, above: 5x, baseline: {windows: 1-5}, min: 1}, then: tempfail}
`)
		bob := w.client("198.51.100.7")
		bob.SetText(policy.SASLUsername, "bob")
		w.now = begin.Add(row.started)
		w.expect(bob, policy.Rcpt, "continue")

		alice := w.client("198.51.100.7")
		alice.SetText(policy.SASLUsername, "alice")
		w.now = begin.Add(row.after)
		want := "continue"
		if row.fires {
			want = "tempfail: 451 4.7.1 burst: 1 in sent for alice over 10 minutes, above 5x the mean of 0 in windows 1-5; try again in 1 hour"
		}
		if got := w.decide(alice, policy.Rcpt); got != want {
			t.Errorf("%s: %s, want %s", row.name, got, want)
		}
	}
}

// Hours in which nothing came were counted too: the first message after a quiet night
// is judged.
func TestABaselineBeginsWithTheDaemon(t *testing.T) {
	const yaml = `
series:
  sent: {type: string, interval: 10m, windows: 6, add: {at: rcpt, key: sasl_username}}
  names: {type: string, interval: 10m, windows: 6, distinct: recipient, add: {at: rcpt, key: sasl_username}}
rules:
  - {name: burst, at: rcpt, if: {series: sent, above: 5x, baseline: {windows: 1-5}, min: 3}, then: tempfail}
  - {name: spread, at: rcpt, if: {series: names, above: 5x, baseline: {windows: 1-5}, min: 2}, then: tempfail}
`
	begun := newWorldAt(t, yaml, begin)
	reloaded := newWorldAt(t, `series: {}`, begin)
	reloaded.follow(yaml)
	for name, w := range map[string]*world{"from the start": begun, "from a reload on": reloaded} {
		w.now = begin.Add(50 * time.Minute)
		ev := w.client("198.51.100.7")
		ev.SetText(policy.SASLUsername, "alice")
		for i, want := range []string{"", "spread", "burst"} {
			ev.SetRecipient(fmt.Sprintf("<%d@example.com>", i))
			v, err := w.engine.Decide(ev, policy.Rcpt, w.now)
			if err != nil || v.Rule != want {
				t.Errorf("%s: recipient %d: rule %q, error %v; want %q", name, i+1, v.Rule, err, want)
			}
		}
	}
}

// A reload that lets a series have more windows, for a baseline say, knows nothing of those
// that it had let go: who sends as much as ever is not above a mean with empty windows in it.
func TestABaselineLooksAtNoWindowFromBeforeAReload(t *testing.T) {
	const before = `
series:
  sent: {type: string, interval: 10m, windows: 2, add: {at: rcpt, key: sasl_username}}
  names: {type: string, interval: 10m, windows: 2, distinct: recipient, add: {at: rcpt, key: sasl_username}}
`
	w := newWorldAt(t, before, begin)
	ev := w.client("198.51.100.7")
	ev.SetText(policy.SASLUsername, "alice")
	send := func(minutes int, want string) {
		t.Helper()
		for minute := range minutes {
			ev.SetRecipient(fmt.Sprintf("<%d@example.com>", minute%10))
			w.expect(ev, policy.Rcpt, want)
			w.now = w.now.Add(time.Minute)
		}
	}
	send(120, "continue")
	w.follow(strings.ReplaceAll(before, "windows: 2", "windows: 6") + `
rules:
  - {name: burst, at: rcpt, if: {series: sent, above: 2x, baseline: {windows: 1-5}, min: 5}, then: tempfail, reply: amounts}
  - {name: spread, at: rcpt, if: {series: names, above: 2x, baseline: {windows: 1-5}, min: 5}, then: tempfail, reply: values}
`)
	send(60, "continue")
	for range 20 {
		w.expect(ev, policy.Rcpt, "continue")
	}
	w.expect(ev, policy.Rcpt, "tempfail: 451 4.7.1 amounts")
}

func TestBaselineInTheLogAndTheReply(t *testing.T) {
	w := newWorld(t, `
series:
  sent: {type: ip, interval: 10m, windows: 6, add: {at: rcpt}}
rules:
  - {name: burst, at: mail, if: {series: sent, mask: {ipv4: 24, ipv6: 64}, above: 2.5x, baseline: {windows: 1-3}, min: 10}, then: tempfail}
`)
	for age := 5; age >= 0; age-- {
		w.count("sent", "198.51.100.9", 20, begin.Add(-time.Duration(age)*tenMinutes))
	}
	w.count("sent", "198.51.100.10", 31, w.now)
	w.expect(w.client("198.51.100.7"), policy.Mail,
		"tempfail: 451 4.7.1 burst: 51 in sent for 198.51.100.0/24 over 10 minutes, above 2.5x the mean of 20 in windows 1-3; try again in 40 minutes")
	line := w.lines("verdict")[0]
	if got := fmt.Sprintf("%v %v %v", line["count"], line["threshold"], line["baseline"]); got != "51 2.5x 60/3" {
		t.Errorf("the log says count, threshold and baseline are %s", got)
	}
}

// Different values over a range are a union, and a mean is of the windows' own
// counts.
func TestBaselineOfDifferentValues(t *testing.T) {
	w := newWorld(t, `
series:
  networks: {type: string, interval: 10m, windows: 6, distinct: client_address, add: {at: mail, key: sasl_username}}
rules:
  - {name: spread, at: mail, if: {series: networks, above: 2x, baseline: {windows: 1-2}, min: 1}, then: tempfail}
`)
	from := func(addr, want string) {
		ev := w.client(addr)
		ev.SetText(policy.SASLUsername, "alice")
		w.expect(ev, policy.Mail, want)
	}
	for range 2 {
		from("198.51.100.1", "continue")
		from("198.51.100.2", "continue")
		w.now = w.now.Add(tenMinutes)
	}
	from("198.51.100.1", "continue")
	from("198.51.100.2", "continue")
	from("198.51.100.3", "continue")
	from("198.51.100.4", "continue") // twice the mean of 2 and 2, but more than twice the union by two
	from("198.51.100.5", "tempfail: 451 4.7.1 spread: 5 in networks for alice over 10 minutes, above 2x the mean of 2 in windows 1-2; try again in 30 minutes")
}

package policy_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/audit-milter/audit-milter/policy"
)

// everyKind has a rule for every kind of condition. They only mark, so that all of
// a stage are judged.
const everyKind = `
log_repeats: true
tables:
  limits: {file: %s}
series:
  clients: {type: ip, interval: 1m, windows: 6, add: {at: mail}}
  unknown: {type: ip, interval: 2m, windows: 4, add: {at: rcpt_refused}}
  users: {type: string, interval: 1m, windows: 6, add: {at: mail, key: sasl_username}}
  pairs: {type: string, interval: 1m, windows: 3, add: {at: mail, key: [client_address, sasl_username]}}
  senders: {type: string, interval: 1m, windows: 3, add: {at: mail, key: sender}}
  networks: {type: string, interval: 1m, windows: 4, distinct: {of: client_address, mask: {ipv4: 24, ipv6: 64}}, add: {at: mail, key: sasl_username}}
  names: {type: ip, interval: 1m, windows: 3, distinct: helo_name, add: {at: mail}}
rules:
  - {name: plain, at: rcpt, if: {series: clients, windows: 0-2, above: 20}, header: "X: y"}
  - {name: by-network, at: rcpt, if: {series: clients, mask: {ipv4: 24, ipv6: 64}, windows: 0-5, at_least: 60}, header: "X: y"}
  - {name: earlier, at: rcpt, if: {series: clients, windows: 1-2, above: 15}, header: "X: y"}
  - {name: sliding, at: rcpt, if: {series: users, windows: 0-3, sliding: true, above: 40}, header: "X: y"}
  - {name: table, at: rcpt, if: {series: users, windows: 0-1, above: {table: limits, default: 30}}, header: "X: y"}
  - {name: network-table, at: rcpt, if: {series: clients, mask: {ipv4: 24, ipv6: 64}, windows: 0, above: {table: limits, default: 10}}, header: "X: y"}
  - {name: share, at: rcpt, if: {series: unknown, windows: 0-3, above: 50%%, of: {series: clients, windows: 0-5}, min: 20}, header: "X: y"}
  - {name: wide-share, at: rcpt, if: {series: clients, windows: 0-5, at_least: 33.3%%, of: {series: clients, mask: {ipv4: 16, ipv6: 48}, windows: 0-5}}, header: "X: y"}
  - {name: multiple, at: rcpt, if: {series: users, windows: 0, above: 1.5x, baseline: {windows: 1-3}, min: 5}, header: "X: y"}
  - {name: many-networks, at: rcpt, if: {series: networks, windows: 0-3, above: 3}, header: "X: y"}
  - {name: many-names, at: rcpt, if: {series: names, mask: {ipv4: 24, ipv6: 64}, windows: 0-2, above: 2}, header: "X: y"}
  - {name: quiet, at: rcpt, if: {series: clients, windows: 0-5, below: 10}, header: "X: y"}
  - {name: pair, at: rcpt, if: {series: pairs, windows: 0-2, above: 10}, header: "X: y"}
  - {name: both, at: rcpt, if: [{series: clients, windows: 0-2, above: 10}, {series: clients, mask: {ipv4: 24, ipv6: 64}, above: 20}], any: [{series: unknown, above: 2}, {series: unknown, windows: 1-3, above: 4}], header: "X: y"}
  - {name: mixed, at: rcpt, if: [{series: users, above: 5}, {series: clients, above: 5}], header: "X: y"}
  - {name: punished, at: rcpt, if: {series: clients, windows: 0, above: 12}, penalty: 3m, header: "X: y"}
  - {name: either, at: rcpt, any: [{series: users, above: 14}, {series: clients, above: 14}], penalty: 2m, header: "X: y"}
  - {name: bounces, at: rcpt, if: {series: senders, windows: 0-2, above: 3}, header: "X: y"}
  - {name: all-bounces, at: rcpt, allow_shared_key: true, if: {series: senders, windows: 0-2, above: 3}, header: "X: y"}
`

// What is explained is what is decided, with the same numbers, for a client, a
// user, their pair and a sender of every count, at every time.
func TestExplainAgreesWithDecide(t *testing.T) {
	w := newWorld(t, withLimits(t, everyKind))
	r := rand.New(rand.NewPCG(4, 2))
	yes, no := map[string]int{}, map[string]int{}
	for range 1500 {
		w.pass(time.Duration(r.IntN(40)) * time.Second)
		ev := w.client([]string{"198.51.100.7", "198.51.100.8", "203.0.113.9", "127.0.0.1", "192.0.2.1", "2001:db8:1::7"}[r.IntN(6)])
		ev.SetHelo(fmt.Sprintf("h%d.test", r.IntN(6)))
		ev.SetText(policy.SASLUsername, []string{"Alice", "bob"}[r.IntN(2)])
		ev.SetSender([]string{"<>", "<A@b.test>"}[r.IntN(2)])
		for range r.IntN(9) {
			w.decide(ev, policy.Mail)
		}
		w.guess(ev, r.IntN(4))

		said := make(map[string]policy.RuleState)
		user := strings.ToUpper(ev.SASLUsername)
		for _, key := range []string{ev.ClientAddress, user, ev.ClientAddress + "|" + user, ev.Sender} {
			for _, state := range w.explain(key, key == ev.ClientAddress).Rules {
				if _, known := said[state.Rule.Name]; !known || state.Fires != policy.Depends {
					said[state.Rule.Name] = state
				}
			}
		}
		fired := w.firing(ev)
		for name, state := range said {
			line, fires := fired[name]
			switch state.Fires {
			case policy.Yes:
				yes[name]++
			case policy.No:
				no[name]++
			}
			if state.Fires != policy.Depends && (state.Fires == policy.Yes) != fires {
				t.Fatalf("%s at %s: explained as %s, fired: %v\n%+v", name, w.now.Sub(begin), state.Fires, fires, state)
			}
			if fires && state.Fires == policy.Yes && !anyCondition(state, line) {
				t.Fatalf("%s: explained as %+v, decided by %v", name, state, line)
			}
		}
	}
	for _, rule := range w.engine.Rules() {
		if rule.Name != "mixed" && (yes[rule.Name] == 0 || no[rule.Name] == 0) {
			t.Errorf("%s fired %d times and did not %d times; both are needed", rule.Name, yes[rule.Name], no[rule.Name])
		}
	}
}

// A rule that fires does so until the moment that is told, if nothing more arrives,
// and not at it.
func TestExplainTellsWhenARuleEnds(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 9))
	told := map[string]int{}
	for range 300 {
		w := newWorld(t, ends)
		for range 1 + r.IntN(6) {
			w.pass(time.Duration(r.IntN(100)) * time.Second)
			ev := w.client("198.51.100.7")
			for range r.IntN(10) {
				w.decide(ev, policy.Mail)
			}
			w.decide(ev, policy.Rcpt)
		}
		for _, state := range w.explain("198.51.100.7", false).Rules {
			if state.Fires == policy.Yes && state.Ends.Known && r.IntN(4) == 0 {
				told[state.Rule.Name]++
				w.pass(state.Ends.After - 1)
				if got := w.rule("198.51.100.7", state.Rule.Name); got.Fires != policy.Yes || got.Ends.After != 1 {
					t.Fatalf("%s was to fire for %s; a moment before that: %+v", state.Rule.Name, state.Ends.After, got)
				}
				w.pass(1)
				if got := w.rule("198.51.100.7", state.Rule.Name); got.Fires != policy.No {
					t.Fatalf("%s was to fire for %s; then: %+v", state.Rule.Name, state.Ends.After, got)
				}
				break
			}
		}
	}
	if len(told) != 6 {
		t.Errorf("only of these an end was told: %v", told)
	}
}

const ends = `
series:
  clients: {type: ip, interval: 1m, windows: 6, add: {at: mail}}
rules:
  - {name: plain, at: rcpt, if: {series: clients, windows: 0-2, above: 9}, header: "X: y"}
  - {name: earlier, at: rcpt, if: {series: clients, windows: 1-2, at_least: 4}, header: "X: y"}
  - {name: sliding, at: rcpt, if: {series: clients, windows: 0-3, sliding: true, above: 12}, header: "X: y"}
  - {name: all-of, at: rcpt, if: [{series: clients, windows: 0-2, above: 5}, {series: clients, mask: {ipv4: 24, ipv6: 64}, windows: 0-5, above: 12}], header: "X: y"}
  - {name: one-of, at: rcpt, any: [{series: clients, windows: 0, above: 5}, {series: clients, windows: 0-5, sliding: true, above: 20}], header: "X: y"}
  - {name: punished, at: rcpt, if: {series: clients, windows: 0-1, above: 8}, penalty: 90s, header: "X: y"}
  - {name: quiet, at: rcpt, if: {series: clients, windows: 0-1, below: 8}, penalty: 90s, header: "X: y"}
`

// Behind a penalty a condition can hold again by time alone: an end is told only where
// nothing does.
func TestExplainTellsNoEndThatNeverComes(t *testing.T) {
	for _, row := range []struct{ name, condition, want string }{
		{"a count below its threshold", "series: clients, below: 5", ""},
		{"a count that was taken below zero", "series: less, at_least: 0", ""},
		{"a share", "series: clients, windows: 1, above: 50%, of: {series: clients, windows: 0-1}", ""},
		{"different values of earlier windows", "series: names, windows: 1, above: 0", ""},
		{"different values", "series: names, above: 3", " until 10m0s"},
		{"what is open", "series: open_sessions, above: 0", " until 10m0s"},
	} {
		w := newWorld(t, `
series:
  clients: {type: ip, interval: 5m, windows: 2, add: {at: mail}}
  less: {type: ip, interval: 5m, windows: 2, add: {at: mail, count: -1}}
  names: {type: ip, interval: 5m, windows: 2, distinct: helo_name, add: {at: mail}}
rules: [{name: r, at: rcpt, if: {`+row.condition+`}, then: tempfail, penalty: 10m}]
`)
		ev := w.client("198.51.100.7")
		for i := range 2 {
			ev.SetHelo(fmt.Sprint(i))
			for range 5 {
				w.decide(ev, policy.Mail)
			}
		}
		w.engine.SetPenalty(policy.Penalty{Rule: "r", Subject: policy.Subject{Network: netip.MustParsePrefix("198.51.100.7/32")}, Until: w.now.Add(10 * time.Minute)}, w.now)
		if state := w.rule("198.51.100.7", "r"); state.If[0].Holds != policy.No || until(state.Ends) != row.want {
			t.Errorf("%s: holds %s, fires%s, want%s", row.name, state.If[0].Holds, until(state.Ends), row.want)
		}
	}
}

// A key as `show penalties` has it means itself also once nothing counts for it: read
// as a client would write them, these are other keys.
func TestExplainKnowsWhoHasAPenaltyAndNoCount(t *testing.T) {
	w := newWorld(t, `
series: {senders: {type: string, interval: 1m, windows: 1, add: {at: mail, key: sender}}}
rules: [{name: r, at: mail, if: {series: senders, above: 0}, then: tempfail, penalty: 1h}]
`)
	for _, arg := range []string{"<b@example.com>", "<a@example.com..>", "<<a>>", "<x" + strings.Repeat(`\`, 200) + "@example.com>"} {
		ev := w.client("198.51.100.7")
		ev.SetSender(arg)
		w.decide(ev, policy.Mail)
	}
	all := w.engine.Penalties(w.now)
	w.pass(10 * time.Minute)
	for _, p := range all {
		if got := w.rule(p.Text, "r"); got.Penalty != 50*time.Minute {
			t.Errorf("for %s a penalty runs %s, want 50 minutes", p.Text, got.Penalty)
		}
	}
	if len(all) != 4 {
		t.Errorf("penalties: %v", all)
	}
}

// rule is what a rule makes of a key.
func (w *world) rule(key, name string) policy.RuleState {
	w.t.Helper()
	for _, state := range w.explain(key, true).Rules {
		if state.Rule.Name == name {
			return state
		}
	}
	w.t.Fatalf("no rule %s for %s", name, key)
	return policy.RuleState{}
}

// withLimits puts the path of a table into a policy.
func withLimits(t *testing.T, yaml string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "limits.yaml")
	if err := os.WriteFile(path, []byte("198.51.100.0/24: 12\nalice: 12\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf(yaml, path)
}

// firing are the log lines of the rules that fire for the event, by name.
func (w *world) firing(ev *policy.Event) map[string]map[string]any {
	w.t.Helper()
	w.lines("")
	w.decide(ev, policy.Rcpt)
	fired := make(map[string]map[string]any)
	for _, line := range w.lines("verdict") {
		fired[line["rule"].(string)] = line
	}
	return fired
}

// anyCondition reports whether a line of the log tells a condition as explained.
func anyCondition(s policy.RuleState, line map[string]any) bool {
	for _, c := range append(s.If, s.Any...) {
		threshold := fmt.Sprint(line["threshold"])
		if line["series"] == c.Series && line["count"] == float64(c.Count) && threshold == c.Measure.Threshold.String() {
			return true
		}
	}
	return false
}

func (w *world) pass(d time.Duration) {
	w.now = w.now.Add(d)
	w.monotonic += d
}

func (w *world) explain(key string, all bool) *policy.Explanation {
	w.t.Helper()
	x, err := w.engine.Explain(key, all, w.now)
	if err != nil {
		w.t.Fatal(err)
	}
	return x
}

func TestExplain(t *testing.T) {
	w := newWorld(t, `
series:
  clients: {type: ip, interval: 5m, windows: 3, add: {at: connect}}
  users: {type: string, interval: 5m, windows: 3, add: {at: mail, key: sasl_username}}
  senders: {type: string, interval: 5m, windows: 3, add: {at: mail, key: sender}}
  names: {type: ip, interval: 5m, windows: 3, distinct: helo_name, add: {at: mail}}
rules:
  - {name: client, at: connect, if: {series: clients, windows: 0-1, above: 3}, then: tempfail, penalty: 1h}
  - {name: network, at: connect, if: {series: clients, mask: {ipv4: 24, ipv6: 64}, windows: 0-2, above: 10}, then: tempfail}
  - {name: wide, at: connect, if: {series: clients, mask: {ipv4: 16, ipv6: 48}, windows: 0-2, above: 1000}, then: tempfail}
  - {name: user, at: mail, when: sender != "<>", if: [{series: users, windows: 0-2, above: 5}, {series: clients, above: 5}], then: tempfail}
  - {name: sender, at: mail, if: {series: senders, windows: 0-1, above: 0}, then: tempfail}
  - {name: no-count, at: mail, when: sender == "x@y.test", then: reject}
`)
	w.count("clients", "192.0.2.7", 4, w.now)
	w.count("users", "alice", 6, w.now)
	w.count("senders", "<>", 6, w.now)
	w.count("clients", "127.0.0.1", 20, w.now)
	w.pass(6 * time.Minute)
	w.count("clients", "192.0.2.7", 2, w.now)
	w.count("clients", "192.0.2.8", 3, w.now)
	for _, row := range []struct{ name, key, want string }{
		{"an address and its networks, each rule under its mask", "192.0.2.7", `
clients 192.0.2.7 [2 4 0] 6
clients 192.0.2.0/24 [5 4 0] 9
clients 192.0.0.0/16 [5 4 0] 9
client: 6 of 3 yes until 4m0s; fires yes until 4m0s
network: 9 of 10 no; fires no
wide: 9 of 1000 no; fires no
user: depends, 2 of 5 no; fires no`},
		{"an address that counts nothing in a network that does", "::ffff:192.0.2.99", `
clients 192.0.2.0/24 [5 4 0] 9
clients 192.0.0.0/16 [5 4 0] 9
network: 9 of 10 no; fires no
wide: 9 of 1000 no; fires no`},
		{"a block is judged where it is counted as one", "192.0.2.128/24", `
clients 192.0.2.0/24 [5 4 0] 9
clients 192.0.0.0/16 [5 4 0] 9
network: 9 of 10 no; fires no
wide: 9 of 1000 no; fires no`},
		{"a text, as what it is held", "Alice", `
users alice [0 6 0] 6
user: 6 of 5 yes until 9m0s, depends; fires depends`},
		{"a key that many share", "<>", `
senders <> [0 6 0] 6
sender: 6 of 0 no but shared; fires no`},
		{"nobody", "bob", ``},
	} {
		if got := explained(w.explain(row.key, false)); got != row.want {
			t.Errorf("%s:%s\nwant%s", row.name, got, row.want)
		}
	}
}

// explained is who holds the key, a line each, and each rule's conditions.
func explained(x *policy.Explanation) (text string) {
	for _, h := range x.Held {
		text += fmt.Sprintf("\n%s %s %v %d", h.Definition().Name, h.Target, h.Counts, h.Total)
	}
	for _, r := range x.Rules {
		var conditions []string
		for _, c := range append(r.If, r.Any...) {
			said := c.Holds.String() + until(c.Ends)
			if c.Holds != policy.Depends {
				said = fmt.Sprintf("%d of %s %s", c.Count, c.Threshold, said)
			}
			if c.Shared {
				said += " but shared"
			}
			conditions = append(conditions, said)
		}
		text += fmt.Sprintf("\n%s: %s; fires %s%s", r.Rule.Name, strings.Join(conditions, ", "), r.Fires, until(r.Ends))
	}
	return text
}

func until(e policy.Ending) string {
	if !e.Known {
		return ""
	}
	return " until " + e.After.String()
}

package policy_test

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"github.com/audit-milter/audit-milter/policy"
)

// What is listed has the numbers that are explained for its key, and every condition
// that holds is listed.
func TestLimitsAgreeWithExplain(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	clients := []string{"198.51.100.7", "198.51.100.8", "203.0.113.9", "2001:db8:1::7", "127.0.0.1"}
	w := newWorld(t, withLimits(t, everyKind))
	for range 300 {
		w.pass(time.Duration(r.IntN(30)) * time.Second)
		ev := w.client(clients[r.IntN(len(clients))])
		ev.SetHelo(fmt.Sprintf("h%d.test", r.IntN(6)))
		ev.SetText(policy.SASLUsername, []string{"alice", "bob"}[r.IntN(2)])
		ev.SetSender([]string{"<>", "<a@b.test>"}[r.IntN(2)])
		for range r.IntN(9) {
			w.decide(ev, policy.Mail)
		}
		w.guess(ev, r.IntN(4))

		listed, all := make(map[string]bool), w.limits("", 100_000)
		for i, near := range all {
			listed[reading(near.Rule, near.Measure, near.Holds)] = true
			if i > 0 && near.Percent > all[i-1].Percent {
				t.Fatalf("%d %% comes after %d %%", near.Percent, all[i-1].Percent)
			}
		}
		explained := make(map[string]bool)
		for _, key := range append(clients, ev.SASLUsername, "203.0.113.9|bob", ev.Sender) {
			for _, state := range w.explain(key, false).Rules {
				for _, c := range append(state.If, state.Any...) {
					what := reading(state.Rule, c.Measure, c.Holds == policy.Yes)
					explained[what] = true
					if c.Holds == policy.Yes && c.Op <= policy.AtLeast && !listed[what] {
						t.Fatalf("%s is not listed", what)
					}
				}
			}
		}
		for _, near := range all {
			if what := reading(near.Rule, near.Measure, near.Holds); near.Key == ev.ClientAddress && !explained[what] {
				t.Fatalf("%s is listed, but not explained so", what)
			}
		}
		first := w.limits("", 5)
		if !reflect.DeepEqual(first, all[:len(first)]) || len(first) < min(5, len(all)) {
			t.Fatalf("the first five are\n%+v\nof\n%+v", first, all)
		}
	}
}

// reading is a condition's in words. The key of a network is any that is in it.
func reading(r *policy.Rule, m policy.Measure, holds bool) string {
	return fmt.Sprintf("%s: %d in %s %s for %s, %s of %d, holds: %v", r.Name, m.Count, m.Series, m.Windows(), m.Subject(), m.Threshold, m.Base, holds)
}

func (w *world) limits(rule string, limit int) []policy.Near {
	w.t.Helper()
	all, err := w.engine.Limits(rule, limit, w.now)
	if err != nil {
		w.t.Fatal(err)
	}
	return all
}

func TestLimits(t *testing.T) {
	w := newWorld(t, `
series:
  clients: {type: ip, interval: 10m, windows: 2, add: {at: connect}}
  users: {type: string, interval: 10m, windows: 3, add: {at: rcpt, key: sasl_username}}
  refused: {type: string, interval: 10m, windows: 3, add: {at: rcpt_refused, key: sasl_username}}
rules:
  - {name: flood, at: connect, if: {series: clients, mask: {ipv4: 24, ipv6: 64}, windows: 0-1, above: 100}, then: tempfail}
  - {name: quota, at: rcpt, if: {series: users, windows: 0-1, sliding: true, above: 200}, then: tempfail}
  - {name: refused, at: rcpt, if: {series: refused, windows: 0, above: 50%, of: {series: users}, min: 20}, then: tempfail}
  - {name: burst, at: rcpt, if: {series: users, above: 2x, baseline: {windows: 1-2}, min: 10}, then: tempfail}
  - {name: quiet, at: connect, if: {series: clients, below: 1000}, then: tempfail}
`)
	w.count("users", "carol", 60, w.now)
	w.pass(15 * time.Minute)
	w.count("clients", "192.0.2.7", 40, w.now)
	w.count("clients", "192.0.2.8", 41, w.now)
	w.count("clients", "127.0.0.1", 99, w.now)
	w.count("clients", "203.0.113.9", -5, w.now)
	w.count("users", "alice", 40, w.now)
	w.count("refused", "alice", 9, w.now)
	w.count("users", "bob", 19, w.now)
	w.count("refused", "bob", 19, w.now)
	for _, row := range []struct {
		name, rule string
		limit      int
		want       string
	}{
		{"a network of both addresses, not one that many share nor one that owes", "flood", 9, "81% 192.0.2.0/24 81 of 100\n"},
		{"half of the last window still weighs", "quota", 9, "20% alice 40 of 200\n15% carol 30 of 200\n9% bob 19 of 200\n"},
		{"a share, and none below its minimum", "refused", 9, "45% alice 9 of 50%\n"},
		{"of a multiple nothing is known before its windows are covered", "burst", 9, ""},
		{"all rules", "", 3, "81% 192.0.2.0/24 81 of 100\n45% alice 9 of 50%\n20% alice 40 of 200\n"},
		{"below has no nearness", "quiet", 9, ""},
	} {
		if got := nearTold(w.limits(row.rule, row.limit)); got != row.want {
			t.Errorf("%s:\n%swant\n%s", row.name, got, row.want)
		}
	}
	w.pass(5 * time.Minute)
	w.count("users", "carol", 45, w.now)
	w.count("users", "dave", 11, w.now)
	if got, want := nearTold(w.limits("burst", 9)), "110% dave 11 of 2x\n75% carol 45 of 2x\n"; got != want {
		t.Errorf("a mean of 0 leaves it to the minimum: %swant %s", got, want)
	}
	if _, err := w.engine.Limits("floods", 9, w.now); err == nil || err.Error() != `unknown rule "floods"; did you mean flood?` {
		t.Errorf("got %v", err)
	}
}

func nearTold(all []policy.Near) (text string) {
	for _, n := range all {
		key := n.Network
		if key == "" {
			key = n.Key
		}
		text += fmt.Sprintf("%d%% %s %d of %s\n", n.Percent, key, n.Count, n.Threshold)
	}
	return text
}

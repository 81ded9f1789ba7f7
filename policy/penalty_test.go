package policy_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/audit-milter/audit-milter/policy"
)

const harvest = `
series:
  unknown: {type: ip, interval: 15m, windows: 4, add: {at: rcpt_refused}}
  connections: {type: ip, interval: 1m, windows: 1, add: {at: connect}}
rules:
  - {name: trusted, at: mail, when: helo_name == "good.test", then: accept}
  - name: harvest
    at: [mail, rcpt]
    when: sender != "boss@example.com"
    any:
      - {series: unknown, windows: 0-3, above: 2}
      - {series: unknown, mask: {ipv4: 24, ipv6: 48}, windows: 0-3, above: 4}
    then: tempfail
    penalty: 2h
`

// guess lets the client guess unknown recipients.
func (w *world) guess(ev *policy.Event, times int) {
	w.t.Helper()
	for range times {
		w.engine.Count(ev, policy.RcptRefused, w.now)
	}
}

// penalties are those that run, as a list of keys and what is left.
func (w *world) penalties() string {
	var all []string
	for _, p := range w.engine.Penalties(w.now) {
		all = append(all, fmt.Sprintf("%s %s", p.Subject, p.Until.Sub(w.now)))
	}
	return strings.Join(all, ", ")
}

func TestPenaltyGoesOnFiring(t *testing.T) {
	w := newWorld(t, harvest)
	ev := w.client("198.51.100.7")
	w.guess(ev, 2)
	w.expect(ev, policy.Mail, "continue")
	w.guess(ev, 1)
	const by = "harvest: 3 in unknown for 198.51.100.7 over 1 hour, above 2; try again in 2 hours"
	w.expect(ev, policy.Mail, "tempfail: 451 4.7.1 "+by)

	w.now = begin.Add(30 * time.Minute) // its conditions still hold, so it begins anew
	w.expect(ev, policy.Mail, "tempfail: 451 4.7.1 "+by)
	w.now = begin.Add(90 * time.Minute) // they do not hold any more
	w.expect(ev, policy.Rcpt, "tempfail: 451 4.7.1 harvest: penalty for 198.51.100.7, whose count in unknown was above 2; try again in 1 hour")
	w.expect(w.client("198.51.100.8"), policy.Mail, "continue") // the others are not meant
	w.now = begin.Add(150*time.Minute - 1)                      // what the penalty refuses does not prolong it
	w.expect(ev, policy.Mail, "tempfail: 451 4.7.1 harvest: penalty for 198.51.100.7, whose count in unknown was above 2; try again in 1 second")
	w.now = begin.Add(150 * time.Minute)
	w.expect(ev, policy.Mail, "continue")
	if left := w.penalties(); left != "" {
		t.Errorf("still there: %s", left)
	}

	lines := w.lines("verdict")
	for i, want := range []string{"3 2 <nil>", "3 2 <nil>", "0 2 1h0m0s", "0 2 1s"} {
		if got := fmt.Sprintf("%v %v %v", lines[i]["count"], lines[i]["threshold"], lines[i]["penalty"]); got != want {
			t.Errorf("line %d has count, threshold and penalty %s, want %s", i, got, want)
		}
	}
}

func TestPenaltyIsForTheKeyOfTheConditionThatFired(t *testing.T) {
	w := newWorld(t, harvest)
	for i := range 5 {
		w.guess(w.client(fmt.Sprintf("198.51.100.%d", i)), 1)
	}
	one := w.client("198.51.100.9")
	w.expect(one, policy.Mail, "tempfail: 451 4.7.1 harvest: 5 in unknown for 198.51.100.0/24 over 1 hour, above 4; try again in 2 hours")
	w.guess(w.client("203.0.113.1"), 3)
	w.expect(w.client("203.0.113.1"), policy.Mail, "tempfail: 451 4.7.1 harvest: 3 in unknown for 203.0.113.1 over 1 hour, above 2; try again in 2 hours")
	if got, want := w.penalties(), "198.51.100.0/24 2h0m0s, 203.0.113.1 2h0m0s"; got != want && got != "203.0.113.1 2h0m0s, 198.51.100.0/24 2h0m0s" {
		t.Errorf("there are %s, want %s", got, want)
	}
	w.now = begin.Add(time.Hour)
	w.expect(w.client("198.51.100.200"), policy.Mail, "tempfail: 451 4.7.1 harvest: penalty for 198.51.100.0/24, whose count in unknown was above 4; try again in 1 hour")
	w.expect(w.client("203.0.113.2"), policy.Mail, "continue")
}

// A penalty refuses only whom its rule would ask.
func TestPenaltyLeavesTheRestOfTheRuleAsItIs(t *testing.T) {
	w := newWorld(t, harvest)
	w.guess(w.client("198.51.100.7"), 3)
	w.expect(w.client("198.51.100.7"), policy.Mail, "tempfail: 451 4.7.1 harvest: 3 in unknown for 198.51.100.7 over 1 hour, above 2; try again in 2 hours")
	w.now = begin.Add(time.Hour)

	boss := w.client("198.51.100.7")
	boss.SetSender("<boss@example.com>")
	w.expect(boss, policy.Mail, "continue") // `when` does not hold
	friend := w.client("198.51.100.7")
	friend.SetHelo("good.test")
	w.expect(friend, policy.Mail, "accept") // an earlier rule decides
	w.expect(friend, policy.Rcpt, "continue")
	w.expect(w.client("198.51.100.7"), policy.Helo, "continue") // the rule does not stand there
	w.expect(w.client("198.51.100.7"), policy.Rcpt, "tempfail: 451 4.7.1 harvest: penalty for 198.51.100.7, whose count in unknown was above 2; try again in 1 hour")
}

func TestPenaltyOfSeveralConditionsIsForTheFirstOfIf(t *testing.T) {
	w := newWorld(t, `
series:
  sent: {type: string, interval: 1m, windows: 1, add: {at: mail, key: sasl_username}}
  clients: {type: ip, interval: 1m, windows: 1, add: {at: mail}}
rules:
  - name: stolen
    at: mail
    if: [{series: sent, above: 0}, {series: clients, above: 0}]
    any: [{series: clients, mask: {ipv4: 24, ipv6: 64}, above: 0}]
    then: tempfail
    penalty: 10m
    reply: "{retry_after}"
`)
	alice := func(addr string) *policy.Event {
		ev := w.client(addr)
		ev.SetText(policy.SASLUsername, "alice")
		return ev
	}
	w.expect(alice("198.51.100.7"), policy.Mail, "tempfail: 451 4.7.1 10 minutes")
	if got := w.penalties(); got != "alice 10m0s" {
		t.Errorf("there are %s", got)
	}
	w.now = begin.Add(5 * time.Minute)
	w.expect(w.client("198.51.100.7"), policy.Mail, "continue") // no account
}

func TestSharedKeysHaveNoPenalty(t *testing.T) {
	w := newWorld(t, `
series:
  c: {type: ip, interval: 1m, windows: 1, add: {at: connect}}
rules:
  - {name: r, at: connect, if: {series: c, mask: {ipv4: 24, ipv6: 64}, above: 0}, then: tempfail, penalty: 1h, reply: no}
`)
	w.expect(w.client("192.0.2.9"), policy.Connect, "tempfail: 451 4.7.1 no")
	w.expect(w.client("192.0.2.1"), policy.Connect, "continue") // this host's own, in the same network
	w.now = begin.Add(2 * time.Minute)
	w.expect(w.client("192.0.2.10"), policy.Connect, "tempfail: 451 4.7.1 no")
}

func TestShadowPenaltiesAreKeptApart(t *testing.T) {
	policyText := func(mode string) string {
		return strings.Replace(harvest, "penalty: 2h", "penalty: 2h\n    mode: "+mode, 1)
	}
	shadow, enforce := newWorld(t, policyText("shadow")), newWorld(t, policyText("enforce"))
	shadow.guess(shadow.client("198.51.100.7"), 3)
	shadow.expect(shadow.client("198.51.100.7"), policy.Mail, "continue")
	shadow.now = begin.Add(90 * time.Minute)
	shadow.expect(shadow.client("198.51.100.7"), policy.Mail, "continue")
	lines := shadow.lines("verdict")
	if len(lines) != 2 || lines[1]["shadow"] != true || lines[1]["penalty"] != "30m0s" {
		t.Errorf("the log says %v", lines)
	}
	penalties := shadow.engine.Penalties(shadow.now)
	if len(penalties) != 1 || !penalties[0].Shadow {
		t.Errorf("there are %v", penalties)
	}
	enforce.engine.CarryPenalties(shadow.engine, shadow.now)
	enforce.engine.SetPenalty(penalties[0], shadow.now)
	if got := enforce.engine.Penalties(shadow.now); len(got) > 0 {
		t.Errorf("a rule that enforces took over %v", got)
	}
}

func TestPenaltiesAreCarriedOverByTheRulesName(t *testing.T) {
	before, same := newWorld(t, harvest), newWorld(t, harvest)
	renamed := newWorld(t, strings.ReplaceAll(harvest, "harvest", "guessing"))
	before.guess(before.client("198.51.100.7"), 3)
	before.decide(before.client("198.51.100.7"), policy.Mail)
	same.engine.CarryPenalties(before.engine, before.now)
	renamed.engine.CarryPenalties(before.engine, before.now)
	if got, want := same.penalties(), before.penalties(); got != want || got == "" {
		t.Errorf("%s became %s", want, got)
	}
	if got := renamed.penalties(); got != "" {
		t.Errorf("a rule of another name has %s", got)
	}
	same.expect(same.client("198.51.100.7"), policy.Mail, "tempfail: 451 4.7.1 harvest: penalty for 198.51.100.7, whose count in unknown was above 2; try again in 2 hours")
}

func TestPenaltyIsRemoved(t *testing.T) {
	w := newWorld(t, harvest)
	w.guess(w.client("198.51.100.7"), 5)
	for range 2 {
		w.decide(w.client("198.51.100.7"), policy.Mail)
		w.decide(w.client("198.51.100.9"), policy.Mail)
	}
	w.now = begin.Add(time.Hour)
	for _, row := range []struct {
		rule, key, want string
	}{
		{"harvest", "198.51.100.8", "false, <nil>"},
		{"harvest", "198.51.100.7", "true, <nil>"},
		{"harvest", "198.51.100.7", "false, <nil>"},
		{"harvest", "198.51.100.9/24", "true, <nil>"},
		{"harvst", "198.51.100.7", `false, unknown rule with a penalty "harvst"; did you mean harvest?`},
		{"trusted", "198.51.100.7", `false, unknown rule with a penalty "trusted"; there is harvest`},
	} {
		ran, err := w.engine.RemovePenalty(row.rule, row.key, w.now)
		if got := fmt.Sprintf("%v, %v", ran, err); got != row.want {
			t.Errorf("%s for %s: %s, want %s", row.rule, row.key, got, row.want)
		}
	}
	w.expect(w.client("198.51.100.7"), policy.Mail, "continue")
}

// Deltas in any order, any number of times, make the same penalties elsewhere.
func TestPenaltyDeltasMerge(t *testing.T) {
	a, b := newWorld(t, harvest), newWorld(t, harvest)
	var deltas []policy.Penalty
	for i := range 20 {
		a.now = begin.Add(time.Duration(i) * 10 * time.Second)
		ev := a.client(fmt.Sprintf("203.0.%d.1", i%15))
		a.guess(ev, 3)
		a.decide(ev, policy.Mail)
		if i%3 == 0 {
			deltas = append(deltas, a.engine.PenaltyDeltas(a.now)...)
		}
	}
	deltas = append(deltas, a.engine.PenaltyDeltas(a.now)...)
	if again := a.engine.PenaltyDeltas(a.now); len(again) > 0 {
		t.Errorf("nothing has changed but %v", again)
	}
	b.now = a.now
	deltas = append(deltas, deltas...)
	rand.New(rand.NewPCG(1, 2)).Shuffle(len(deltas), func(i, j int) { deltas[i], deltas[j] = deltas[j], deltas[i] })
	for _, d := range deltas {
		b.engine.SetPenalty(d, b.now)
	}
	if got, want := b.penalties(), a.penalties(); got != want || strings.Count(got, ",") != 14 {
		t.Errorf("merged: %s\nwant:   %s", got, want)
	}

	if _, err := a.engine.RemovePenalty("harvest", "203.0.3.1", a.now); err != nil {
		t.Fatal(err)
	}
	removed := policy.Penalty{Rule: "harvest", Subject: policy.Subject{Network: netip.MustParsePrefix("203.0.3.1/32")}, Since: a.now}
	if got := a.engine.PenaltyDeltas(a.now); !slices.Equal(got, []policy.Penalty{removed}) {
		t.Errorf("the removal's delta is %v", got)
	}

	// Removed and given again: who kept the old one has to hear of both.
	a.now = a.now.Add(10 * time.Minute)
	if _, err := a.engine.RemovePenalty("harvest", "203.0.4.1", a.now); err != nil {
		t.Fatal(err)
	}
	ev := a.client("203.0.4.1")
	a.guess(ev, 3)
	a.decide(ev, policy.Mail)
	removed.Network, removed.Since = netip.MustParsePrefix("203.0.4.1/32"), a.now
	if got := a.engine.PenaltyDeltas(a.now); len(got) != 2 || got[0] != removed || got[1].Network != removed.Network || got[1].Until.IsZero() {
		t.Errorf("the deltas of a penalty that was given again are %v", got)
	}
}

func TestPenaltyFromElsewhere(t *testing.T) {
	subject := policy.Subject{Network: netip.MustParsePrefix("198.51.100.7/32")}
	for _, row := range []struct {
		name string
		p    policy.Penalty
		want string
	}{
		{"runs as long as it says", policy.Penalty{Rule: "harvest", Subject: subject, Until: begin.Add(time.Hour)}, "198.51.100.7 1h0m0s"},
		{"but no longer than the rule gives", policy.Penalty{Rule: "harvest", Subject: subject, Until: begin.AddDate(300, 0, 0)}, "198.51.100.7 2h0m0s"},
		{"one that has ended is none", policy.Penalty{Rule: "harvest", Subject: subject, Until: begin}, ""},
		{"nor is one of another rule", policy.Penalty{Rule: "trusted", Subject: subject, Until: begin.Add(time.Hour)}, ""},
		{"nor a shadow's", policy.Penalty{Rule: "harvest", Shadow: true, Subject: subject, Until: begin.Add(time.Hour)}, ""},
	} {
		w := newWorld(t, harvest)
		w.engine.SetPenalty(row.p, w.now)
		if got := w.penalties(); got != row.want {
			t.Errorf("%s: there are %q, want %q", row.name, got, row.want)
		}
	}
}

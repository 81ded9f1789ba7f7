package policy_test

import (
	"maps"
	"testing"

	"github.com/audit-milter/audit-milter/policy"
)

const statsPolicy = `
series:
  mails: {type: ip, interval: 5m, windows: 1, add: {at: mail, when: 100 % size == 0}}
rules:
  - {name: tried, at: mail, then: reject, mode: shadow}
  - {name: tagged, at: mail, header: "X-A: b"}
  - {name: many, at: mail, if: {series: mails, above: 1}, then: tempfail}
`

func TestStatsCountWhatTheEngineDoes(t *testing.T) {
	w := newWorld(t, statsPolicy)
	tried := policy.RuleVerdict{Rule: "tried", Verdict: policy.Reject, Shadow: true}
	tagged := policy.RuleVerdict{Rule: "tagged", Verdict: policy.Continue}
	many := policy.RuleVerdict{Rule: "many", Verdict: policy.Tempfail}
	stats := w.engine.Stats()
	check := func(when string, want map[policy.RuleVerdict]uint64) {
		t.Helper()
		if got := stats.Decisions(); !maps.Equal(got, want) {
			t.Errorf("%s: %v; want %v", when, got, want)
		}
	}
	check("before the first event", map[policy.RuleVerdict]uint64{tried: 0, tagged: 0, many: 0})
	ev := w.client("198.51.100.1")
	ev.Size = 10
	for range 3 {
		w.decide(ev, policy.Mail)
	}
	check("the third one is refused, as the second was", map[policy.RuleVerdict]uint64{tried: 3, tagged: 3, many: 2})
	for _, n := range []struct {
		of        string
		got, want uint64
	}{
		{"events at mail", stats.Events(policy.Mail), 3},
		{"events at refused", stats.Events(policy.Refused), 2},
		{"events at rcpt", stats.Events(policy.Rcpt), 0},
		{"failures at mail", stats.Failures(policy.Mail), 0},
	} {
		if n.got != n.want {
			t.Errorf("%s: %d; want %d", n.of, n.got, n.want)
		}
	}
	ev.Size = 0
	w.decide(ev, policy.Mail) // divides by it
	if stats.Events(policy.Mail) != 4 || stats.Failures(policy.Mail) != 1 {
		t.Errorf("%d events at mail, %d failures", stats.Events(policy.Mail), stats.Failures(policy.Mail))
	}
}

// A refusal at a stage where a session's MTA does not wait refuses nothing, and is
// counted as one in shadow.
func TestStatsOfAnUnheardRefusal(t *testing.T) {
	w := newWorld(t, `rules: [{name: no, at: mail, then: reject}]`)
	ev := w.client("198.51.100.1")
	w.decide(ev, policy.Mail)
	ev.Unheard = policy.Stages(policy.Mail)
	w.decide(ev, policy.Mail)
	w.decide(ev, policy.Mail)
	want := map[policy.RuleVerdict]uint64{
		{Rule: "no", Verdict: policy.Reject}:               1,
		{Rule: "no", Verdict: policy.Reject, Shadow: true}: 2,
	}
	if got := w.engine.Stats().Decisions(); !maps.Equal(got, want) {
		t.Errorf("%v; want %v", got, want)
	}
}

// The engine that takes another one's place goes on with its numbers and its
// decisions, under the names of the rules.
func TestStatsOutliveAnEngine(t *testing.T) {
	w := newWorld(t, statsPolicy)
	ev := w.client("198.51.100.1")
	ev.Size = 10
	w.decide(ev, policy.Mail)
	w.follow(`
rules:
  - {name: tagged, at: mail, header: "X-A: b"}
  - {name: tried, at: mail, then: reject}
`)
	w.decide(ev, policy.Mail)
	want := map[policy.RuleVerdict]uint64{
		{Rule: "tried", Verdict: policy.Reject, Shadow: true}: 1,
		{Rule: "tried", Verdict: policy.Reject}:               1,
		{Rule: "tagged", Verdict: policy.Continue}:            2,
		{Rule: "many", Verdict: policy.Tempfail}:              0,
	}
	if got := w.engine.Stats().Decisions(); !maps.Equal(got, want) {
		t.Errorf("%v; want %v", got, want)
	}
	if got, want := w.recent(policy.Query{}), "tried at mail, tagged at mail, tagged at mail, tried at mail"; got != want {
		t.Errorf("kept: %s; want %s", got, want)
	}
}

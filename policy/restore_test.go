package policy_test

import (
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/audit-milter/audit-milter/internal/config"
	"github.com/audit-milter/audit-milter/policy"
	"github.com/audit-milter/audit-milter/series"
)

// parsed is a policy in YAML whose persist and serialize the test sets itself.
func parsed(t *testing.T, yaml string) *policy.Policy {
	t.Helper()
	conf, err := config.Parse("policy.yaml", []byte(yaml))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range conf.Policy.Series {
		s.Persist = true
	}
	return conf.Policy
}

// kept is what an engine leaves to the next start.
func (w *world) kept() (r policy.Restored) {
	for _, k := range w.engine.Kept() {
		r.Series = append(r.Series, k.Lasting)
	}
	r.Penalties = w.engine.Penalties(w.now)
	return r
}

// restart puts an engine with what was kept in the place of the world's.
func (w *world) restart(r policy.Restored, p *policy.Policy) policy.Changes {
	w.t.Helper()
	next, changes, err := policy.Restore(r, p, policy.Options{Log: slog.New(slog.NewJSONHandler(&w.log, nil)), Start: w.now})
	if err != nil {
		w.t.Fatal(err)
	}
	w.engine = next
	return changes
}

func TestWhatBecomesOfTheSeriesAtAStart(t *testing.T) {
	const before = `
series:
  a: {type: ip, interval: 5m, windows: 6, add: {at: connect}}
  b: {type: ip, interval: 5m, windows: 6, add: {at: connect}}
`
	for _, row := range []struct {
		name, after string
		forgets     string // a series that persists no longer
		want        string
		same        bool  // a is the same series
		a           int64 // how often the client counts in a
	}{
		{"nothing has changed", before, "", "kept a b", true, 2},
		{
			"one is gone and another is there",
			`series: {c: {type: ip, interval: 5m, windows: 6, add: {at: connect}}, a: {type: ip, interval: 5m, windows: 6, add: {at: connect}}}`,
			"", "kept a, begun c, dropped b", true, 2,
		},
		{
			"one has more windows",
			`series: {a: {type: ip, interval: 5m, windows: 12, add: {at: connect}}, b: {type: ip, interval: 5m, windows: 6, add: {at: connect}}}`,
			"", `kept b; a lost ""`, false, 2,
		},
		{
			"one takes another kind of address",
			`series: {a: {type: cidr_ipv6, interval: 5m, windows: 6, add: {at: connect}}, b: {type: ip, interval: 5m, windows: 6, add: {at: connect}}}`,
			"", `kept b; a lost "keys of another type: 1"`, false, 0,
		},
		{
			"one counts different values",
			`series: {a: {type: ip, interval: 5m, windows: 6, distinct: helo_name, add: {at: helo}}, b: {type: ip, interval: 5m, windows: 6, add: {at: connect}}}`,
			"", `kept b; a lost "all counts, since something else is counted"`, false, 0,
		},
		{"one persists no longer", before, "a", "kept b, begun a, dropped a", false, 0},
	} {
		w := newWorld(t, before)
		ev := w.client("198.51.100.7")
		w.decide(ev, policy.Connect)
		w.decide(ev, policy.Connect)
		old := w.engine.Counter("a")
		after := parsed(t, row.after)
		for _, s := range after.Series {
			s.Persist = s.Name != row.forgets
		}
		w.now = w.now.Add(time.Minute)
		if got := toldChanges(w.restart(w.kept(), after)); got != row.want {
			t.Errorf("%s: %s, want %s", row.name, got, row.want)
		}
		if same := w.engine.Counter("a") == old; same != row.same {
			t.Errorf("%s: it is %v that a is the same", row.name, same)
		}
		if got := w.countOf("a", "198.51.100.7"); got != row.a {
			t.Errorf("%s: a counts %d, want %d", row.name, got, row.a)
		}
	}
}

func TestARestoredSeriesGoesOnCounting(t *testing.T) {
	const yaml = `
series: {s: {type: ip, interval: 5m, windows: 1, add: {at: mail}}}
rules: [{name: r, at: mail, if: {series: s, above: 1}, then: reject, reply: "{count}"}]
`
	w := newWorld(t, yaml)
	w.expect(w.client("198.51.100.7"), policy.Mail, "continue")
	w.restart(w.kept(), parsed(t, yaml))
	w.expect(w.client("198.51.100.7"), policy.Mail, "reject: 550 5.7.1 2")
	w.expect(w.client("198.51.100.8"), policy.Mail, "continue")
}

// The limit of an old configuration or another clock does not outlive it, nor
// does a penalty whose rule would not give it now.
func TestWhatBecomesOfThePenaltiesAtAStart(t *testing.T) {
	const yaml = `
series: {s: {type: ip, interval: 5m, windows: 1, add: {at: mail}}}
rules: [{name: r, at: mail, if: {series: s, above: 0}, then: reject, penalty: 1h}]
`
	penalty := policy.Penalty{Rule: "r", Subject: policy.Subject{Network: netip.MustParsePrefix("198.51.100.7/32")}}
	for _, row := range []struct {
		name   string
		rule   string
		shadow bool
		until  time.Duration
		want   string
		told   string
	}{
		{"runs on", "r", false, 20 * time.Minute, "198.51.100.7 20m0s", ""},
		{"for no longer than its rule gives", "r", false, 9 * time.Hour, "198.51.100.7 1h0m0s", ""},
		{"has ended meanwhile", "r", false, -time.Second, "", ""},
		{"its rule has gone", "gone", false, 20 * time.Minute, "", ", freed gone"},
		{"and it would have ended", "gone", false, -time.Second, "", ""},
		{"its rule was a shadow", "r", true, 20 * time.Minute, "", ", freed r"},
	} {
		w := newWorld(t, yaml)
		penalty.Rule, penalty.Shadow, penalty.Until = row.rule, row.shadow, w.now.Add(row.until)
		changes := w.restart(policy.Restored{Penalties: []policy.Penalty{penalty, penalty}}, parsed(t, yaml))
		if got := w.penalties(); got != row.want {
			t.Errorf("%s: there are %q, want %q", row.name, got, row.want)
		}
		if got := toldChanges(changes); got != "begun s"+row.told {
			t.Errorf("%s: %q is told, want %q", row.name, got, row.told)
		}
	}
}

func TestNothingIsRestoredWithoutATime(t *testing.T) {
	if _, _, err := policy.Restore(policy.Restored{}, parsed(t, "series: {}"), policy.Options{}); err == nil {
		t.Error("there is an engine")
	}
}

func TestADefinitionThatIsNoneMakesNoSeries(t *testing.T) {
	for _, of := range []*policy.Distinct{nil, {}} {
		_, err := policy.NewLasting(series.Definition{Name: "s", Interval: time.Second, Windows: -1}, of, nil)
		if err == nil || !strings.HasPrefix(err.Error(), `series "s": `) {
			t.Errorf("the error is %v", err)
		}
	}
}

func TestKeptSeriesAreThoseOfTheConfiguration(t *testing.T) {
	p := parsed(t, `
series:
  b: {type: ip, interval: 5m, windows: 6, add: {at: connect}}
  a: {type: ip, interval: 5m, windows: 6, distinct: helo_name, add: {at: helo}}
rules: [{name: r, at: helo, if: {series: a, mask: {ipv4: 24, ipv6: 64}, above: 9}, then: reject}]
`)
	p.Series[1].Persist, p.Series[1].Serialize = false, true
	e, err := policy.NewEngine(p, policy.Options{})
	if err != nil {
		t.Fatal(err)
	}
	kept := e.Kept()
	if len(kept) != 2 {
		t.Fatalf("there are %d", len(kept))
	}
	b, a := kept[0], kept[1]
	if b.Definition.Name != "b" || !b.Persist || b.Serialize || b.Of != nil || b.Counter != e.Counter("b") {
		t.Errorf("the first one is %+v", b)
	}
	if a.Definition.Name != "a" || a.Persist || !a.Serialize || a.Of == nil || len(a.Masks) != 1 || a.Counter != e.Counter("a") {
		t.Errorf("the second one is %+v", a)
	}
}

// A set that hears all deltas has what the engine has.
func TestAPenaltySetFollowsItsEngine(t *testing.T) {
	w := newWorld(t, harvest)
	set := make(policy.PenaltySet)
	hear := func() {
		for _, d := range w.engine.PenaltyDeltas(w.now) {
			set.Merge(d)
		}
	}
	same := func(when string) {
		t.Helper()
		want := w.engine.Penalties(w.now)
		got := set.Running(w.now)
		ends := make(map[policy.Subject]time.Time)
		for _, p := range got {
			ends[p.Subject] = p.Until
		}
		if len(got) != len(want) {
			t.Errorf("%s: there are %v, want %v", when, got, want)
		}
		for _, p := range want {
			if !ends[p.Subject].Equal(p.Until) {
				t.Errorf("%s: %s ends at %v, want %v", when, p.Subject, ends[p.Subject], p.Until)
			}
		}
	}
	hear()
	for _, addr := range []string{"198.51.100.7", "203.0.113.9"} {
		w.guess(w.client(addr), 3)
		w.decide(w.client(addr), policy.Mail)
	}
	hear()
	same("two were given")
	w.now = w.now.Add(30 * time.Minute)
	w.decide(w.client("203.0.113.9"), policy.Mail)
	hear()
	same("one begins anew")
	if _, err := w.engine.RemovePenalty("harvest", "198.51.100.7", w.now); err != nil {
		t.Fatal(err)
	}
	hear()
	same("one was removed")
	w.now = w.now.Add(3 * time.Hour)
	hear()
	same("all have ended")
	if len(set) > 0 {
		t.Errorf("the set still has %v", set)
	}
}

// After a step of the clock back a penalty ends earlier than it was said to.
func TestTheLastEndOfAPenaltyCounts(t *testing.T) {
	p := policy.Penalty{Rule: "r", Subject: policy.Subject{Text: "alice"}, Until: begin.Add(time.Hour)}
	set := make(policy.PenaltySet)
	set.Merge(p)
	shadow, earlier := p, p
	shadow.Shadow, shadow.Until = true, begin.Add(2*time.Hour)
	earlier.Until = begin.Add(time.Minute)
	set.Merge(shadow)
	set.Merge(earlier)
	if running := set.Running(begin); len(running) != 2 {
		t.Errorf("there are %v, want those of the rule and of its shadow", running)
	}
	if running := set.Running(begin.Add(30 * time.Minute)); len(running) != 1 || running[0] != shadow {
		t.Errorf("there are %v, want that of the shadow", running)
	}
}

package policy_test

import (
	"fmt"
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"github.com/audit-milter/audit-milter/internal/config"
	"github.com/audit-milter/audit-milter/policy"
	"github.com/audit-milter/audit-milter/series"
)

// follow puts another policy in the place of the engine's.
func (w *world) follow(yaml string) policy.Changes {
	w.t.Helper()
	conf, err := config.Parse("policy.yaml", []byte(yaml))
	if err != nil {
		w.t.Fatal(err)
	}
	level := &slog.HandlerOptions{Level: conf.Log.Level}
	options := policy.Options{Log: slog.New(slog.NewJSONHandler(&w.log, level)), Start: w.now, OwnAddresses: ownAddresses}
	next, changes, err := w.engine.Successor(conf.Policy, options)
	if err != nil {
		w.t.Fatal(err)
	}
	w.engine.Retire(next)
	w.engine = next
	return changes
}

// countOf is what a series has counted of an address in its windows.
func (w *world) countOf(name, addr string) int64 {
	s := w.engine.Counter(name)
	return s.Count(addrKey(addr), series.Host, 0, s.Definition().Windows-1, w.now)
}

func TestWhatBecomesOfTheSeries(t *testing.T) {
	const before = `
series:
  a: {type: ip, interval: 5m, windows: 6, add: {at: connect}}
  b: {type: ip, interval: 5m, windows: 6, add: {at: connect}}
`
	for _, row := range []struct {
		name, after string
		want        string
		a           int64 // how often the client counts in a
	}{
		{"nothing has changed", before, "kept a b", 3},
		{
			"another order, and something else is added",
			`series: {b: {type: ip, interval: 5m, windows: 6, add: {at: helo}}, a: {type: ip, interval: 5m, windows: 6, add: {at: connect, count: 2}}}`,
			"kept b a", 4,
		},
		{
			"one is gone and another is there",
			`series: {a: {type: ip, interval: 5m, windows: 6, add: {at: connect}}, c: {type: ip, interval: 5m, windows: 6, add: {at: connect}}}`,
			"kept a, begun c, dropped b", 3,
		},
		{
			"one has more windows",
			`series: {a: {type: ip, interval: 5m, windows: 12, add: {at: connect}}, b: {type: ip, interval: 5m, windows: 6, add: {at: connect}}}`,
			`kept b; a lost ""`, 3,
		},
		{
			"one takes another kind of address",
			`series: {a: {type: cidr_ipv6, interval: 5m, windows: 6, add: {at: connect}}, b: {type: ip, interval: 5m, windows: 6, add: {at: connect}}}`,
			`kept b; a lost "keys of another type: 1"`, 0,
		},
		{
			"one counts different values",
			`series: {a: {type: ip, interval: 5m, windows: 6, distinct: client_address, add: {at: connect}}, b: {type: ip, interval: 5m, windows: 6, add: {at: connect}}}`,
			`kept b; a lost "all counts, since something else is counted"`, 1,
		},
	} {
		w := newWorld(t, before)
		ev := w.client("198.51.100.7")
		w.decide(ev, policy.Connect)
		w.decide(ev, policy.Connect)
		changes := w.follow(row.after)
		w.decide(ev, policy.Connect)
		if got := toldChanges(changes); got != row.want {
			t.Errorf("%s: %s, want %s", row.name, got, row.want)
		}
		if got := w.countOf("a", "198.51.100.7"); got != row.a {
			t.Errorf("%s: a counts %d, want %d", row.name, got, row.a)
		}
	}
}

func addrKey(addr string) series.Key { return series.AddrKey(netip.MustParseAddr(addr)) }

// toldChanges are the changes in words.
func toldChanges(c policy.Changes) (told string) {
	for _, list := range []struct {
		what  string
		names []string
	}{{"kept", c.Kept}, {"begun", c.Begun}, {"dropped", c.Dropped}, {"freed", c.Freed}} {
		for i, name := range list.names {
			switch {
			case i == 0 && told != "":
				told += ", " + list.what
			case i == 0:
				told += list.what
			}
			told += " " + name
		}
	}
	for _, r := range c.Reshaped {
		told += fmt.Sprintf("; %s lost %q", r.Name, r.Lost)
	}
	return told
}

// What an engine leaves behind takes no adds any more, also of sessions that go
// on under it, nor are they taken back; what it shares with its successor does.
func TestARetiredEngineCountsWhereItsSuccessorDoes(t *testing.T) {
	w := newWorld(t, `
series:
  kept:    {type: ip, interval: 5m, windows: 6, add: {at: mail}}
  dropped: {type: ip, interval: 5m, windows: 6, add: {at: mail}}
`)
	ev, old := w.client("198.51.100.7"), w.engine
	w.decide(ev, policy.Mail)
	w.follow(`series: {kept: {type: ip, interval: 5m, windows: 6, add: {at: mail}}}`)
	if _, err := old.Decide(ev, policy.Mail, w.now); err != nil {
		t.Fatal(err)
	}
	gone := old.Counter("dropped").Count(addrKey("198.51.100.7"), series.Host, 0, 5, w.now)
	if kept := w.countOf("kept", "198.51.100.7"); kept != 2 || gone != 1 {
		t.Errorf("kept counts %d, dropped %d; want 2 and 1", kept, gone)
	}
}

func TestWhatTheLogHoldsBackGoesOver(t *testing.T) {
	const yaml = `rules: [{name: r, at: mail, then: reject}]`
	w := newWorld(t, yaml)
	ev := w.client("198.51.100.7")
	for range 8 {
		w.decide(ev, policy.Mail)
	}
	w.follow(yaml)
	for range 8 {
		w.decide(ev, policy.Mail)
	}
	if n := len(w.lines("verdict")); n != 10 {
		t.Errorf("%d verdicts are logged each, want 10", n)
	}
	w.engine.Close()
	if lines := w.lines("verdict repeated"); len(lines) != 1 || lines[0]["times"] != 6.0 {
		t.Errorf("held back: %v, want 6 times", lines)
	}
}

func TestAPenaltyGoesOverWithItsRule(t *testing.T) {
	const yaml = `
series: {s: {type: ip, interval: 5m, windows: 1, add: {at: mail}}}
rules: [{name: %s, at: mail, if: {series: s, above: %d}, then: reject, penalty: 1h}]
`
	w := newWorld(t, fmt.Sprintf(yaml, "r", 0))
	ev := w.client("198.51.100.7")
	w.decide(ev, policy.Mail)
	for _, row := range []struct {
		what, rule string
		want       int
		told       string
	}{{"the same", "r", 1, "kept s"}, {"renamed", "other", 0, "kept s, freed r"}, {"named as before", "r", 0, "kept s"}} {
		changes := w.follow(fmt.Sprintf(yaml, row.rule, 100))
		if n := len(w.engine.Penalties(w.now)); n != row.want {
			t.Errorf("the rule is %s: %d penalties, want %d", row.what, n, row.want)
		}
		if got := toldChanges(changes); got != row.told {
			t.Errorf("the rule is %s: %s, want %s", row.what, got, row.told)
		}
	}
}

// Who shortens a rule's penalty does not wait for those that it gave before, as after a
// restart; a longer one is for who fires from now on.
func TestAPenaltyGoesOverForNoLongerThanItsRuleGives(t *testing.T) {
	const yaml = `
series: {s: {type: ip, interval: 5m, windows: 1, add: {at: mail}}}
rules: [{name: r, at: mail, if: {series: s, above: 0}, then: reject, penalty: %s}]
`
	w := newWorld(t, fmt.Sprintf(yaml, "1d"))
	w.decide(w.client("198.51.100.7"), policy.Mail)
	w.now = w.now.Add(23 * time.Hour)
	w.decide(w.client("198.51.100.8"), policy.Mail)
	told := make(policy.PenaltySet)
	for _, row := range []struct{ gives, want string }{
		{"2h", "198.51.100.7 1h0m0s, 198.51.100.8 2h0m0s"},
		{"20m", "198.51.100.7 20m0s, 198.51.100.8 20m0s"},
		{"3h", "198.51.100.7 20m0s, 198.51.100.8 20m0s"},
	} {
		for _, p := range w.engine.PenaltyDeltas(w.now) {
			told.Merge(p)
		}
		w.follow(fmt.Sprintf(yaml, row.gives))
		if got := w.penalties(); got != row.want {
			t.Errorf("penalty: %s: %s; want %s", row.gives, got, row.want)
		}
	}
	for _, p := range w.engine.PenaltyDeltas(w.now) {
		told.Merge(p)
	}
	for _, p := range told.Running(w.now) {
		if left := p.Until.Sub(w.now); left != 20*time.Minute {
			t.Errorf("the penalty for %s was told to run for %s", p.Subject, left)
		}
	}
}

// The watch over the clock goes over: a step in the moment of the reload is
// noticed as any other.
func TestAStepOfTheClockDuringAReloadIsTold(t *testing.T) {
	const yaml = `series: {s: {type: ip, interval: 5m, windows: 6, add: {at: connect}}}`
	w := newWorld(t, yaml)
	ev := w.client("198.51.100.7")
	w.decide(ev, policy.Connect)
	w.follow(yaml)
	w.now = w.now.Add(time.Hour)
	w.decide(ev, policy.Connect)
	if lines := w.lines("the clock was set"); len(lines) != 1 {
		t.Errorf("told %d times", len(lines))
	}
}

// Blocks of different values are counted under the masks that rules name: a rule
// with another one makes the series anew, one that goes does not. Neither loses any.
func TestADistinctSeriesIsKeptAsLongAsItHasTheMasks(t *testing.T) {
	policyWith := func(of string, masks ...string) string {
		yaml := "series: {names: {type: ip, interval: 5m, windows: 6, distinct: " + of + ", add: {at: helo}}}\nrules:\n"
		for i, m := range masks {
			yaml += fmt.Sprintf("  - {name: r%d, at: helo, if: {series: names, mask: {ipv4: %s, ipv6: 64}, above: 9}, then: tempfail}\n", i, m)
		}
		return yaml
	}
	for _, row := range []struct {
		name          string
		before, after string
		want          string
		count         int64 // of the /16
	}{
		{"the same masks", policyWith("helo_name", "24", "16"), policyWith("helo_name", "16", "24"), "kept names", 2},
		{"one less", policyWith("helo_name", "24", "16"), policyWith("helo_name", "24"), "kept names", 2},
		{"one more", policyWith("helo_name", "24"), policyWith("helo_name", "24", "16"), `; names lost ""`, 2},
		{"of something else", policyWith("helo_name", "16"), policyWith("client_address", "16"), `; names lost "all counts, since something else is counted"`, 0},
	} {
		w := newWorld(t, row.before)
		for i, name := range []string{"a", "b", "b"} {
			ev := w.client(fmt.Sprintf("198.51.100.%d", i))
			ev.SetHelo(name)
			w.decide(ev, policy.Helo)
		}
		if got := toldChanges(w.follow(row.after)); got != row.want {
			t.Errorf("%s: %s, want %s", row.name, got, row.want)
		}
		if n := w.engine.Counter("names").Count(addrKey("198.51.100.9"), series.Mask{IPv4: 16}, 0, 5, w.now); n != row.count {
			t.Errorf("%s: the /16 shows %d names, want %d", row.name, n, row.count)
		}
	}
}

// What keys a dropped series has lost is told with its end.
func TestADroppedSeriesTellsItsEvictions(t *testing.T) {
	w := newWorld(t, `series: {small: {type: ip, interval: 5m, windows: 6, max_keys: 1, add: {at: connect}}}`)
	for i := range 100 {
		w.decide(w.client(fmt.Sprintf("198.51.100.%d", i)), policy.Connect)
	}
	w.follow(`series: {}`)
	if lines := w.lines("max_keys reached: keys were evicted"); len(lines) != 1 {
		t.Errorf("told %d times", len(lines))
	}
}

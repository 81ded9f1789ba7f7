package policy_test

import (
	"strings"
	"testing"
	"time"

	"github.com/audit-milter/audit-milter/internal/config"
	"github.com/audit-milter/audit-milter/policy"
	"github.com/audit-milter/audit-milter/series"
)

const atMostTwo = `
rules:
  - name: many
    at: connect
    if: {series: open_sessions, mask: {ipv4: 24, ipv6: 64}, above: 2}
    then: tempfail
`

func TestOpenSessionsAreThoseOfThePresent(t *testing.T) {
	w := newWorld(t, atMostTwo)
	const refused = "tempfail: 451 4.7.1 many: 3 in open_sessions for 198.51.100.0/24 at present, above 2; try again in 1 minute"
	var open []*policy.Event
	connect := func(addr, want string) {
		t.Helper()
		ev := w.client(addr)
		open = append(open, ev)
		w.expect(ev, policy.Connect, want)
	}
	connect("198.51.100.1", "continue")
	connect("198.51.100.2", "continue")
	connect("203.0.113.1", "continue")
	connect("198.51.100.3", refused)
	connect("2001:db8::1", "continue")
	w.now = w.now.Add(365 * 24 * time.Hour) // a year does not end a session
	open[0].Leave()
	connect("198.51.100.4", refused) // the refused one is open as well, until its MTA closes
	open[3].Leave()
	open[3].Leave() // once
	open[5].Leave()
	connect("198.51.100.5", "continue")
	for _, ev := range open {
		ev.Leave()
	}
	if n := w.engine.Counter(policy.OpenSessions).Len(); n != 0 {
		t.Errorf("%d keys after all have gone", n)
	}
}

func TestASessionIsOpenOnceAndByItsClient(t *testing.T) {
	w := newWorld(t, atMostTwo)
	ev := w.client("198.51.100.1")
	for range 5 { // an MTA that says it again
		w.expect(ev, policy.Connect, "continue")
	}
	unknown := &policy.Event{} // by a unix socket
	w.expect(unknown, policy.Connect, "continue")
	if n := w.openBy("198.51.100.1"); n != 1 {
		t.Errorf("open %d times", n)
	}
	ev.Leave()
	unknown.Leave()
	if n := w.engine.Counter(policy.OpenSessions).Len(); n != 0 {
		t.Errorf("%d keys after all have gone", n)
	}
}

func TestOpenSessionsOutliveAPolicy(t *testing.T) {
	w := newWorld(t, atMostTwo)
	before, after := w.client("198.51.100.1"), w.client("198.51.100.1")
	w.decide(before, policy.Connect)
	if changes := toldChanges(w.follow(atMostTwo)); changes != "" {
		t.Errorf("the reload tells of %s", changes)
	}
	w.decide(after, policy.Connect)
	if n := w.openBy("198.51.100.1"); n != 2 {
		t.Errorf("%d are open, want 2", n)
	}
	before.Leave()
	w.follow(`series: {}`)
	after.Leave()
	if n := w.openBy("198.51.100.1"); n != 0 {
		t.Errorf("%d are open after both have gone", n)
	}
}

func (w *world) openBy(addr string) int64 {
	return w.engine.Counter(policy.OpenSessions).Count(addrKey(addr), series.Host, 0, 0, w.now)
}

func TestNotesOnOpenSessions(t *testing.T) {
	for _, row := range []struct{ name, yaml, want string }{
		{"connect is answered", atMostTwo, ""},
		{"connect is not shown", `series: {s: {type: string, interval: 5m, windows: 6, add: {at: mail, key: sender}}}`,
			"the MTA does not show connect, so open_sessions is empty"},
		{"connect is shown and not answered", `rules: [{name: r, at: mail, if: {series: open_sessions, above: 20}, then: tempfail}]`,
			"rule r: nothing is answered at connect, so Postfix shows a connection with its client's first command that is answered, and open_sessions lacks it until then; a rule at connect has them all"},
	} {
		conf, err := config.Parse("policy.yaml", []byte(row.yaml))
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		for _, note := range conf.Policy.Notes() {
			if strings.Contains(note, "open_sessions") {
				got += note
			}
		}
		if got != row.want {
			t.Errorf("%s: %q, want %q", row.name, got, row.want)
		}
	}
}

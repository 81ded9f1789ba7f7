package policy_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode"

	"github.com/audit-milter/audit-milter/policy"
)

// recent are the decisions that a query finds, the newest one first, each as
// its rule and stage.
func (w *world) recent(q policy.Query) string {
	var told []string
	for _, d := range w.engine.Stats().Recent.Find(q) {
		told = append(told, d.Rule+" at "+d.Stage.String())
	}
	return strings.Join(told, ", ")
}

func TestADecisionIsKeptAsItWasTaken(t *testing.T) {
	w := newWorld(t, `
series:
  rcpts: {type: ip, interval: 5m, windows: 6, add: {at: rcpt}}
rules:
  - {name: many, at: rcpt, if: {series: rcpts, mask: {ipv4: 24, ipv6: 64}, windows: 0-5, above: 1}, then: tempfail, delay: 2s, header: "X-A: b"}
`)
	ev := w.client("198.51.100.7")
	ev.SetHelo("Client.Example.")
	ev.SetSender("<A@b.test>")
	ev.SetText(policy.SASLUsername, "Alice")
	ev.SetText(policy.QueueID, "4ZqXyz")
	ev.SetRecipient("<c@d.test>")
	w.expect(ev, policy.Rcpt, "continue")
	w.now = begin.Add(time.Minute)
	w.decide(ev, policy.Rcpt)
	found := w.engine.Stats().Recent.Find(policy.Query{})
	want := policy.Decision{
		Time: begin.Add(time.Minute),
		Verdict: policy.Verdict{
			Action: policy.Tempfail, Stage: policy.Rcpt, Rule: "many", Delay: 2 * time.Second,
			Measure: policy.Measure{
				Series: "rcpts", Key: "198.51.100.7", Network: "198.51.100.0/24", To: 5, Interval: 5 * time.Minute,
				Numbers: policy.Numbers{Count: 2, Threshold: policy.Threshold{N: 1}}, RetryAfter: 29 * time.Minute,
			},
			Reply: policy.Reply{Code: 451, Enhanced: "4.7.1", Text: "many: 2 in rcpts for 198.51.100.0/24 over 30 minutes, above 1; try again in 29 minutes"},
		},
		Session: "s1", QueueID: "4ZqXyz", ClientAddress: "198.51.100.7", HeloName: "client.example",
		SASLUsername: "alice", Sender: "a@b.test", Recipient: "c@d.test",
	}
	if len(found) != 1 || fmt.Sprintf("%+v", found[0]) != fmt.Sprintf("%+v", want) {
		t.Errorf("kept\n%+v\nwant\n%+v", found, want)
	}
}

// A message of each of two sessions, as Postfix has them: the first one gets
// its queue id with its second recipient.
func TestDecisionsAreFound(t *testing.T) {
	w := newWorld(t, `
series:
  users: {type: string, interval: 5m, windows: 1, add: {at: mail, key: sasl_username}}
  clients: {type: ip, interval: 5m, windows: 1, add: {at: connect}}
rules:
  - {name: seen, at: connect, if: {series: clients, mask: {ipv4: 24, ipv6: 64}, above: 0}, then: reject, mode: shadow}
  - {name: busy, at: mail, if: {series: users, above: 0}, delay: 1s}
  - {name: known, at: rcpt, when: recipient == "b@x.test", then: accept}
  - {name: odd, at: eom, when: sender == "<>", then: quarantine}
  - {name: enough, at: eom, then: reject}
`)
	one, two := w.client("198.51.100.1"), w.client("198.51.100.2")
	two.Session = "s2"
	for _, ev := range []*policy.Event{one, two} {
		w.decide(ev, policy.Connect)
		ev.SetSender("a@x.test")
		ev.SetText(policy.SASLUsername, "alice")
		w.decide(ev, policy.Mail)
	}
	for i, to := range []string{"a@x.test", "b@x.test"} {
		one.SetRecipient(to)
		if i > 0 {
			one.SetText(policy.QueueID, "Q1")
		}
		w.decide(one, policy.Rcpt)
	}
	w.decide(one, policy.EOM)
	one.ResetMessage()
	one.SetSender("a@x.test")
	w.decide(one, policy.Mail)
	one.SetText(policy.QueueID, "Q2")
	w.decide(one, policy.EOM)
	for _, row := range []struct {
		name  string
		query policy.Query
		want  string
	}{
		{"all", policy.Query{}, "enough at eom, enough at eom, known at rcpt, busy at mail, seen at connect, busy at mail, seen at connect"},
		{"the newest", policy.Query{Limit: 2}, "enough at eom, enough at eom"},
		{"a session's", policy.Query{Session: "s1"}, "enough at eom, enough at eom, known at rcpt, busy at mail, seen at connect"},
		{"another session's", policy.Query{Session: "s2"}, "busy at mail, seen at connect"},
		{"a message's, also what came before its queue id", policy.Query{QueueID: "Q1"}, "enough at eom, known at rcpt, busy at mail"},
		{"the next message's", policy.Query{QueueID: "Q2"}, "enough at eom"},
		{"a key's", policy.Query{Key: "alice"}, "busy at mail, busy at mail"},
		{"a key's in one session", policy.Query{Key: "alice", Session: "s2"}, "busy at mail"},
		{"a network's", policy.Query{Key: "198.51.100.0/24"}, "seen at connect, seen at connect"},
		{"a client's", policy.Query{Key: "198.51.100.2"}, "busy at mail, seen at connect"},
		{"a client's newest", policy.Query{Key: "198.51.100.2", Limit: 1}, "busy at mail"},
		{"nobody's", policy.Query{Key: "198.51.100.3"}, ""},
		{"an unknown session's", policy.Query{Session: "s3"}, ""},
	} {
		if got := w.recent(row.query); got != row.want {
			t.Errorf("%s: %s\nwant %s", row.name, got, row.want)
		}
	}
}

// What the log leaves out is kept, until there are too many.
func TestTheLastDecisionsAreKept(t *testing.T) {
	const more = 25
	w := newWorld(t, `
rules:
  - {name: bad, at: connect, then: reject, reply: no}
`)
	ev := w.client("198.51.100.1")
	for i := range policy.MaxRecent + more {
		w.now = begin.Add(time.Duration(i) * time.Millisecond)
		w.decide(ev, policy.Connect)
	}
	found := w.engine.Stats().Recent.Find(policy.Query{})
	if len(found) != policy.MaxRecent {
		t.Fatalf("%d are kept", len(found))
	}
	if oldest := found[len(found)-1].Time.Sub(begin); !found[0].Time.Equal(w.now) || oldest != more*time.Millisecond {
		t.Errorf("from %v to %v are kept", oldest, found[0].Time.Sub(begin))
	}
}

func TestFoundDecisionsAreHarmless(t *testing.T) {
	const longest = 3 * 255 // bytes: a replaced one has three
	for what, text := range hostile {
		w := newWorld(t, `
series:
  names: {type: string, interval: 5m, windows: 1, add: {at: mail, key: helo_name}}
rules:
  - {name: many, at: mail, if: {series: names, above: 0}, header: "X-A: b"}
  - {name: held, at: mail, then: quarantine}
`)
		ev := hostileEvent(text)
		w.decide(&ev, policy.Mail)
		found := w.engine.Stats().Recent.Find(policy.Query{QueueID: ev.QueueID})
		if len(found) != 2 {
			t.Errorf("%s: found %v", what, found)
		}
		for _, d := range found {
			for _, field := range []string{d.QueueID, d.HeloName, d.SASLUsername, d.Sender, d.Recipient, d.Key, d.Reason} {
				if len(field) > longest || strings.ContainsFunc(field, func(r rune) bool { return !unicode.IsPrint(r) }) {
					t.Errorf("%s: found %q", what, field)
				}
			}
		}
	}
}

// Whoever adds does not disturb who reads: what is found are whole decisions,
// the newest one first. The race detector looks on.
func TestDecisionsAreFoundWhileOthersAreTaken(t *testing.T) {
	w := newWorld(t, `
rules:
  - {name: all, at: mail, then: reject, reply: no}
`)
	var taking sync.WaitGroup
	for i := range 4 {
		taking.Go(func() {
			ev := hostileEvent("x")
			ev.Session = fmt.Sprint("s", i)
			for n := range 2 * policy.MaxRecent {
				ev.ResetMessage()
				ev.SetSender(fmt.Sprintf("%d@%s.test", n, ev.Session))
				w.engine.Decide(&ev, policy.Mail, begin.Add(time.Duration(n)))
				ev.SetText(policy.QueueID, fmt.Sprint(ev.Session, "-", n))
			}
		})
	}
	for range 50 {
		found := w.engine.Stats().Recent.Find(policy.Query{Session: "s1"})
		for _, d := range found {
			n := d.Time.Sub(begin).Nanoseconds()
			if d.Sender != fmt.Sprintf("%d@s1.test", n) || d.QueueID != "" && d.QueueID != fmt.Sprint("s1-", n) {
				t.Fatalf("found %+v", d)
			}
		}
		if !slices.IsSortedFunc(found, func(a, b policy.Decision) int { return b.Time.Compare(a.Time) }) {
			t.Fatal("not the newest one first")
		}
	}
	taking.Wait()
}

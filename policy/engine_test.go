package policy_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/audit-milter/audit-milter/internal/config"
	"github.com/audit-milter/audit-milter/policy"
	"github.com/audit-milter/audit-milter/series"
)

// world is an engine with a policy in YAML and clocks that the test owns.
type world struct {
	t         testing.TB
	engine    *policy.Engine
	now       time.Time
	monotonic time.Duration // what really passed
	log, text bytes.Buffer  // what the engine logs, as JSON and as text
}

// begin is the begin of an hour, so that windows begin there too.
var begin = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

var ownAddresses = []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}

// newWorld has an engine that begins to count with its first event.
func newWorld(t testing.TB, yaml string) *world {
	t.Helper()
	return newWorldAt(t, yaml, time.Time{})
}

// newWorldAt has an engine that begins to count then.
func newWorldAt(t testing.TB, yaml string, start time.Time) *world {
	t.Helper()
	conf, err := config.Parse("policy.yaml", []byte(yaml))
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, now: begin}
	level := &slog.HandlerOptions{Level: conf.Log.Level}
	options := policy.Options{
		Log:          slog.New(slog.NewMultiHandler(slog.NewJSONHandler(&w.log, level), slog.NewTextHandler(&w.text, level))),
		OwnAddresses: ownAddresses,
		Start:        start,
		Monotonic:    func(time.Time) time.Duration { return w.monotonic },
	}
	if w.engine, err = policy.NewEngine(conf.Policy, options); err != nil {
		t.Fatal(err)
	}
	return w
}

// client is a new session's event.
func (w *world) client(addr string) *policy.Event {
	ev := &policy.Event{}
	ev.Session = "s1"
	ev.SetClient(netip.MustParseAddr(addr), 40000, "")
	return ev
}

// decide asks the engine and tells the answer in words.
func (w *world) decide(ev *policy.Event, s policy.Stage) string {
	w.t.Helper()
	v, err := w.engine.Decide(ev, s, w.now)
	if err != nil {
		return "error: " + err.Error() + "; " + told(v)
	}
	if v.RefusesAt(s) {
		w.engine.Refuse(ev, v, w.now)
	}
	return told(v)
}

func told(v policy.Verdict) string {
	var b strings.Builder
	b.WriteString(v.Action.String())
	switch v.Action {
	case policy.Tempfail, policy.Reject, policy.Disconnect:
		fmt.Fprintf(&b, ": %s", v.Reply)
	case policy.Quarantine:
		fmt.Fprintf(&b, ": %s", v.Reason)
	}
	if v.Delay > 0 {
		fmt.Fprintf(&b, ", delay %v", v.Delay)
	}
	for _, h := range v.Headers {
		fmt.Fprintf(&b, ", %s: %s", h.Name, h.Value)
	}
	return b.String()
}

// expect is decide with the answer that must come.
func (w *world) expect(ev *policy.Event, s policy.Stage, want string) {
	w.t.Helper()
	if got := w.decide(ev, s); got != want {
		w.t.Errorf("at %s: %s\nwant %s", s, got, want)
	}
}

// lines are the log's lines with that message, since the last call.
func (w *world) lines(msg string) (lines []map[string]any) {
	w.t.Helper()
	for line := range strings.Lines(w.log.String()) {
		var fields map[string]any
		if err := json.Unmarshal([]byte(line), &fields); err != nil {
			w.t.Fatal(err)
		}
		if fields["msg"] == msg {
			lines = append(lines, fields)
		}
	}
	w.log.Reset()
	return lines
}

func TestThresholdIsCrossedByTheNextOne(t *testing.T) {
	w := newWorld(t, `
series:
  connections: {type: ip, interval: 5m, windows: 6, add: {at: connect}}
rules:
  - name: flood
    at: connect
    if: {series: connections, mask: {ipv4: 24, ipv6: 64}, windows: 0-5, above: 3}
    then: tempfail
    reply: 450 4.7.1 Too many connections from {network}, {count} of {threshold}, try again in {retry_after}
`)
	for i := range 3 {
		w.expect(w.client(fmt.Sprintf("198.51.100.%d", i)), policy.Connect, "continue")
		w.expect(w.client(fmt.Sprintf("2001:db8:0:1::%d", i)), policy.Connect, "continue")
	}
	w.expect(w.client("198.51.101.1"), policy.Connect, "continue")
	w.expect(w.client("2001:db8:0:2::1"), policy.Connect, "continue")
	w.expect(w.client("198.51.100.200"), policy.Connect, "tempfail: 450 4.7.1 Too many connections from 198.51.100.0/24, 4 of 3, try again in 30 minutes")
	w.expect(w.client("2001:db8:0:1::ffff"), policy.Connect, "tempfail: 450 4.7.1 Too many connections from 2001:db8:0:1::/64, 4 of 3, try again in 30 minutes")

	w.now = begin.Add(30*time.Minute - time.Nanosecond)
	w.expect(w.client("198.51.100.7"), policy.Connect, "tempfail: 450 4.7.1 Too many connections from 198.51.100.0/24, 5 of 3, try again in 1 second")
	w.now = begin.Add(30 * time.Minute)
	w.expect(w.client("198.51.100.7"), policy.Connect, "continue")
}

func TestTheSentenceSaysWhy(t *testing.T) {
	w := newWorld(t, `
series:
  connections: {type: ip, interval: 5m, windows: 6, add: {at: connect}}
  mails: {type: string, interval: 10m, windows: 6, add: {at: mail, key: sender}}
rules:
  - {name: flood, at: connect, if: {series: connections, windows: 0-5, above: 0}, then: tempfail}
  - {name: many, at: mail, if: {series: mails, windows: 0-3, sliding: true, at_least: 1}, then: reject}
  - {name: helo, at: helo, when: helo_name == "bad.test", then: disconnect}
  - {name: early, at: rcpt, if: {series: mails, windows: 1-2, at_most: 0}, then: reject}
`)
	ev := w.client("198.51.100.1")
	w.expect(ev, policy.Connect, "tempfail: 451 4.7.1 flood: 1 in connections for 198.51.100.1 over 30 minutes, above 0; try again in 30 minutes")
	ev.SetHelo("bad.test")
	w.expect(ev, policy.Helo, "disconnect: 421 4.7.0 refused by rule helo")
	ev.SetSender("<A@b.test>")
	w.expect(ev, policy.Mail, "reject: 550 5.7.1 many: 1 in mails for a@b.test over the last 30 minutes, at least 1")
	w.expect(ev, policy.Rcpt, "reject: 550 5.7.1 early: 0 in mails for a@b.test in windows 1-2 of 10 minutes, at most 0")
}

func TestLeakyIsTakenBackAndStrictIsNot(t *testing.T) {
	const policyText = `
series:
  rcpts: {type: string, interval: 10m, windows: 2, add: {at: rcpt, key: sasl_username, leaky: %v}}
rules:
  - {name: quota, at: rcpt, if: {series: rcpts, windows: 0-1, above: 2}, then: tempfail, reply: "{count}, {retry_after}"}
`
	for _, row := range []struct {
		leaky bool
		want  []string
	}{
		{true, []string{"3, 20 minutes", "3, 20 minutes", "3, 20 minutes"}},
		{false, []string{"3, 20 minutes", "4, 20 minutes", "5, 20 minutes"}},
	} {
		w := newWorld(t, fmt.Sprintf(policyText, row.leaky))
		ev := w.client("198.51.100.1")
		ev.SetText(policy.SASLUsername, "Alice")
		w.expect(ev, policy.Rcpt, "continue")
		w.expect(ev, policy.Rcpt, "continue")
		for _, want := range row.want {
			w.expect(ev, policy.Rcpt, "tempfail: 451 4.7.1 "+want)
		}
	}
}

func TestAbsentKeysNeverCountNorHold(t *testing.T) {
	w := newWorld(t, `
log: {level: debug}
series:
  users: {type: string, interval: 1m, windows: 1, add: {at: mail, key: sasl_username}}
  pairs: {type: string, interval: 1m, windows: 1, add: {at: mail, key: [sasl_username, sender]}}
  v4: {type: cidr, interval: 1m, windows: 1, add: {at: mail}}
rules:
  - {name: no-user, at: mail, if: {series: users, below: 100}, then: reject}
  - {name: no-pair, at: mail, if: {series: pairs, below: 100}, then: reject}
  - {name: not-v4, at: mail, if: {series: v4, at_most: 0}, then: reject}
`)
	ev := w.client("2001:db8::7")
	ev.SetSender("<a@b.test>")
	w.expect(ev, policy.Mail, "continue")
	if adds := w.lines("add"); len(adds) != 0 {
		t.Errorf("counted %v", adds)
	}
	ev.SetText(policy.SASLUsername, "a|b")
	w.expect(ev, policy.Mail, "reject: 550 5.7.1 no-user: 1 in users for a|b over 1 minute, below 100")
	if adds := fmt.Sprint(w.lines("add")); !strings.Contains(adds, `key:a\|b|a@b.test`) {
		t.Errorf("the composite key is not in %s", adds)
	}
}

func TestIfAndAnyStandTogether(t *testing.T) {
	w := newWorld(t, `
series:
  a: {type: ip, interval: 1m, windows: 1, add: {at: connect}}
  b: {type: ip, interval: 10m, windows: 1, add: {at: connect}}
  c: {type: ip, interval: 1h, windows: 1, add: {at: connect}}
rules:
  - name: both
    at: connect
    if: {series: a, above: 1}
    any: [{series: b, above: 2}, {series: c, above: 3}]
    then: tempfail
    reply: "{series} {count}, {retry_after}"
`)
	ev := w.client("198.51.100.1")
	w.expect(ev, policy.Connect, "continue") // neither
	w.expect(ev, policy.Connect, "continue") // if alone
	w.expect(ev, policy.Connect, "tempfail: 451 4.7.1 a 3, 1 minute")
	w.now = begin.Add(time.Minute)
	w.expect(ev, policy.Connect, "continue") // any alone
	w.expect(ev, policy.Connect, "tempfail: 451 4.7.1 a 2, 1 minute")
}

func TestRetryAfterOfAnyIsTheLatest(t *testing.T) {
	w := newWorld(t, `
series:
  a: {type: ip, interval: 1m, windows: 1, add: {at: connect}}
  b: {type: ip, interval: 10m, windows: 1, add: {at: connect}}
rules:
  - {name: r, at: connect, any: [{series: a, above: 1}, {series: b, above: 1}], then: tempfail, reply: "{series} {retry_after}"}
  - {name: unknowable, at: helo, any: [{series: a, above: 1}, {series: b, below: 100}], then: tempfail, reply: "{series} {retry_after}"}
`)
	ev := w.client("198.51.100.1")
	w.expect(ev, policy.Connect, "continue")
	w.expect(ev, policy.Connect, "tempfail: 451 4.7.1 a 10 minutes")
	w.expect(ev, policy.Helo, "tempfail: 451 4.7.1 a 10 minutes")
}

func TestAcceptExemptsWhatItStandsFor(t *testing.T) {
	const policyText = `
log: {level: debug}
series:
  all: {type: ip, interval: 1m, windows: 1, add: {at: [connect, helo, mail, rcpt, data, eoh, eom]}}
rules:
  - {name: pass, at: %s, when: helo_name == "good", then: accept}
  - {name: deny, at: [helo, mail, rcpt, data, eoh, eom], then: reject, reply: no}
`
	for stage, want := range map[string]string{
		"helo": "continue continue continue continue continue continue; continue continue",
		"mail": "reject accept continue continue continue continue; reject accept",
		"rcpt": "reject reject accept reject reject reject; reject reject",
		"data": "reject reject reject accept continue continue; reject reject",
		"eom":  "reject reject reject reject reject accept; reject reject",
	} {
		w := newWorld(t, fmt.Sprintf(policyText, stage))
		ev := w.client("198.51.100.1")
		ev.SetHelo("good")
		var got []string
		next := func(s policy.Stage) {
			answer, _, _ := strings.Cut(w.decide(ev, s), ":")
			if answer == "accept" && s == policy.Helo {
				answer = "continue"
			}
			got = append(got, answer)
		}
		w.decide(ev, policy.Connect)
		for _, s := range []policy.Stage{policy.Helo, policy.Mail, policy.Rcpt, policy.Data, policy.EOH, policy.EOM} {
			next(s)
		}
		got[len(got)-1] += ";"
		ev.ResetMessage() // the next message of the same session
		next(policy.Helo)
		next(policy.Mail)
		if got := strings.Join(got, " "); got != want {
			t.Errorf("accept at %s: %s\nwant %s", stage, got, want)
		}
		if adds := len(w.lines("add")); adds != 9 {
			t.Errorf("accept at %s: %d of 9 events were counted", stage, adds)
		}
	}
}

func TestMarksAreRememberedUntilEOM(t *testing.T) {
	const policyText = `
series:
  out: {type: ip, interval: 1m, windows: 1, add: {at: refused}}
rules:
  - {name: late, at: eom, when: size == 1, then: tempfail, reply: late}
  - {name: tag, at: mail, when: sender == "tag@b.test", header: ["X-One: {sender}", "X-Two: 2"]}
  - {name: hold, at: [mail, eom], when: sender_domain == "hold.test", then: quarantine, header: "X-Held: yes"}
  - {name: drop, at: rcpt, when: recipient == "drop@b.test", then: discard}
  - {name: mark, at: eom, when: size == 2, header: "X-End: {size}", delay: 3s}
`
	for _, row := range []struct {
		name, sender, recipient string
		size                    int
		want                    string
	}{
		{"nothing", "a@b.test", "b@b.test", 0, "continue"},
		{"headers", "tag@b.test", "b@b.test", 0, "continue, X-One: tag@b.test, X-Two: 2"},
		{"headers add up, the first rule's topmost", "tag@b.test", "b@b.test", 2, "continue, delay 3s, X-One: tag@b.test, X-Two: 2, X-End: 2"},
		{"quarantine", "a@hold.test", "b@b.test", 0, "quarantine: held by rule hold, X-Held: yes"},
		{"discard wins over quarantine", "a@hold.test", "drop@b.test", 0, "discard"},
		{"a refusal wins over discard", "a@hold.test", "drop@b.test", 1, "tempfail: 451 4.7.1 late"},
	} {
		w := newWorld(t, policyText)
		ev := w.client("198.51.100.1")
		ev.SetSender(row.sender)
		ev.Size = row.size
		w.decide(ev, policy.Mail)
		ev.SetRecipient(row.recipient)
		w.decide(ev, policy.Rcpt)
		ev.ResetRecipient()
		if got := w.decide(ev, policy.EOM); got != row.want {
			t.Errorf("%s: %s\nwant %s", row.name, got, row.want)
		}
	}
}

func TestShadowRuleJudgesAndEnforcesNothing(t *testing.T) {
	w := newWorld(t, `
log: {level: debug}
series:
  rcpts: {type: ip, interval: 1m, windows: 1, add: {at: rcpt, leaky: true}}
  out: {type: ip, interval: 1m, windows: 1, add: {at: refused}}
rules:
  - {name: trial, at: rcpt, mode: shadow, if: {series: rcpts, above: 1}, then: tempfail, delay: 2s, header: "X-A: b"}
  - {name: real, at: rcpt, if: {series: rcpts, above: 5}, then: reject, reply: no}
`)
	ev := w.client("198.51.100.1")
	for range 10 { // each that would have been refused is taken back, so the real rule's limit is never reached
		w.expect(ev, policy.Rcpt, "continue")
	}
	verdicts := w.lines("verdict")
	if len(verdicts) != 9 || verdicts[8]["shadow"] != true || verdicts[8]["count"] != 2.0 || verdicts[8]["verdict"] != "tempfail" {
		t.Errorf("the log has %v", verdicts)
	}
	w.expect(ev, policy.EOM, "continue")
}

func TestGlobalShadowDecidesAsEnforceAndAnswersContinue(t *testing.T) {
	w := newWorld(t, `
mode: shadow
log: {level: debug}
series:
  conns: {type: ip, interval: 1m, windows: 1, add: {at: connect}}
  out: {type: ip, interval: 1m, windows: 1, add: {at: refused}}
rules:
  - {name: trusted, at: connect, when: client_address == "203.0.113.1", then: accept}
  - {name: flood, at: connect, if: {series: conns, above: 1}, then: tempfail, delay: 1s}
  - {name: second, at: connect, if: {series: conns, above: 1}, then: reject}
  - {name: drop, at: mail, then: discard, header: "X-A: b"}
`)
	for _, addr := range []string{"198.51.100.1", "203.0.113.1"} {
		for range 2 {
			ev := w.client(addr)
			w.expect(ev, policy.Connect, "continue")
			w.expect(ev, policy.Mail, "continue")
			w.expect(ev, policy.EOM, "continue")
		}
	}
	var got []string
	for _, line := range w.lines("verdict") {
		if line["shadow"] != true {
			t.Errorf("not marked as shadow: %v", line)
		}
		got = append(got, fmt.Sprint(line["rule"]))
	}
	if want := "drop flood drop trusted trusted"; strings.Join(got, " ") != want {
		t.Errorf("verdicts of %v, want %s", got, want)
	}
}

// A discard goes out at eom, so what is leaky there is taken back, whichever mode keeps
// the discard from being one.
func TestAShadowDiscardTakesBackAtEOM(t *testing.T) {
	const policyText = `
mode: %s
series:
  mails: {type: ip, interval: 1m, windows: 1, add: {at: eom, leaky: true}}
rules:
  - {name: drop, at: rcpt, mode: %s, when: recipient == "drop@b.test", then: discard}
`
	for _, modes := range [][]any{{"enforce", "enforce"}, {"shadow", "enforce"}, {"enforce", "shadow"}, {"shadow", "shadow"}} {
		w := newWorld(t, fmt.Sprintf(policyText, modes...))
		ev := w.client("198.51.100.1")
		for _, recipient := range []string{"drop@b.test", "keep@b.test", "drop@b.test"} {
			ev.SetRecipient(recipient)
			w.decide(ev, policy.Rcpt)
			w.decide(ev, policy.EOM)
			ev.ResetMessage()
		}
		if n := w.engine.Counter("mails").Count(series.AddrKey(ev.ClientAddr), series.Host, 0, 0, w.now); n != 1 {
			t.Errorf("policy in mode %s, rule in mode %s: %d messages count, want the one that is not discarded", modes[0], modes[1], n)
		}
	}
}

func TestSharedKeysDoNotFire(t *testing.T) {
	const policyText = `
series:
  conns: {type: ip, interval: 1m, windows: 1, add: {at: mail}}
  senders: {type: string, interval: 1m, windows: 1, add: {at: mail, key: sender}}
  texts: {type: string, interval: 1m, windows: 1, add: {at: mail, key: client_address}}
  users: {type: string, interval: 1m, windows: 1, add: {at: mail, key: sasl_username}}
rules:
  - {name: r, at: mail, allow_shared_key: %v, if: {%s, above: 0}, then: reject, reply: no}
`
	for _, row := range []struct {
		name, addr, sender, condition string
		fires                         bool
	}{
		{"loopback", "127.0.0.3", "a@b.test", "series: conns", false},
		{"loopback, however coarse", "127.0.0.3", "a@b.test", "series: conns, mask: {ipv4: 8, ipv6: 32}", false},
		{"IPv6 loopback", "::1", "a@b.test", "series: conns", false},
		{"own address", "192.0.2.1", "a@b.test", "series: conns", false},
		{"own address by /24", "192.0.2.1", "a@b.test", "series: conns, mask: {ipv4: 24, ipv6: 64}", false},
		{"own address by /16 stands for others too", "192.0.2.1", "a@b.test", "series: conns, mask: {ipv4: 16, ipv6: 64}", true},
		{"own IPv6 address by /64", "2001:db8::1", "a@b.test", "series: conns, mask: {ipv4: 24, ipv6: 64}", false},
		{"own IPv6 address by /48", "2001:db8::1", "a@b.test", "series: conns, mask: {ipv4: 24, ipv6: 48}", true},
		{"the host's neighbour", "192.0.2.2", "a@b.test", "series: conns, mask: {ipv4: 24, ipv6: 64}", true},
		{"the null sender", "198.51.100.1", "", "series: senders", false},
		{"a sender", "127.0.0.1", "a@b.test", "series: senders", true},
		{"loopback as a text", "127.0.0.1", "a@b.test", "series: texts", false},
		{"an account from loopback stays limited", "127.0.0.1", "", "series: users", true},
	} {
		for _, allow := range []bool{false, true} {
			w := newWorld(t, fmt.Sprintf(policyText, allow, row.condition))
			ev := w.client(row.addr)
			ev.SetSender(row.sender)
			ev.SetText(policy.SASLUsername, "alice")
			if fired := w.decide(ev, policy.Mail) != "continue"; fired != (row.fires || allow) {
				t.Errorf("%s, allow_shared_key: %v: fired is %v", row.name, allow, fired)
			}
			w.now = w.now.Add(59 * time.Minute)
			w.decide(ev, policy.Mail)
			w.now = w.now.Add(time.Minute)
			w.decide(ev, policy.Mail)
			said := len(w.lines("a rule does not fire for a shared key; allow_shared_key: true in the rule would let it"))
			if want := map[bool]int{true: 0, false: 2}[row.fires || allow]; said != want {
				t.Errorf("%s, allow_shared_key: %v: said %d times in an hour, want %d", row.name, allow, said, want)
			}
		}
	}
}

// A trial refuses nothing, also when the daemon fails.
func TestFailureInGlobalShadow(t *testing.T) {
	for _, shadow := range []bool{false, true} {
		mode := map[bool]string{false: "enforce", true: "shadow"}[shadow]
		w := newWorld(t, "on_error: tempfail\nmode: "+mode+"\n")
		if v := w.engine.Failure(); v.Refuses() == shadow {
			t.Errorf("mode %s: a failure is answered %v", mode, v.Action)
		}
	}
}

func TestFailureAnswersOnError(t *testing.T) {
	const policyText = `
on_error: %s
log: {level: debug}
series:
  bad: {type: ip, interval: 1m, windows: 1, add: {at: mail, when: 10 %% size == 0}}
  good: {type: ip, interval: 1m, windows: 1, add: {at: mail}}
`
	for onError, want := range map[string]string{
		"accept":   `error: evaluating when "10 % size == 0": runtime error: integer divide by zero; continue`,
		"tempfail": `error: evaluating when "10 % size == 0": runtime error: integer divide by zero; tempfail: 451 4.3.0 temporary failure of the policy service`,
	} {
		w := newWorld(t, fmt.Sprintf(policyText, onError))
		ev := w.client("198.51.100.1")
		w.expect(ev, policy.Mail, want)
		ev.Size = 5
		w.expect(ev, policy.Mail, "continue")
		if adds := w.lines("add"); len(adds) != 3 {
			t.Errorf("on_error %s: %v, want good, bad and good", onError, adds)
		}
	}
}

func TestRefusedHasTheVerdictsAttributes(t *testing.T) {
	w := newWorld(t, `
log: {level: debug}
series:
  by_rule: {type: string, interval: 1m, windows: 1, add: {at: refused, key: [rule, verdict, stage, recipient, sender]}}
  mails: {type: string, interval: 1m, windows: 1, add: {at: refused, when: recipient == "", key: rule}}
rules:
  - {name: no-bob, at: rcpt, when: recipient == "bob@b.test", then: reject, reply: no}
  - {name: gone, at: mail, when: sender == "drop@b.test", then: discard}
`)
	ev := w.client("198.51.100.1")
	ev.SetSender("a@b.test")
	ev.SetRecipient("Bob@b.test")
	w.decide(ev, policy.Rcpt)
	ev.ResetMessage()
	ev.SetSender("drop@b.test")
	w.decide(ev, policy.Mail)
	w.decide(ev, policy.EOM)
	var keys []string
	for _, add := range w.lines("add") {
		keys = append(keys, fmt.Sprint(add["key"]))
	}
	if want := "no-bob|reject|rcpt|bob@b.test|a@b.test gone"; strings.Join(keys, " ") != want {
		t.Errorf("keys %v, want %s", keys, want)
	}
}

func TestRetryAfterOfIfIsTheEarliest(t *testing.T) {
	w := newWorld(t, `
series:
  short: {type: ip, interval: 1m, windows: 1, add: {at: connect}}
  long: {type: ip, interval: 10m, windows: 1, add: {at: connect}}
rules:
  - {name: both, at: connect, if: [{series: long, above: 0}, {series: short, above: 0}], any: [{series: long, above: 0}], then: tempfail, reply: "{retry_after}"}
`)
	// Its own amount stays too much: it can never pass, so the longest range is told.
	w.expect(w.client("198.51.100.1"), policy.Connect, "tempfail: 451 4.7.1 10 minutes")
	w = newWorld(t, `
series:
  short: {type: ip, interval: 1m, windows: 1, add: {at: connect}}
  long: {type: ip, interval: 10m, windows: 1, add: {at: connect}}
rules:
  - {name: both, at: connect, if: [{series: long, above: 1}, {series: short, above: 1}], then: tempfail, reply: "{retry_after}"}
  - {name: either, at: helo, any: [{series: short, above: 0}, {series: long, above: 0}], then: tempfail, reply: "{retry_after}"}
`)
	ev := w.client("198.51.100.1")
	w.expect(ev, policy.Connect, "continue")
	w.expect(ev, policy.Connect, "tempfail: 451 4.7.1 1 minute")
	w.expect(ev, policy.Helo, "tempfail: 451 4.7.1 10 minutes")
}

// Windows that are not the newest ones can let a rule hold again when its penalty ends.
func TestRetryAfterLooksBehindThePenalty(t *testing.T) {
	w := newWorld(t, `
series: {mails: {type: ip, interval: 10m, windows: 3, add: {at: mail}}}
rules:
  - {name: r, at: mail, if: {series: mails, windows: 2, at_least: 1}, then: tempfail, penalty: 25m, reply: "{retry_after}"}
`)
	ev := w.client("198.51.100.1")
	w.expect(ev, policy.Mail, "continue")
	w.now = w.now.Add(20 * time.Minute)
	w.expect(ev, policy.Mail, "tempfail: 451 4.7.1 30 minutes")
	w.now = w.now.Add(30 * time.Minute)
	w.expect(ev, policy.Mail, "continue")
}

func TestRetryAfterKnowsWhatIsTakenBack(t *testing.T) {
	w := newWorld(t, `
series:
  mails: {type: ip, interval: 1m, windows: 3, add: {at: mail, leaky: true}}
rules:
  - {name: tag, at: mail, when: sender == "tag@b.test", if: {series: mails, windows: 0-2, above: 1}, header: "X-Wait: {retry_after}"}
  - {name: stop, at: mail, when: sender != "tag@b.test", if: {series: mails, windows: 0-2, above: 1}, then: tempfail, reply: "{retry_after}"}
`)
	ev := w.client("198.51.100.1")
	ev.SetSender("a@b.test")
	w.expect(ev, policy.Mail, "continue")
	w.now = w.now.Add(time.Minute)
	w.expect(ev, policy.Mail, "tempfail: 451 4.7.1 2 minutes") // when the first one has left; this one was taken back
	ev.SetSender("tag@b.test")
	w.expect(ev, policy.Mail, "continue") // and stays counted
	w.expect(ev, policy.EOM, "continue, X-Wait: 3 minutes")
}

// What a refusal counts by itself keeps the client out, too.
func TestRetryAfterKnowsWhatTheRefusalCounts(t *testing.T) {
	w := newWorld(t, `
series:
  refused: {type: ip, interval: 1m, windows: 3, add: [{at: refused, when: stage == "connect"}, {at: refused, when: rule == "greeting", count: 2}]}
rules:
  - {name: stop, at: connect, if: {series: refused, mask: {ipv4: 24, ipv6: 64}, windows: 0-2, at_least: 1}, then: tempfail, reply: "{retry_after}"}
  - {name: greeting, at: helo, when: helo_name == "bad.test", then: reject, reply: no}
`)
	ev := w.client("198.51.100.1")
	ev.SetHelo("bad.test")
	w.expect(ev, policy.Helo, "reject: 550 5.7.1 no")
	w.now = w.now.Add(time.Minute)
	w.expect(w.client("198.51.100.2"), policy.Connect, "tempfail: 451 4.7.1 3 minutes") // what it has counted itself is the last to leave
	w.now = w.now.Add(3*time.Minute - 1)
	w.expect(w.client("198.51.100.3"), policy.Connect, "tempfail: 451 4.7.1 3 minutes")
	w.now = w.now.Add(2*time.Minute + 1)
	w.expect(w.client("198.51.100.2"), policy.Connect, "continue")
}

func TestTheLongestDelayIsTheAnswers(t *testing.T) {
	w := newWorld(t, `
rules:
  - {name: long, at: mail, when: size > 0, delay: 5s}
  - {name: short, at: mail, when: size > 0, delay: 2s}
  - {name: stop, at: mail, when: size > 1, then: reject, reply: no, delay: 3s}
  - {name: longest, at: mail, when: size > 2, delay: 8s}
`)
	ev := w.client("198.51.100.1")
	for size, want := range []string{"continue", "continue, delay 5s", "reject: 550 5.7.1 no, delay 5s", "reject: 550 5.7.1 no, delay 5s"} {
		ev.Size = size
		w.expect(ev, policy.Mail, want)
	}
}

// However often a rule fires for one message, its header is there once.
func TestARulesHeaderIsThereOnce(t *testing.T) {
	w := newWorld(t, `
rules:
  - {name: rcpts, at: rcpt, header: "X-Last: {recipient}"}
  - {name: count, at: eom, header: "X-Count: {recipient_count}"}
`)
	ev := w.client("198.51.100.1")
	for i := range 1000 {
		ev.SetRecipient(fmt.Sprintf("user%d@b.test", i))
		ev.RecipientCount++
		w.decide(ev, policy.Rcpt)
	}
	w.expect(ev, policy.EOM, "continue, X-Last: user999@b.test, X-Count: 1000")
}

// An answer that the MTA does not wait for refuses nothing, so nothing is taken
// back.
func TestAFailureThatNobodyHearsTakesNothingBack(t *testing.T) {
	w := newWorld(t, `
on_error: tempfail
log: {level: debug}
series:
  leaky: {type: ip, interval: 1m, windows: 1, add: {at: [helo, eom], leaky: true}}
  bad: {type: ip, interval: 1m, windows: 1, add: {at: [helo, eom], when: 10 % client_port == 0}}
`)
	ev := w.client("198.51.100.1")
	ev.ClientPort = 0
	for stage, want := range map[policy.Stage]int{policy.Helo: 1, policy.EOM: 2} { // the add, and at eom its take-back
		w.decide(ev, stage)
		if adds := w.lines("add"); len(adds) != want {
			t.Errorf("at %s: %v", stage, adds)
		}
	}
}

func TestAFailureAtEOMKeepsTheMarks(t *testing.T) {
	const policyText = `
on_error: %s
rules:
  - {name: drop, at: mail, when: sender == "drop@b.test", then: discard}
  - {name: tag, at: mail, header: "X-A: b"}
  - {name: bad, at: eom, when: 10 %% size == 0, then: reject}
`
	for _, row := range []struct{ onError, sender, want string }{
		{"accept", "drop@b.test", "; discard"},
		{"accept", "a@b.test", "; continue, X-A: b"},
		{"tempfail", "drop@b.test", "; tempfail: 451 4.3.0 temporary failure of the policy service"},
	} {
		w := newWorld(t, fmt.Sprintf(policyText, row.onError))
		ev := w.client("198.51.100.1")
		ev.SetSender(row.sender)
		w.decide(ev, policy.Mail)
		if got := w.decide(ev, policy.EOM); !strings.HasSuffix(got, row.want) {
			t.Errorf("on_error: %s, %s: %s, want …%s", row.onError, row.sender, got, row.want)
		}
	}
}

func TestGlobalShadowAnswersContinueAlsoToAFailure(t *testing.T) {
	w := newWorld(t, `
mode: shadow
on_error: tempfail
rules:
  - {name: bad, at: eom, when: 10 % size == 0, then: reject}
`)
	if got := w.decide(w.client("198.51.100.1"), policy.EOM); !strings.HasSuffix(got, "; continue") {
		t.Error(got)
	}
}

func TestAnOutcomeThatCannotBeCountedIsToldOnceAMinute(t *testing.T) {
	w := newWorld(t, `
series:
  bad: {type: ip, interval: 1m, windows: 1, add: {at: end, when: 10 % client_port == 0}}
`)
	ev := w.client("198.51.100.1")
	ev.ClientPort = 0
	for range 3 {
		w.engine.Count(ev, policy.End, w.now)
	}
	w.now = w.now.Add(time.Minute)
	w.engine.Count(ev, policy.End, w.now)
	if said := w.lines("not counted"); len(said) != 2 || said[0]["stage"] != "end" {
		t.Errorf("the log says %v", said)
	}
}

func TestServerAddressIsAKey(t *testing.T) {
	w := newWorld(t, `
series:
  servers: {type: ip, interval: 1m, windows: 1, add: {at: mail, key: server_address}}
  texts: {type: string, interval: 1m, windows: 1, add: {at: mail, key: server_address}}
rules:
  - {name: address, at: mail, if: {series: servers, above: 0}, then: reject, reply: "{network}"}
  - {name: text, at: mail, if: {series: texts, above: 0}, then: reject, reply: "text"}
`)
	for addr, want := range map[string]string{
		"203.0.113.9": "reject: 550 5.7.1 203.0.113.9",
		"192.0.2.1":   "continue", // this host's own, also as a text
		"127.0.0.1":   "continue",
	} {
		ev := w.client("198.51.100.1")
		ev.SetServer(netip.MustParseAddr(addr))
		w.expect(ev, policy.Mail, want)
	}
}

func TestANullSendersLookAlikeIsNoSharedKey(t *testing.T) {
	w := newWorld(t, `
series:
  helos: {type: string, interval: 1m, windows: 1, add: {at: helo, key: helo_name}}
rules:
  - {name: helo, at: helo, if: {series: helos, above: 0}, then: reject, reply: no}
`)
	ev := w.client("198.51.100.1")
	ev.SetHelo("<>")
	w.expect(ev, policy.Helo, "reject: 550 5.7.1 no")
}

func TestRuleNamesKeepTheirSpelling(t *testing.T) {
	w := newWorld(t, `
log: {level: debug}
series:
  floods: {type: string, interval: 1m, windows: 1, add: {at: refused, when: rule == "Flood", key: rule}}
rules:
  - {name: Flood, at: mail, then: reject}
`)
	w.decide(w.client("198.51.100.1"), policy.Mail)
	if adds := w.lines("add"); len(adds) != 1 || adds[0]["key"] != "flood" {
		t.Errorf("counted %v", adds)
	}
}

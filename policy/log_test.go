package policy_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/audit-milter/audit-milter/policy"
)

func TestVerdictLineHasEverything(t *testing.T) {
	w := newWorld(t, `
series:
  mails: {type: ip, interval: 5m, windows: 6, add: {at: [mail, rcpt]}}
rules:
  - {name: ok, at: mail, when: sender == "ok@b.test", then: accept}
  - {name: many, at: rcpt, if: {series: mails, mask: {ipv4: 24, ipv6: 64}, windows: 0-5, above: 1}, then: tempfail}
`)
	ev := w.client("198.51.100.1")
	ev.SetSender("A@b.test")
	ev.SetText(policy.QueueID, "4ZqXyz")
	w.decide(ev, policy.Mail)
	ev.SetRecipient("c@d.test")
	w.decide(ev, policy.Rcpt)
	ev.SetSender("ok@b.test")
	w.decide(ev, policy.Mail) // accept is a debug line
	lines := w.lines("verdict")
	if len(lines) != 1 {
		t.Fatalf("%d lines", len(lines))
	}
	delete(lines[0], "time")
	want := map[string]any{
		"level": "INFO", "msg": "verdict", "stage": "rcpt", "verdict": "tempfail", "rule": "many",
		"series": "mails", "key": "198.51.100.0/24", "windows": "0-5", "count": 2.0, "threshold": 1.0,
		"session": "s1", "client_address": "198.51.100.1", "sender": "a@b.test", "recipient": "c@d.test", "queue_id": "4ZqXyz",
	}
	if fmt.Sprint(lines[0]) != fmt.Sprint(want) {
		t.Errorf("the line is %v\nwant %v", lines[0], want)
	}
}

func TestRepeatedVerdictsAreCountedNotLogged(t *testing.T) {
	const policyText = `
log_repeats: %v
series:
  mails: {type: ip, interval: 5m, windows: 1, add: {at: mail}}
rules:
  - {name: many, at: mail, if: {series: mails, above: 0}, then: tempfail}
`
	for _, repeats := range []bool{false, true} {
		w := newWorld(t, fmt.Sprintf(policyText, repeats))
		for range 25 {
			w.decide(w.client("198.51.100.1"), policy.Mail)
		}
		w.decide(w.client("198.51.100.2"), policy.Mail)
		if got, want := len(w.lines("verdict")), map[bool]int{false: 11, true: 26}[repeats]; got != want {
			t.Errorf("log_repeats: %v: %d lines, want %d", repeats, got, want)
		}
		if got, want := w.engine.Stats().Repeats(), map[bool]uint64{false: 15, true: 0}[repeats]; got != want {
			t.Errorf("log_repeats: %v: %d left out, want %d", repeats, got, want)
		}
		w.now = begin.Add(time.Minute)
		w.decide(w.client("198.51.100.3"), policy.Mail)
		said := w.lines("verdict repeated")
		if repeats {
			if len(said) != 0 {
				t.Errorf("log_repeats: true held back %v", said)
			}
			continue
		}
		if len(said) != 1 || said[0]["times"] != 15.0 || said[0]["key"] != "198.51.100.1" || said[0]["rule"] != "many" {
			t.Errorf("after the minute the log says %v", said)
		}
		for range 12 {
			w.decide(w.client("198.51.100.1"), policy.Mail)
		}
		w.log.Reset()
		w.engine.Close()
		if said := w.lines("verdict repeated"); len(said) != 1 || said[0]["times"] != 2.0 {
			t.Errorf("at the end the log says %v", said)
		}
	}
}

func TestCountsAtTheirLimitAreTold(t *testing.T) {
	w := newWorld(t, `
series:
  huge: {type: ip, interval: 5m, windows: 1, add: {at: mail, count: 9223372036854775807}}
rules:
  - {name: full, at: mail, if: {series: huge, at_least: 9223372036854775807}, then: reject, reply: "{count}"}
`)
	for range 3 {
		w.expect(w.client("198.51.100.1"), policy.Mail, "reject: 550 5.7.1 9223372036854775807")
	}
	w.now = begin.Add(time.Minute)
	w.decide(w.client("198.51.100.2"), policy.Mail)
	said := w.lines("counts stopped at the limit of 64 bits")
	if len(said) != 1 || said[0]["series"] != "huge" || said[0]["adds"] != 2.0 {
		t.Errorf("the log says %v", said)
	}
}

func TestEvictedKeysAreTold(t *testing.T) {
	w := newWorld(t, `
series:
  clients: {type: ip, interval: 5m, windows: 1, max_keys: 10, add: {at: connect}}
  names: {type: string, interval: 5m, windows: 1, max_keys: 10, add: {at: helo, key: helo_name}}
`)
	for i := range 30 {
		ev := w.client(fmt.Sprintf("198.51.100.%d", i))
		w.decide(ev, policy.Connect)
		ev.SetHelo(fmt.Sprint("host", i))
		w.decide(ev, policy.Helo)
	}
	w.now = begin.Add(time.Minute)
	w.decide(w.client("198.51.100.1"), policy.Connect)
	said := w.lines("max_keys reached: keys were evicted")
	if len(said) != 2 {
		t.Fatalf("the log says %v", said)
	}
	for i, want := range []map[string]any{
		{"series": "clients", "max_keys": 10.0, "still_counted": fmt.Sprintf("%v in IPv4 /0", said[0]["keys"])},
		{"series": "names", "max_keys": 10.0, "still_counted": nil},
	} {
		for name, value := range want {
			if said[i][name] != value {
				t.Errorf("%s: %v; want %v, in %v", name, said[i][name], value, said[i])
			}
		}
		if keys := said[i]["keys"].(float64); keys < 20 || keys > 29 || said[i]["amount"] != keys {
			t.Errorf("30 keys came, at most 10 could stay: %v", said[i])
		}
	}
}

func TestStepsOfTheClockAreLogged(t *testing.T) {
	w := newWorld(t, `listen: inet:127.0.0.1:9900`)
	w.decide(w.client("198.51.100.1"), policy.Connect)
	w.now = begin.Add(-time.Hour) // while no time passes on the monotonic clock
	w.decide(w.client("198.51.100.1"), policy.Connect)
	w.decide(w.client("198.51.100.1"), policy.Connect)
	if said := w.lines("the clock was set"); len(said) != 1 || said[0]["by"] != "-1h0m0s" {
		t.Errorf("the log says %v", said)
	}
}

func TestRefusalsWithoutAConditionAreToldByClient(t *testing.T) {
	w := newWorld(t, `
rules:
  - {name: tag, at: mail, header: "X-A: b"}
  - {name: bad, at: mail, when: sender == "bad@b.test", then: reject}
`)
	for i := range 30 {
		ev := w.client(fmt.Sprintf("198.51.100.%d", i))
		ev.SetSender("bad@b.test")
		w.decide(ev, policy.Mail)
	}
	same := w.client("198.51.100.99")
	for range 30 {
		w.decide(same, policy.Mail) // only marked: not a refusal
	}
	if lines := w.lines("verdict"); len(lines) != 30+30+30 {
		t.Errorf("%d lines; want a mark for each and a refusal for each client", len(lines))
	}
}

// The log tells a bounded number of keys apart; the others share a line.
func TestManyKeysInAMinuteShareALine(t *testing.T) {
	w := newWorld(t, `
rules:
  - {name: bad, at: connect, when: client_port > 0, then: reject, reply: no}
`)
	for i := range 10_050 {
		w.decide(w.client(fmt.Sprintf("10.%d.%d.1", i/250, i%250)), policy.Connect)
	}
	if lines := w.lines("verdict"); len(lines) != 10_010 {
		t.Errorf("%d lines; want 10,000 keys and ten of the others", len(lines))
	}
	w.engine.Close()
	if said := w.lines("verdict repeated"); len(said) != 1 || said[0]["times"] != 40.0 || said[0]["key"] != nil {
		t.Errorf("at the end the log says %v", said)
	}
}

// What a flood held back is told when its minute is over, also when nobody comes then.
func TestTheEndOfAMinuteNeedsNoEvent(t *testing.T) {
	w := newWorld(t, `rules: [{name: all, at: connect, then: reject}]`)
	for range 15 {
		w.decide(w.client("198.51.100.1"), policy.Connect)
	}
	w.now = begin.Add(59 * time.Second)
	w.engine.EndMinute(w.now)
	if said := w.lines("verdict repeated"); len(said) != 0 {
		t.Errorf("within the minute the log says %v", said)
	}
	w.now = begin.Add(time.Minute)
	w.engine.EndMinute(w.now)
	if said := w.lines("verdict repeated"); len(said) != 1 || said[0]["times"] != 5.0 {
		t.Errorf("after the minute the log says %v", said)
	}
}

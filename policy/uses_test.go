package policy_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/audit-milter/audit-milter/internal/config"
	"github.com/audit-milter/audit-milter/policy"
)

func TestOnlyWhatIsUsedIsAskedFor(t *testing.T) {
	for _, row := range []struct {
		name, yaml      string
		shown, answered string
		more            string
	}{
		{"nothing is declared", `listen: inet:127.0.0.1:9900`, "eom", "eom", ""},
		{"an add is shown and not waited for",
			`series: {s: {type: ip, interval: 1m, windows: 1, add: {at: connect}}}`,
			"connect, eom", "eom", ""},
		{"an add's key brings its stage",
			`series: {s: {type: string, interval: 1m, windows: 1, add: {at: data, key: helo_name}}}`,
			"helo, data, eom", "eom", ""},
		{"a key without a stage of its own brings none",
			`series: {s: {type: string, interval: 1m, windows: 1, add: {at: rcpt, key: recipient}}}`,
			"rcpt, eom", "eom", ""},
		{"the number of recipients needs the messages' begin and the recipients",
			`series: {s: {type: string, interval: 1m, windows: 1, add: {at: eom, key: node, count: recipient_count}}}`,
			"mail, rcpt, eom", "eom", ""},
		{"a rule's log line brings client and sender",
			`rules: [{name: r, at: rcpt, when: recipient == "x", then: reject}]`,
			"connect, mail, rcpt, eom", "rcpt, eom", ""},
		{"a rule at connect needs no sender",
			`rules: [{name: r, at: connect, when: client_port == 1, then: reject}]`,
			"connect, eom", "connect, eom", ""},
		{"accept, discard, quarantine and header answer continue",
			`rules: [{name: a, at: connect, when: client_port == 1, then: accept}, {name: d, at: mail, when: size == 1, then: discard}, {name: q, at: data, when: size == 2, then: quarantine, header: "x-a: b"}]`,
			"connect, mail, data, eom", "eom", "replaced X-A, quarantine"},
		{"a delay is an answer of its own",
			`rules: [{name: d, at: helo, when: helo_name == "x", delay: 2s}]`,
			"connect, helo, eom", "helo, eom", ""},
		{"a shadow rule is not waited for",
			`rules: [{name: r, at: rcpt, mode: shadow, when: recipient == "x", then: reject}]`,
			"connect, mail, rcpt, eom", "eom", ""},
		{"nor is any rule in global shadow",
			`{mode: shadow, rules: [{name: r, at: [connect, rcpt], when: client_port == 1, then: reject}]}`,
			"connect, mail, rcpt, eom", "eom", ""},
		{"nor are headers and quarantine asked for that never go out",
			`{mode: shadow, rules: [{name: q, at: data, when: size == 2, then: quarantine, header: "x-a: b"}]}`,
			"connect, mail, data, eom", "eom", ""},
		{"refused recipients are asked for where they count",
			`series: {s: {type: ip, interval: 1m, windows: 1, add: {at: rcpt_refused, when: refused_status startsWith "5."}}}`,
			"connect, eom, rcpt_refused", "eom", ""},
		{"abort needs the messages' begin",
			`series: {s: {type: ip, interval: 1m, windows: 1, add: {at: [abort, accepted, refused, end]}}}`,
			"connect, mail, eom", "eom", ""},
		{"headers and the body",
			`series: {s: {type: string, interval: 1m, windows: 1, add: [{at: eom, key: from_domain, count: message_size}, {at: eoh, key: from_domain, when: 'header["list-id"] == ""'}]}}`,
			"eoh, eom", "eom", "headers From List-Id, body"},
		{"so does the value of a distinct series",
			`{series: {s: {type: string, interval: 1m, windows: 1, distinct: helo_name, add: {at: mail, key: sasl_username}}}}`,
			"helo, mail, eom", "eom", ""},
		{"of which a header is shown",
			`{series: {s: {type: ip, interval: 1m, windows: 1, distinct: 'header["List-Id"]', add: {at: eoh}}}}`,
			"connect, eoh, eom", "eom", "headers List-Id"},
		{"a condition's key and a reply bring their stages",
			`{series: {s: {type: ip, interval: 1m, windows: 1, add: {at: connect}}}, rules: [{name: r, at: data, if: {series: s, above: 1}, then: reject, reply: "{helo_name}"}]}`,
			"connect, helo, mail, data, eom", "data, eom", ""},
	} {
		conf, err := config.Parse("policy.yaml", []byte(row.yaml))
		if err != nil {
			t.Errorf("%s: %v", row.name, err)
			continue
		}
		engine, err := policy.NewEngine(conf.Policy, policy.Options{})
		if err != nil {
			t.Errorf("%s: %v", row.name, err)
			continue
		}
		u := engine.Uses()
		if u.Shown.String() != row.shown || u.Answered.String() != row.answered || more(u) != row.more {
			t.Errorf("%s: shown %s; answered %s; %s\nwant %s; %s; %s", row.name, u.Shown, u.Answered, more(u), row.shown, row.answered, row.more)
		}
	}
}

func more(u policy.Uses) string {
	var parts []string
	if u.Headers != nil {
		parts = append(parts, "headers "+strings.Join(u.Headers, " "))
	}
	if u.Replaced != nil {
		parts = append(parts, "replaced "+strings.Join(u.Replaced, " "))
	}
	if u.Body {
		parts = append(parts, "body")
	}
	if u.Quarantine {
		parts = append(parts, "quarantine")
	}
	return strings.Join(parts, ", ")
}

func TestNotes(t *testing.T) {
	conf, err := config.Parse("policy.yaml", []byte(`
series:
  odd: {type: ip, interval: 7m, windows: 2, add: {at: connect}}
  even: {type: ip, interval: 2d, windows: 2, add: {at: connect}}
  names: {type: ip, interval: 1h, windows: 24, distinct: client_name, add: {at: connect}}
  bytes: {type: string, interval: 1h, windows: 2, add: {at: eom, key: sender, count: message_size}}
  large: {type: ip, interval: 5m, windows: 288, add: {at: connect}}
rules:
  - {name: flood, at: connect, if: {series: odd, above: 5}, then: reject, reply: no}
  - {name: free, at: connect, if: {series: odd, above: 5}, then: reject, allow_shared_key: true}
  - {name: late, at: [data, eom], if: {series: bytes, above: 5}, when: size > 3, then: tempfail}
  - {name: gone, at: data, when: size > 3, then: disconnect}
  - {name: held, at: data, when: size > 3, then: quarantine}
  - {name: big, at: eom, if: {series: bytes, above: 5}, when: message_size > 3, then: reject}
`))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"the MTA shows connect, mail, data, eom and waits for an answer at connect, data, eom",
		"series odd: an interval of 7 minutes does not divide a day, so its windows do not begin at midnight UTC",
		"series names: takes 2.5 GB of memory at the most, when each of max_keys 20000 shows many values in every window",
		"series large: takes about 2.6 GB of memory when it has as many keys as max_keys lets it, 1000000, each with 288 windows",
		"message_size makes the MTA send every message whole; used by series bytes, rule big",
		"loopback, this host's own addresses and the null sender are keys that many share; they do not fire flood, late, big (allow_shared_key: true lets them)",
		"rule flood: at connect Sendmail shows its own text, not the reply",
		"rule late: a client that is refused at data can crash Postfix 3.7 by BDAT; at eoh it cannot, nor with smtpd_discard_ehlo_keywords = chunking",
	}
	if got := conf.Policy.Notes(); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("notes are\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	conf.Policy.Shadow = true
	if note := conf.Policy.Notes()[0]; note != "the MTA shows connect, mail, data, eom and waits for an answer at eom; in global shadow every answer is continue" {
		t.Error(note)
	}
}

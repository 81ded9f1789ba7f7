package policy_test

import (
	"strings"
	"testing"

	"github.com/audit-milter/audit-milter/internal/config"
)

func TestNotesOnWhatIsInVain(t *testing.T) {
	for _, row := range []struct{ name, rules, want string }{
		{"a rule behind one that nothing restricts", `[
  {name: all, at: mail, then: accept},
  {name: never, at: mail, if: {series: s, above: 5}, then: reject},
  {name: half, at: [connect, mail], if: {series: s, above: 5}, then: reject}]`,
			"rule all: it has neither when, if nor any and decides at mail, so never asked are never, half (at mail)"},
		{"one at a later stage, also in front of what accepts the connection", `[
  {name: never, at: rcpt, if: {series: s, above: 5}, then: reject},
  {name: flood, at: connect, if: {series: s, above: 5}, then: accept},
  {name: all, at: connect, then: accept}]`,
			"rule all: it has neither when, if nor any and decides at connect, so never asked are never"},
		{"a stage is told once", `[
  {name: all, at: connect, then: accept},
  {name: more, at: [connect, mail], then: accept},
  {name: never, at: [mail, rcpt], when: size > 5, then: reject}]`,
			"rule all: it has neither when, if nor any and decides at connect, so never asked are more, never"},
		{"a refusal says nothing of later stages", `[
  {name: all, at: connect, then: tempfail},
  {name: asked, at: mail, when: size > 5, then: reject}]`, ""},
		{"and where one may come first, an accept does not either", `[
  {name: some, at: mail, when: size > 5, then: discard},
  {name: all, at: mail, then: accept},
  {name: asked, at: rcpt, when: size > 5, then: reject}]`, ""},
		{"to accept a recipient is about that one, and a greeting need not come", `[
  {name: all, at: [helo, rcpt], then: accept},
  {name: asked, at: [mail, data], when: size > 5, then: reject}]`, ""},
		{"what marks, is in shadow or has a when leaves the others", `[
  {name: marks, at: mail, delay: 2s},
  {name: tries, at: mail, then: accept, mode: shadow},
  {name: some, at: mail, when: size > 5, then: accept},
  {name: asked, at: mail, when: size > 6, then: reject},
  {name: all, at: mail, then: accept}]`, ""},

		{"a key that is never counted", `[{name: r, at: mail, if: {series: senders, key: sender_domain, above: 5}, then: reject}]`,
			"rule r: senders is counted for sender, so what it asks for sender_domain is never there"},
		{"nor with more parts", `[{name: r, at: mail, any: [{series: senders, key: [sender, client_address], above: 5}, {series: senders, key: sender, above: 5}], then: reject}]`,
			"rule r: senders is counted for sender, so what it asks for sender|client_address is never there"},
		{"of two keys that are counted one may be asked", `[{name: r, at: rcpt, any: [{series: both, key: recipient_domain, above: 5}, {series: both, key: sender, above: 5}], then: reject}]`, ""},
		{"a login may be an address, and a recipient a sender", `[{name: r, at: rcpt, any: [{series: senders, key: sasl_username, above: 5}, {series: senders, key: recipient, above: 5}], then: reject}]`, ""},

		{"no count is below 0", `[{name: r, at: mail, if: {series: s, at_most: -1}, then: reject}]`,
			"rule r: no count of s is at most -1, so it holds for none"},
		{"nor below none", `[{name: r, at: mail, any: [{series: s, below: 1}, {series: s, below: 0}], then: reject}]`,
			"rule r: no count of s is below 0, so it holds for none"},
		{"every one is 0 or above", `[{name: r, at: mail, if: {series: s, at_least: 0}, then: reject}]`,
			"rule r: every count of s is at least 0, so it holds for every key that there is"},
		{"-1 is not without a limit", `[{name: r, at: mail, if: {series: s, above: -1}, then: reject}]`,
			"rule r: every count of s is above -1, so it holds for every key that there is"},
		{"who only marks may want them all", `[{name: r, at: mail, if: {series: s, at_least: 0}, header: "X-Count: {count}"}]`, ""},
		{"a count can be negative where an add is", `[{name: r, at: mail, if: {series: credit, below: 0}, then: reject}]`, ""},
		{"at most 0 can hold", `[{name: r, at: mail, if: {series: s, windows: 1, at_most: 0}, then: reject}]`, ""},
		{"no share is below 0%", `[{name: r, at: mail, if: {series: s, below: 0%, of: {series: s, windows: 0-5}}, then: reject}]`,
			"rule r: no count of s is below 0%, so it holds for none"},
		{"no multiple from min on is 0", `[{name: r, at: mail, if: {series: s, at_most: 0x, baseline: {windows: 1-5}, min: 1}, then: reject}]`,
			"rule r: no count of s is at most 0x, so it holds for none"},
		{"a part is no more than the whole", `[{name: r, at: mail, if: {series: s, windows: 0, above: 150%, of: {series: s, windows: 0-5}}, then: reject}]`,
			"rule r: windows 0 of s are a part of what they are compared with, and never above 150% of it"},
		{"but may be all of it", `[{name: r, at: mail, if: {series: s, windows: 0, at_least: 100%, of: {series: s, windows: 0-5}}, then: reject}]`, ""},
		{"of earlier windows it is no part", `[{name: r, at: mail, if: {series: s, windows: 0, above: 150%, of: {series: s, windows: 1-5}}, then: reject}]`, ""},
		{"nor a network of one of its addresses", `[{name: r, at: mail, if: {series: s, mask: {ipv4: 24, ipv6: 64}, above: 150%, of: {series: s}}, then: reject}]`, ""},
	} {
		conf, err := config.Parse("policy.yaml", []byte(`
series:
  s: {type: ip, interval: 5m, windows: 6, add: {at: connect}}
  credit: {type: ip, interval: 5m, windows: 6, add: [{at: connect}, {at: accepted, count: -1}]}
  senders: {type: string, interval: 5m, windows: 6, add: {at: mail, key: sender}}
  both: {type: string, interval: 5m, windows: 6, add: [{at: mail, key: sender}, {at: mail, key: sender_domain}]}
rules: `+row.rules))
		if err != nil {
			t.Errorf("%s: %v", row.name, err)
			continue
		}
		var got []string
		for _, note := range conf.Policy.Notes() {
			if strings.Contains(note, "never asked") || strings.Contains(note, "and never") || strings.Contains(note, "never waits") || strings.Contains(note, "never there") || strings.Contains(note, "holds for") {
				got = append(got, note)
			}
		}
		if strings.Join(got, "\n") != row.want {
			t.Errorf("%s:\n%s\nwant\n%s", row.name, strings.Join(got, "\n"), row.want)
		}
	}
}

package policy_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/audit-milter/audit-milter/internal/config"
	"github.com/audit-milter/audit-milter/policy"
)

// Who is told hears of each firing, in the order of the rules, also of those that
// only mark, exempt or are tried.
func TestFiringsAreTold(t *testing.T) {
	conf, err := config.Parse("policy.yaml", []byte(`
notify: {admin: {mail: a@example.com}, chat: {webhook: "http://chat.example.com"}}
series:
  clients: {type: ip, interval: 5m, windows: 6, add: {at: connect}}
  users: {type: string, interval: 5m, windows: 6, add: {at: mail, key: sasl_username}}
rules:
  - {name: silent, at: connect, if: {series: clients, at_least: 1}, then: tempfail, mode: shadow}
  - {name: tried, at: connect, if: {series: clients, mask: {ipv4: 24, ipv6: 64}, at_least: 2}, then: reject, mode: shadow, notify: admin}
  - {name: slow, at: mail, if: {series: users, at_least: 1}, delay: 1s, notify: [admin, chat]}
  - {name: told, at: mail, when: sender == "a@b", notify: chat}
  - {name: known, at: mail, when: sender == "a@b", then: accept, notify: chat}
  - {name: never-asked, at: mail, then: reject, notify: admin}
`))
	if err != nil {
		t.Fatal(err)
	}
	var heard []string
	hear := func(f policy.Firing) {
		heard = append(heard, fmt.Sprintf("%v: %s %v (shadow %v) for %q from %s: %s", f.To, f.Verdict.Rule, f.Verdict.Action, f.Verdict.Shadow, f.Key(), f.Text(policy.Sender), f.Why()))
	}
	engine, err := policy.NewEngine(conf.Policy, policy.Options{Notify: hear})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, engine: engine, now: begin}
	ev := w.client("198.51.100.7")
	w.decide(ev, policy.Connect)
	w.decide(ev, policy.Connect)
	ev.SetSender("<A@b>")
	ev.SetText(policy.SASLUsername, "al\x00ice")
	w.decide(ev, policy.Mail)
	const want = `[admin]: tried reject (shadow true) for "198.51.100.0/24" from : 2 in clients for 198.51.100.0/24 over 5 minutes, at least 2
[admin chat]: slow continue (shadow false) for "al\x00ice" from a@b: 1 in users for al�ice over 5 minutes, at least 1
[chat]: told continue (shadow false) for "198.51.100.7" from a@b: 
[chat]: known accept (shadow false) for "198.51.100.7" from a@b: `
	if got := strings.Join(heard, "\n"); got != want {
		t.Errorf("heard\n%s\nwant\n%s", got, want)
	}
}

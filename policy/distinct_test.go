package policy_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/audit-milter/audit-milter/policy"
	"github.com/audit-milter/audit-milter/series"
)

const networksOfAccounts = `
log: {level: debug}
series:
  networks:
    type: string
    interval: 1h
    windows: 24
    distinct: {of: client_address, mask: {ipv4: 24, ipv6: 64}}
    add: {at: mail, key: sasl_username}
rules:
  - name: stolen
    at: mail
    if: {series: networks, windows: 0-23, above: 2}
    then: tempfail
`

// Networks are counted once, however often they come, and over all windows once,
// too. When a client could come again cannot be known.
func TestNetworksOfAnAccount(t *testing.T) {
	w := newWorld(t, networksOfAccounts)
	const refused = "tempfail: 451 4.7.1 stolen: 3 in networks for alice over 1 day, above 2; try again in 1 day"
	for _, row := range []struct {
		hours        int
		client, user string
		want         string
	}{
		{0, "198.51.100.1", "Alice", "continue"},
		{0, "198.51.100.200", "alice", "continue"},
		{1, "198.51.100.1", "alice", "continue"},
		{1, "203.0.113.1", "alice", "continue"},
		{2, "203.0.113.2", "bob", "continue"},
		{2, "2001:db8:1:2::1", "alice", refused},
		{2, "2001:db8:1:2::2", "alice", refused},
		{3, "198.51.100.1", "alice", refused},
		{3, "198.51.100.1", "", "continue"},
		{24, "198.51.100.9", "alice", refused},
		{25, "198.51.100.9", "alice", "continue"},
	} {
		w.now = begin.Add(time.Duration(row.hours) * time.Hour)
		ev := w.client(row.client)
		ev.SetSender("a@b.test")
		ev.SetText(policy.SASLUsername, row.user)
		if got := w.decide(ev, policy.Mail); got != row.want {
			t.Errorf("after %d hours %q from %s: %s\nwant %s", row.hours, row.user, row.client, got, row.want)
		}
	}
}

func TestTheLogHasTheValue(t *testing.T) {
	w := newWorld(t, networksOfAccounts)
	ev := w.client("2001:db8:1:2::1")
	ev.SetSender("a@b.test")
	ev.SetText(policy.SASLUsername, "alice")
	w.decide(ev, policy.Mail)
	lines := w.lines("add")
	if len(lines) != 1 {
		t.Fatalf("%d lines", len(lines))
	}
	delete(lines[0], "time")
	want := map[string]any{"level": "DEBUG", "msg": "add", "stage": "mail", "series": "networks", "key": "alice", "value": "2001:db8:1:2::/64", "session": "s1"}
	if fmt.Sprint(lines[0]) != fmt.Sprint(want) {
		t.Errorf("the line is %v\nwant %v", lines[0], want)
	}
}

// Values are spelt as keys are, an absent one is none, and rules read the union of a
// network.
func TestRecipientsOfANetwork(t *testing.T) {
	w := newWorld(t, `
series:
  recipients: {type: ip, interval: 5m, windows: 6, distinct: recipient_raw, add: {at: rcpt}}
  servers: {type: ip, interval: 5m, windows: 6, distinct: {of: server_address, mask: {ipv4: 24, ipv6: 64}}, add: {at: rcpt}}
rules:
  - name: many
    at: rcpt
    if: {series: recipients, mask: {ipv4: 24, ipv6: 64}, windows: 0-5, above: 2}
    then: reject
    reply: "{count} for {network}"
`)
	for _, row := range []struct{ client, to, want string }{
		{"198.51.100.1", "<a@b.test>", "continue"},
		{"198.51.100.2", "<A@B.test>", "continue"},
		{"198.51.100.2", "<c@b.test>", "continue"},
		{"198.51.101.2", "<d@b.test>", "continue"},
		{"198.51.100.3", "<d@b.test>", "reject: 550 5.7.1 3 for 198.51.100.0/24"},
	} {
		ev := w.client(row.client)
		ev.SetRecipient(row.to)
		w.expect(ev, policy.Rcpt, row.want)
	}
	if n := w.engine.Counter("servers").Len(); n != 0 {
		t.Errorf("%d keys have shown no server address", n)
	}
}

func TestEvictedValuesAreTold(t *testing.T) {
	w := newWorld(t, `
series:
  names: {type: ip, interval: 5m, windows: 6, distinct: helo_name, max_keys: 10, add: {at: helo}}
`)
	for i := range 15 {
		ev := w.client(fmt.Sprintf("198.51.100.%d", i))
		ev.SetHelo("mx.example.com")
		w.decide(ev, policy.Helo)
	}
	w.engine.Close()
	lines := w.lines("max_keys reached: keys were evicted")
	if len(lines) != 1 {
		t.Fatalf("%d lines", len(lines))
	}
	delete(lines[0], "time")
	want := map[string]any{"level": "WARN", "msg": "max_keys reached: keys were evicted", "series": "names", "max_keys": 10.0, "keys": 5.0, "amount": 5.0}
	if fmt.Sprint(lines[0]) != fmt.Sprint(want) {
		t.Errorf("the line is %v\nwant %v", lines[0], want)
	}
}

// A decision that shows a known value and counts allocates nothing.
func TestADistinctAddAllocatesNothing(t *testing.T) {
	w := newWorld(t, `
series:
  networks: {type: string, interval: 1h, windows: 24, distinct: {of: client_address, mask: {ipv4: 24, ipv6: 64}}, add: {at: mail, key: sasl_username}}
  senders: {type: ip, interval: 1h, windows: 24, distinct: sender, add: {at: mail}}
rules:
  - {name: stolen, at: mail, if: {series: networks, windows: 0-23, above: 2}, then: tempfail}
  - {name: many, at: mail, if: {series: senders, windows: 0-23, above: 2}, then: tempfail}
`)
	ev := w.client("2001:db8:1:2::1")
	ev.SetSender("someone-with-a-long-name@department.example.com")
	ev.SetText(policy.SASLUsername, "alice")
	decide := func() {
		if v, err := w.engine.Decide(ev, policy.Mail, w.now); err != nil || v.Refuses() {
			t.Error(v, err)
		}
	}
	if n := testing.AllocsPerRun(100, decide); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if n := w.engine.Counter("senders").Count(series.AddrKey(ev.ClientAddr), series.Host, 0, 0, w.now); n != 1 {
		t.Errorf("%d senders", n)
	}
}

package policy_test

import (
	"net/netip"
	"testing"

	"github.com/audit-milter/audit-milter/policy"
	"github.com/audit-milter/audit-milter/series"
)

// keyed has a series for each way of keying.
const keyed = `
series:
  clients: {type: ip, interval: 5m, windows: 6, add: {at: connect}}
  clients4: {type: cidr, interval: 5m, windows: 6, add: {at: connect}}
  senders: {type: string, interval: 5m, windows: 6, add: {at: mail, key: sender}}
  hosts: {type: string, interval: 5m, windows: 6, add: {at: helo, key: helo_name}}
  users: {type: string, interval: 5m, windows: 6, add: {at: mail, key: sasl_username}}
  pairs: {type: string, interval: 5m, windows: 6, add: {at: mail, key: [client_address, sasl_username]}}
`

func TestTarget(t *testing.T) {
	w := newWorld(t, keyed)
	for _, row := range []struct{ name, series, written, want string }{
		{"an address", "clients", "192.0.2.7", "192.0.2.7"},
		{"an address in a long spelling", "clients", "2001:DB8:0:0::7", "2001:db8::7"},
		{"an IPv4 address in IPv6's clothes", "clients", "::ffff:192.0.2.7", "192.0.2.7"},
		{"a block", "clients", "192.0.2.0/24", "192.0.2.0/24"},
		{"the block that an address is in", "clients", "192.0.2.7/24", "192.0.2.0/24"},
		{"everything of a family", "clients", "::/0", "::/0"},
		{"a block of one address", "clients", "192.0.2.7/32", "192.0.2.7"},
		{"no address", "clients", "mx.example", `series clients: "mx.example" is not an address; write one such as 192.0.2.7 or 2001:db8::7, or a block such as 192.0.2.0/24`},
		{"an address with a zone", "clients", "fe80::1%eth0", `series clients: "fe80::1%eth0" is not an address; write one such as 192.0.2.7 or 2001:db8::7, or a block such as 192.0.2.0/24`},
		{"too long a mask", "clients", "192.0.2.0/33", "series clients: /33 is not a mask of 192.0.2.0; write /0 to /32"},
		{"no number for a mask", "clients", "192.0.2.0/x", "series clients: /x is not a mask of 192.0.2.0; write /0 to /32"},
		{"the other family", "clients4", "2001:db8::7", "series clients4: it is of type cidr and does not take 2001:db8::7"},
		{"a block of the other family", "clients4", "2001:db8::/32", "series clients4: it is of type cidr and does not take 2001:db8::/32"},

		{"a sender as a client wrote it", "senders", "<Alice@Example.COM.>", "alice@example.com"},
		{"a sender with needless quotes", "senders", `"alice"@example.com`, "alice@example.com"},
		{"the null sender", "senders", "<>", "<>"},
		{"a host name with its dot", "hosts", "MX.Example.", "mx.example"},
		{"a login keeps its dot", "users", "Alice.", "alice."},
		{"a login of a Windows domain", "users", `CORP\alice`, `corp\\alice`},
		{"a login as the log shows it", "users", `corp\\alice`, `corp\\alice`},
		{"bytes that are not UTF-8, as the log shows them", "users", `caf\xe9`, `caf\xe9`},
		{"bytes that are not UTF-8", "users", "caf\xe9", `caf\xe9`},
		{"a bar in a key of one part", "users", "a|b", "a|b"},
		{"no text", "users", "", `series users: the key "", or a part of it, is empty, and so is never counted`},

		{"a composite key", "pairs", "::FFFF:192.0.2.7|Alice", "192.0.2.7|alice"},
		{"a composite key with a bar inside", "pairs", `192.0.2.7|a\|b`, `192.0.2.7|a\|b`},
		{"a composite key with a backslash before its bar", "pairs", `x\\|b`, `x\\|b`},
		{"a composite key with too few parts", "pairs", "192.0.2.7", `series pairs: "192.0.2.7" has 1 of the parts client_address|sasl_username; put | between them, and \| for one inside`},
		{"a composite key with an empty part", "pairs", "192.0.2.7|", `series pairs: the key "192.0.2.7|", or a part of it, is empty, and so is never counted`},
	} {
		t.Run(row.name, func(t *testing.T) {
			target, err := w.engine.ParseTarget(w.engine.Counter(row.series), row.written, w.now)
			got := target.String()
			if err != nil {
				got = err.Error()
			}
			if got != row.want {
				t.Fatalf("got %s\nwant %s", got, row.want)
			}
			if err != nil {
				return
			}
			again, err := w.engine.ParseTarget(w.engine.Counter(row.series), got, w.now)
			if err != nil || again != target {
				t.Errorf("read again it is %v, %v", again, err)
			}
		})
	}
}

// FuzzTarget: whatever is written, the key that comes of it is one that the series
// takes, and once it counts it means itself.
func FuzzTarget(f *testing.F) {
	for _, written := range []string{"192.0.2.7/24", "::ffff:192.0.2.7", "<Alice@Example.com.>", `corp\alice`, `a\\|b\|c`, `"a\"b"@c`, "<>", `\xe9`} {
		f.Add(written)
	}
	f.Fuzz(func(t *testing.T, written string) {
		w := newWorld(t, keyed)
		for _, c := range w.engine.Counters() {
			target, err := w.engine.ParseTarget(c, written, w.now)
			if err != nil {
				continue
			}
			c.(*series.Series).Add(target.Key, 1, w.now)
			again, err := w.engine.ParseTarget(c, target.String(), w.now)
			if err != nil || again != target {
				t.Errorf("%s: %q is %q, and that is %q, %v", c.Definition().Name, written, target, again, err)
			}
		}
	})
}

func TestParseKey(t *testing.T) {
	w := newWorld(t, keyed)
	for _, row := range []struct{ name, series, spelt, want string }{
		{"an address", "clients", "2001:db8::7", "2001:db8::7"},
		{"a block", "clients", "192.0.2.0/24", "series clients: 192.0.2.0/24 is a block; its counts are those of its addresses"},
		{"a text as a client may write it, and is counted", "hosts", "mx.example..", "mx.example.."},
		{"a text in capitals", "users", "Alice", `series users: "Alice" is not spelt as keys are: UTF-8 in lower case, of 1 to 255 bytes`},
		{"bytes that are not UTF-8", "users", "caf\xe9", `series users: "caf\xe9" is not spelt as keys are: UTF-8 in lower case, of 1 to 255 bytes`},
		{"no text", "users", "", `series users: "" is not spelt as keys are: UTF-8 in lower case, of 1 to 255 bytes`},
	} {
		t.Run(row.name, func(t *testing.T) {
			key, err := policy.ParseKey(w.engine.Counter(row.series), row.spelt)
			got := key.String()
			if err != nil {
				got = err.Error()
			}
			if got != row.want {
				t.Errorf("got %s\nwant %s", got, row.want)
			}
		})
	}
}

// A client's backslash can have behind it what looks like an escape of the log.
func TestTargetOfAnAmbiguousBackslash(t *testing.T) {
	w := newWorld(t, keyed)
	ev := w.client("192.0.2.7")
	ev.SetText(policy.SASLUsername, `CORP\xabier`)
	w.decide(ev, policy.Mail)
	for _, written := range []string{`CORP\xabier`, `corp\xabier`, `corp\\xabier`} {
		if got, err := w.engine.ParseTarget(w.engine.Counter("users"), written, w.now); err != nil || got.String() != `corp\\xabier` {
			t.Errorf("%s: %s, %v", written, got, err)
		}
	}
}

// A penalty says how a key is spelt only in a series that its rule reads: else a client
// could hide a login by a name that it greets with.
func TestTargetBesideThePenaltyOfAnotherSeries(t *testing.T) {
	w := newWorld(t, keyed+`
rules: [{name: r, at: helo, if: {series: hosts, above: 0}, then: tempfail, penalty: 1h}]
`)
	ev := w.client("192.0.2.7")
	ev.SetHelo("corp\xabier")
	w.decide(ev, policy.Helo)
	ev = w.client("192.0.2.8")
	ev.SetText(policy.SASLUsername, `CORP\xabier`)
	w.decide(ev, policy.Mail)
	for series, want := range map[string]string{"hosts": `corp\xabier`, "users": `corp\\xabier`} {
		if got, err := w.engine.ParseTarget(w.engine.Counter(series), `corp\xabier`, w.now); err != nil || got.String() != want {
			t.Errorf("%s: %s, %v; want %s", series, got, err, want)
		}
	}
}

func TestWhomAPenaltyConcerns(t *testing.T) {
	w := newWorld(t, keyed)
	of := func(network string) policy.Subject { return policy.Subject{Network: netip.MustParsePrefix(network)} }
	for _, row := range []struct {
		series, written string
		subject         policy.Subject
		want            bool
	}{
		{"clients", "192.0.2.7", of("192.0.2.7/32"), true},
		{"clients", "192.0.2.7", of("192.0.2.0/24"), true},
		{"clients", "192.0.2.0/24", of("192.0.2.7/32"), true},
		{"clients", "192.0.2.7", of("192.0.2.8/32"), false},
		{"clients", "0.0.0.0/0", of("2001:db8::/64"), false},
		{"clients", "192.0.2.7", policy.Subject{Text: "192.0.2.7"}, false},
		{"users", "alice", policy.Subject{Text: "alice"}, true},
		{"users", "alice", policy.Subject{Text: "bob"}, false},
		{"users", "alice", of("192.0.2.7/32"), false},
	} {
		target, err := w.engine.ParseTarget(w.engine.Counter(row.series), row.written, w.now)
		if err != nil {
			t.Fatal(err)
		}
		if got := row.subject.Concerns(target); got != row.want {
			t.Errorf("%s concerns %s: %v", row.subject, row.written, got)
		}
	}
}

package milter_test

import (
	"fmt"
	"strings"
	"testing"
)

// The protocol's bits, by the names that a reader of a trace needs.
var protocolBits = []struct {
	name string
	bit  uint32
}{
	{"noconnect", 1 << 0}, {"nohelo", 1 << 1}, {"nomail", 1 << 2}, {"norcpt", 1 << 3}, {"nobody", 1 << 4},
	{"nohdrs", 1 << 5}, {"noeoh", 1 << 6}, {"nr_hdr", 1 << 7}, {"nounknown", 1 << 8}, {"nodata", 1 << 9},
	{"skip", 1 << 10}, {"rcpt_rej", 1 << 11}, {"nr_conn", 1 << 12}, {"nr_helo", 1 << 13}, {"nr_mail", 1 << 14},
	{"nr_rcpt", 1 << 15}, {"nr_data", 1 << 16}, {"nr_unkn", 1 << 17}, {"nr_eoh", 1 << 18}, {"nr_body", 1 << 19},
	{"hdr_leadspc", 1 << 20},
}

var actionBits = []struct {
	name string
	bit  uint32
}{
	{"addhdrs", 1 << 0}, {"chgbody", 1 << 1}, {"addrcpt", 1 << 2}, {"delrcpt", 1 << 3}, {"chghdrs", 1 << 4},
	{"quarantine", 1 << 5}, {"chgfrom", 1 << 6}, {"addrcpt_par", 1 << 7}, {"setsymlist", 1 << 8},
}

// tellAnswer puts the answer to a negotiation into words.
func tellAnswer(t *testing.T, answer string) string {
	t.Helper()
	var version, actions, protocol uint32
	if _, err := fmt.Sscanf(answer, "O %d %v %v", &version, &actions, &protocol); err != nil {
		t.Fatalf("%s: %v", answer, err)
	}
	told := []string{fmt.Sprint("v", version)}
	for _, b := range actionBits {
		if actions&b.bit != 0 {
			told = append(told, b.name)
		}
	}
	for _, b := range protocolBits {
		if protocol&b.bit != 0 {
			told = append(told, b.name)
		}
	}
	if _, lists, ok := strings.Cut(answer, `"`); ok {
		told = append(told, `"`+lists)
	}
	return strings.Join(told, " ")
}

const (
	countConnections = `series: {s: {type: ip, interval: 1h, windows: 2, add: {at: connect}}}`
	everythingOff    = "noconnect nohelo nomail norcpt nobody nohdrs noeoh nounknown nodata"
)

func TestTheMTAIsAskedForWhatThePolicyUses(t *testing.T) {
	for _, row := range []struct{ name, policy, want string }{
		{"nothing", `on_error: accept`, "v6 setsymlist " + everythingOff},
		{"connections are counted: shown, not waited for", countConnections,
			"v6 setsymlist nohelo nomail norcpt nobody nohdrs noeoh nounknown nodata nr_conn"},
		{"connections are judged: waited for", countConnections + `
rules: [{name: r, at: connect, if: {series: s, above: 1}, then: tempfail}]`,
			"v6 setsymlist nohelo nomail norcpt nobody nohdrs noeoh nounknown nodata"},
		{"connections are judged in shadow: not waited for", countConnections + `
rules: [{name: r, at: connect, if: {series: s, above: 1}, then: tempfail, mode: shadow}]`,
			"v6 setsymlist nohelo nomail norcpt nobody nohdrs noeoh nounknown nodata nr_conn"},
		{"refused recipients", `series: {s: {type: ip, interval: 1h, windows: 2, add: {at: rcpt_refused, when: refused_status == "5.1.1"}}}`,
			`v6 setsymlist nohelo nomail nobody nohdrs noeoh nounknown nodata rcpt_rej nr_conn nr_rcpt "···\x03{rcpt_mailer} {rcpt_host} {rcpt_addr}·"`},
		{"an account's recipients", `series: {s: {type: string, interval: 1h, windows: 2, add: {at: rcpt, key: sasl_username}}}`,
			`v6 setsymlist noconnect nohelo nobody nohdrs noeoh nounknown nodata nr_mail nr_rcpt "···\x02{auth_authen}·"`},
		{"where the connection came in", `series: {s: {type: string, interval: 1h, windows: 2, add: {at: connect, key: [server_address, server_port, daemon_name, reverse_client_name]}}}`,
			`v6 setsymlist nohelo nomail norcpt nobody nohdrs noeoh nounknown nodata nr_conn "····{client_ptr} {if_addr} {daemon_addr} {daemon_port} {daemon_name}·"`},
		{"encryption", `series: {s: {type: string, interval: 1h, windows: 2, add: {at: mail, key: [encryption_protocol, encryption_cipher]}}}`,
			`v6 setsymlist noconnect norcpt nobody nohdrs noeoh nounknown nodata nr_helo nr_mail "···\x01{tls_version} {cipher}·"`},
		{"a header", `series: {s: {type: string, interval: 1h, windows: 2, add: {at: eom, key: 'header["X-Spam"]'}}}`,
			`v6 setsymlist noconnect nohelo nomail norcpt nobody noeoh nr_hdr nounknown nodata`},
		{"the message's size: all of it", `series: {s: {type: string, interval: 1h, windows: 2, add: {at: eom, key: message_size}}}`,
			`v6 setsymlist noconnect nohelo nomail norcpt noeoh nr_hdr nounknown nodata nr_body`},
		{"a queue id: the list for eom has one for eoh with it", `series: {s: {type: string, interval: 1h, windows: 2, add: {at: accepted, key: queue_id}}}`,
			`v6 setsymlist noconnect nohelo nomail norcpt nobody nohdrs noeoh nounknown nodata "···\x06i····\x05i·"`},
		{"headers to insert: the client's are shown, to remove them, and what the log line names", `rules: [{name: r, at: eom, header: "X-Audit: yes"}]`,
			`v6 addhdrs chghdrs setsymlist nohelo norcpt nobody noeoh nr_hdr nounknown nodata nr_conn nr_mail "···\x02i····\x06i····\x05i·"`},
		{"quarantine, and what the log line names", `rules: [{name: r, at: eom, then: quarantine}]`,
			`v6 quarantine setsymlist nohelo norcpt nobody nohdrs noeoh nounknown nodata nr_conn nr_mail "···\x02i····\x06i····\x05i·"`},
		{"every stage is judged", everything,
			`v6 quarantine setsymlist nobody nr_hdr nounknown rcpt_rej nr_conn "···\x02i····\x03i {rcpt_mailer} {rcpt_host} {rcpt_addr}····\x04i····\x06i····\x05i·"`},
	} {
		inPlace(t, row.policy, func(p *place) {
			got := tellAnswer(t, p.dial().ask("O 6 0x1ff 0x1fffff"))
			if got != row.want {
				t.Errorf("%s:\ngot  %s\nwant %s", row.name, got, row.want)
			}
		})
	}
}

func TestAnAnswerNeverExceedsTheOffer(t *testing.T) {
	for _, row := range []struct{ name, offer, want string }{
		{"version 2 of Postfix: what cannot be switched off comes", "O 2 0x3f 0x7f",
			"v2 quarantine nobody"},
		{"version 3", "O 3 0x3f 0x1ff", "v3 quarantine nobody nr_hdr nounknown"},
		{"version 4", "O 4 0x3f 0x3ff", "v4 quarantine nobody nr_hdr nounknown"},
		{"version 6", "O 6 0x1ff 0x1fffff", "v6 quarantine setsymlist nobody nr_hdr nounknown rcpt_rej nr_conn"},
		{"a later version", "O 17 0xffffffff 0xffffffff", "v6 quarantine setsymlist nobody nr_hdr nounknown rcpt_rej nr_conn"},
		{"nothing offered", "O 6 0 0", "v6"},
	} {
		inPlace(t, everything, func(p *place) {
			got := tellAnswer(t, p.dial().ask(row.offer))
			got, _, _ = strings.Cut(got, ` "`)
			if got != row.want {
				t.Errorf("%s:\ngot  %s\nwant %s", row.name, got, row.want)
			}
		})
	}
}

func TestAnMTAThatCannotDoWithoutAnAnswerGetsOne(t *testing.T) {
	inPlace(t, everything, func(p *place) {
		m := p.dial()
		m.ask("O 2 0x3f 0x7f") // switches off nothing but the body, spares no answer
		m.hears(`c`, `C "x·4\x10\x92192.0.2.7·"`)
		m.hears(`c`, `H "c·"`)
		m.hears(`c`, `M "<a@b>·"`)
		m.hears(`c`, `R "<u@c>·"`)
		m.hears(`c`, `L "Subject·x·"`)
		m.hears(`c`, `N`)
		m.hears(`c`, `B "x"`)
		m.hears(`c`, `E`)
		m.hears(``, `A`)
		m.hears(`c`, `U "FOO·"`)
	})
}

func TestWhatTheMTALacksIsSaidOncePerListener(t *testing.T) {
	const policy = `
series: {s: {type: ip, interval: 1h, windows: 2, add: {at: [rcpt_refused, data]}}}
rules:
  - {name: h, at: eom, header: "X-Audit: yes"}
  - {name: q, at: eom, then: quarantine}
`
	inPlace(t, policy, func(p *place) {
		for range 3 {
			m := p.dial()
			m.ask("O 2 0x06 0x7f")
			m.write(`C "x·4\x10\x92192.0.2.7·"`, `M "<a@b>·"`, `L "X-Audit·forged·"`)
			m.answers()
			m.hears(`c`, `E`)
		}
		if n := p.seen.said("lacking=adding headers, removing headers, quarantine, choosing macros, refused recipients, stage data"); n != 1 {
			t.Errorf("said %d times: %v", n, *p.seen.messages)
		}
	})
}

func TestWhatTheMTALacksOfANewPolicyIsSaid(t *testing.T) {
	inPlace(t, `series: {s: {type: ip, interval: 1h, windows: 2, add: {at: rcpt_refused}}}`, func(p *place) {
		old := func() { p.dial().ask("O 2 0x06 0x7f") }
		old()
		p.reload(`rules: [{name: q, at: eom, when: 'client_address != ""', then: quarantine}]`)
		old()
		old()
		for _, lacking := range []string{"choosing macros, refused recipients", "quarantine"} {
			if n := p.seen.said("lacking=" + lacking); n != 1 {
				t.Errorf("%s is said %d times: %q", lacking, n, *p.seen.messages)
			}
		}
	})
}

package milter_test

import (
	"strings"
	"testing"
)

// TestAttributes shows where each attribute comes from, and that it is spelt
// the same whichever MTA gives it.
func TestAttributes(t *testing.T) {
	const policy = `
series:
  came:    {type: string, interval: 1h, windows: 2, add: {at: connect, key: [client_name, reverse_client_name, client_port]}}
  where:   {type: string, interval: 1h, windows: 2, add: {at: connect, key: [server_address, server_port, daemon_name]}}
  greeted: {type: string, interval: 1h, windows: 2, add: {at: helo, key: [helo_name, encryption_protocol, encryption_cipher]}}
  mailed:  {type: string, interval: 1h, windows: 2, add: {at: mail, key: [sender, sender_domain, size]}}
  raw:     {type: string, interval: 1h, windows: 2, add: {at: mail, key: sender_raw}}
  account: {type: string, interval: 1h, windows: 2, add: {at: mail, key: [sasl_username, sasl_method, sasl_sender]}}
  rcpts:   {type: string, interval: 1h, windows: 2, add: {at: rcpt, key: [recipient, recipient_domain, recipient_count]}}
  denied:  {type: string, interval: 1h, windows: 2, add: {at: rcpt_refused, key: [recipient, refused_status, refused_text]}}
  queued:  {type: string, interval: 1h, windows: 2, add: {at: data, key: queue_id}}
  content: {type: string, interval: 1h, windows: 2, add: {at: eom, key: ['header["Subject"]', from_domain]}}
  bytes:   {type: string, interval: 1h, windows: 2, add: {at: accepted, key: sender, count: message_size}}
`
	const content = `L "subject·Hello·" | L "FROM·Bob <bob@Example.COM>·" | B "12345" | E "67890"`
	for mta, frames := range map[string]string{
		"Postfix": `D "C{client_ptr}·unknown·{daemon_addr}·2001:db8::25·{daemon_port}·25·{daemon_name}·mx·" | C "[192.0.2.7]·4\x10\x92192.0.2.7·" | ` +
			`D "H{tls_version}·TLSv1.3·{cipher}·AES·" | H "Client.Example.·" | ` +
			`D "M{auth_type}·PLAIN·{auth_authen}·Bob·{auth_author}·bob@example.com·" | M "<@relay:\"bob\"@Example.COM>·BODY=8BITMIME·SIZE=1000·" | ` +
			`D "R{rcpt_mailer}·smtp·" | R "<U@C.example>·" | ` +
			`D "Ri·Q1·{rcpt_mailer}·error·{rcpt_host}·5.1.1·{rcpt_addr}·User unknown·" | R "<x@c>·" | D "Ti·Q1·" | T | ` + content,
		"Sendmail": `D "C{client_ptr}·[192.0.2.7]·{if_addr}·IPv6:2001:db8:0:0:0:0:0:25·{daemon_addr}·IPv6:0:0:0:0:0:0:0:0·{daemon_port}·25·{daemon_name}·MX·" | C "[192.0.2.7]·4\x10\x92192.0.2.7·" | ` +
			`D "H{tls_version}·TLSv1.3·{cipher}·AES·" | H "Client.Example·" | ` +
			`D "Mi·Q1·{auth_type}·PLAIN·{auth_authen}·bob·{auth_author}·bob@example.com·" | M "<bob@Example.COM>·size=1000·" | ` +
			`D "Ri·Q1·{rcpt_mailer}·smtp·" | R "U@C.example·" | ` +
			`D "Ri·Q1·{rcpt_mailer}·error·{rcpt_host}·5.1.1·{rcpt_addr}·550 5.1.1 User unknown·" | R "<x@c>·" | T | ` + content,
	} {
		inPlace(t, policy, func(p *place) {
			p.mta().write(strings.Split(frames, " | ")...)
			p.counts()
			for series, want := range map[string]string{
				"came":    "unknown|unknown|4242 1",
				"where":   "2001:db8::25|25|mx 1",
				"greeted": "client.example|tlsv1.3|aes 1",
				"mailed":  "bob@example.com|example.com|1000 1",
				"account": "bob|plain|bob@example.com 1",
				"rcpts":   "u@c.example|c.example|1 1",
				"denied":  "x@c|5.1.1|user unknown 1",
				"queued":  "q1 1",
				"content": "hello|example.com 1",
				"bytes":   "bob@example.com 55",
			} {
				if got := p.seen.keys(series); !strings.EqualFold(got, want) {
					t.Errorf("%s, %s: got %s, want %s", mta, series, got, want)
				}
			}
		})
	}
}

func TestTheMessageIsKnownWhereMAILIsSwitchedOff(t *testing.T) {
	const policy = `
series:
  rcpts:    {type: ip, interval: 1h, windows: 2, add: {at: rcpt}}
  accepted: {type: ip, interval: 1h, windows: 2, add: {at: accepted}}
`
	inPlace(t, policy, func(p *place) {
		m := p.dial()
		if got := tellAnswer(t, m.ask("O 6 0x1ff 0x1fffff")); !strings.Contains(got, "nomail") {
			t.Fatalf("MAIL is not switched off: %s", got)
		}
		m.write(client, `D "M"`, `D "R"`, `R "<u@c>·"`, `D "R"`, `R "<v@c>·"`)
		m.hears(`c`, `D "E"`, `E`)
		m.write(`A`, `D "M"`, `D "R"`, `R "<u@c>·"`, `A`, `Q`)
		if got, want := p.counts(), "accepted 1, rcpts 3"; got != want {
			t.Errorf("counted %s, want %s", got, want)
		}
	})
}

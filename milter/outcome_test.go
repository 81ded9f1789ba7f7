package milter_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// everything counts each stage and outcome, and refuses what is named for it.
var everything = readPolicy("all-stages")

// readPolicy is the policy of a folder of recorded dialogues.
func readPolicy(folder string) string {
	text, err := os.ReadFile(filepath.Join("testdata/wire", folder, "policy.yaml"))
	if err != nil {
		panic(err)
	}
	return string(text)
}

// The frames of a dialogue as Postfix 3.7 and Sendmail 8.17 send them.
const (
	postfixClient  = `D "C{daemon_name}·mx·" | C "[192.0.2.7]·4\x10\x92192.0.2.7·" | D "H" | H "c·"`
	sendmailClient = `D "C{daemon_name}·MTA·" | C "[192.0.2.7]·4\x10\x92192.0.2.7·" | D "H" | H "c·"`
	postfixBody    = `D "Li·Q1·" | L "Subject·t·" | D "Ni·Q1·" | N | D "Bi·Q1·" | B "b\r\n" | D "Ei·Q1·" | E`
	sendmailBody   = `L "Subject·t·" | N | B "b\r\n" | D "Ei·Q1·" | E`
)

// TestOutcomesAreTheSameOnBothMTAs plays what each MTA sends for the same SMTP
// dialogue. Answers are not looked at: the MTA's next frame shows what it did
// with them.
func TestOutcomesAreTheSameOnBothMTAs(t *testing.T) {
	for _, row := range []struct{ name, postfix, sendmail, want string }{
		{
			"a message and QUIT",
			postfixClient + ` | M "<a@b>·" | R "<u@c>·" | T | ` + postfixBody + ` | A | A | Q`,
			sendmailClient + ` | M "<a@b>·" | R "<u@c>·" | T | ` + sendmailBody + ` | Q`,
			"accepted 1, connected 1, data 1, ended 1, gone 1, greeted 1, headed 1, mailed 1, rcpts 1",
		},
		{
			"two messages, the second reset",
			postfixClient + ` | M "<a@b>·" | R "<u@c>·" | T | ` + postfixBody + ` | A | M "<>·" | R "u·" | A | A | Q`,
			sendmailClient + ` | M "<a@b>·" | R "<u@c>·" | T | ` + sendmailBody + ` | M "<>·" | R "u·" | A | Q`,
			"aborted 1, accepted 1, connected 1, data 1, ended 1, gone 1, greeted 1, headed 1, mailed 2, rcpts 2",
		},
		{
			"a message reset that was not waited for at MAIL, and another",
			postfixClient + ` | M "<a@b>·" | A | M "<a@b>·" | A | A | Q`,
			sendmailClient + ` | M "<a@b>·" | M "<a@b>·" | Q`,
			"aborted 2, connected 1, gone 1, greeted 1, mailed 2",
		},
		{
			"EHLO again in the middle of a message",
			postfixClient + ` | M "<a@b>·" | H "d·" | A | A | A | Q`,
			sendmailClient + ` | M "<a@b>·" | A | D "H" | H "d·" | Q`,
			"aborted 1, connected 1, gone 1, greeted 2, mailed 1",
		},
		{
			"a client that drops in the middle of a message",
			postfixClient + ` | M "<a@b>·" | R "<u@c>·" | A | A | Q`,
			sendmailClient + ` | M "<a@b>·" | R "<u@c>·"`,
			"aborted 1, connected 1, gone 1, greeted 1, mailed 1, rcpts 1",
		},
		{
			"no HELO and no message",
			`C "[192.0.2.7]·4\x10\x92192.0.2.7·" | A | Q`,
			`C "[192.0.2.7]·4\x10\x92192.0.2.7·" | Q`,
			"connected 1, gone 1",
		},
		{
			"refused at HELO: Postfix leaves at once",
			`C "[192.0.2.7]·4\x10\x92192.0.2.7·" | H "bad·"`,
			`C "[192.0.2.7]·4\x10\x92192.0.2.7·" | H "bad·" | Q`,
			"connected 1, gone 1, greeted 1, refused 1",
		},
		{
			"refused at MAIL is no abort, and the next message is another",
			postfixClient + ` | M "<bad@mail>·" | A | M "<a@b>·" | A | A | Q`,
			sendmailClient + ` | M "<bad@mail>·" | M "<a@b>·" | Q`,
			"aborted 1, connected 1, gone 1, greeted 1, mailed 2, refused 1",
		},
		{
			"one recipient refused by this filter, one by the MTA",
			postfixClient + ` | M "<a@b>·" | D "R{rcpt_mailer}·error·{rcpt_host}·5.1.1·{rcpt_addr}·User unknown·" | R "<x@c>·" | D "R{rcpt_mailer}·smtp·" | R "<bad@rcpt>·" | D "R{rcpt_mailer}·smtp·" | R "<u@c>·" | T | ` + postfixBody + ` | A | A | Q`,
			sendmailClient + ` | M "<a@b>·" | D "R{rcpt_mailer}·error·{rcpt_host}·5.1.1·{rcpt_addr}·550 5.1.1 User unknown·" | R "<x@c>·" | D "R{rcpt_mailer}·smtp·" | R "<bad@rcpt>·" | D "R{rcpt_mailer}·error·{rcpt_host}·5.1.1·" | D "R{rcpt_mailer}·smtp·" | R "<u@c>·" | T | ` + sendmailBody + ` | Q`,
			"accepted 1, connected 1, data 1, denied 1, ended 1, gone 1, greeted 1, headed 1, mailed 1, rcpts 2, refused 1",
		},
		{
			"all recipients refused: the message never gets to its answer",
			postfixClient + ` | M "<a@b>·" | R "<bad@rcpt>·" | A | A | Q`,
			sendmailClient + ` | M "<a@b>·" | R "<bad@rcpt>·" | Q`,
			"aborted 1, connected 1, gone 1, greeted 1, mailed 1, rcpts 1, refused 1",
		},
		{
			"hung up on at RCPT",
			postfixClient + ` | M "<a@b>·" | R "<bye@rcpt>·" | A | A | Q`,
			sendmailClient + ` | M "<a@b>·" | R "<bye@rcpt>·" | Q`,
			"aborted 1, connected 1, gone 1, greeted 1, mailed 1, rcpts 1, refused 1",
		},
		{
			"refused at DATA is no abort; Postfix lets the client reset or go",
			postfixClient + ` | M "<bad@data>·" | R "<u@c>·" | T | A | A | Q`,
			sendmailClient + ` | M "<bad@data>·" | R "<u@c>·" | T | A | Q`,
			"connected 1, data 1, gone 1, greeted 1, mailed 1, rcpts 1, refused 1",
		},
		{
			"refused at DATA, and the client tries again in the same transaction, as Postfix lets it",
			postfixClient + ` | M "<bad@data>·" | R "<u@c>·" | T | R "<v@c>·" | T | A | A | Q`,
			"", // Sendmail ends the transaction
			"connected 1, data 2, gone 1, greeted 1, mailed 1, rcpts 2, refused 2",
		},
		{
			"refused at the end of headers is no abort",
			postfixClient + ` | M "<a@b>·" | R "<u@c>·" | T | L "subject·bad·" | N | A | A | Q`,
			sendmailClient + ` | M "<a@b>·" | R "<u@c>·" | T | L "subject·bad·" | N | A | Q`,
			"connected 1, data 1, gone 1, greeted 1, headed 1, mailed 1, rcpts 1, refused 1",
		},
		{
			"refused at the end of the message",
			postfixClient + ` | M "<bad@eom>·" | R "<u@c>·" | T | ` + postfixBody + ` | A | A | Q`,
			sendmailClient + ` | M "<bad@eom>·" | R "<u@c>·" | T | ` + sendmailBody + ` | Q`,
			"connected 1, data 1, ended 1, gone 1, greeted 1, headed 1, mailed 1, rcpts 1, refused 1",
		},
		{
			"accepted by a rule, and held, are accepted",
			postfixClient + ` | M "<good@eom>·" | R "<u@c>·" | T | ` + postfixBody + ` | A | M "<a@b>·" | R "<hold@rcpt>·" | T | ` + postfixBody + ` | A | A | Q`,
			sendmailClient + ` | M "<good@eom>·" | R "<u@c>·" | T | ` + sendmailBody + ` | M "<a@b>·" | R "<hold@rcpt>·" | T | ` + sendmailBody + ` | Q`,
			"accepted 2, connected 1, data 2, ended 2, gone 1, greeted 1, headed 2, mailed 2, rcpts 2",
		},
		{
			"discarded is refused, at eom",
			postfixClient + ` | M "<drop@mail>·" | R "<u@c>·" | T | ` + postfixBody + ` | A | A | Q`,
			sendmailClient + ` | M "<drop@mail>·" | R "<u@c>·" | T | ` + sendmailBody + ` | Q`,
			"connected 1, data 1, ended 1, gone 1, greeted 1, headed 1, mailed 1, rcpts 1, refused 1",
		},
		{
			"marked to be discarded and reset is aborted",
			postfixClient + ` | M "<drop@mail>·" | R "<u@c>·" | A | M "<a@b>·" | R "<u@c>·" | T | ` + postfixBody + ` | A | A | Q`,
			sendmailClient + ` | M "<drop@mail>·" | R "<u@c>·" | A | M "<a@b>·" | R "<u@c>·" | T | ` + sendmailBody + ` | Q`,
			"aborted 1, accepted 1, connected 1, data 1, ended 1, gone 1, greeted 1, headed 1, mailed 2, rcpts 2",
		},
		{
			"the client starts TLS",
			postfixClient + ` | A | D "H{tls_version}·TLSv1.3·" | H "c·" | M "<a@b>·" | A | A | Q`,
			sendmailClient + ` | D "H{tls_version}·TLSv1.3·" | H "c·" | M "<a@b>·" | Q`,
			"aborted 1, connected 1, gone 1, greeted 2, mailed 1",
		},
	} {
		for mtaName, frames := range map[string]string{"Postfix": row.postfix, "Sendmail": row.sendmail} {
			if frames == "" {
				continue
			}
			inPlace(t, everything, func(p *place) {
				m := p.mta()
				for _, f := range strings.Split(frames, " | ") {
					m.write(f)
				}
				m.hangUp()
				if got := p.counts(); got != row.want {
					t.Errorf("%s, %s:\ngot  %s\nwant %s", row.name, mtaName, got, row.want)
				}
			})
		}
	}
}

func TestAMessageThatIsOverIsForgotten(t *testing.T) {
	const policy = `
series:
  rcpts: {type: string, interval: 1h, windows: 2, add: {at: rcpt, key: [sender, recipient, recipient_count, queue_id]}}
  heads: {type: string, interval: 1h, windows: 2, add: {at: eom, key: [sender, 'header["Subject"]', recipient_count]}}
`
	inPlace(t, policy, func(p *place) {
		m := p.mta()
		m.write(`C "x·4\x10\x92192.0.2.7·"`, `H "c·"`)
		m.write(`D "Mi·Q1·"`, `M "<A@b>·"`, `D "Ri·Q1·"`, `R "<u@c>·"`, `R "<v@c>·"`, `L "Subject·one·"`, `E`)
		m.write(`D "Mi·Q2·"`, `M "<>·"`, `D "Ri·Q2·"`, `R "<u@c>·"`, `E`)
		m.write(`Q`)
		if got, want := p.seen.keys("rcpts"), "<>|u@c|1|q2 1, a@b|u@c|1|q1 1, a@b|v@c|2|q1 1"; p.counts() == "" || !strings.EqualFold(got, want) {
			t.Errorf("recipients: got %s, want %s", got, want)
		}
		if got, want := p.seen.keys("heads"), "a@b|one|2 1"; got != want {
			t.Errorf("messages: got %s, want %s", got, want)
		}
	})
}

// The account of one message is none of the next one's, which may come without
// macros.
func TestALoginIsItsMessagesOwn(t *testing.T) {
	const policy = `
series:
  mails: {type: string, interval: 1h, windows: 2, add: {at: mail, key: [sender, sasl_username]}}
  bare: {type: string, interval: 1h, windows: 2, add: {at: mail, when: sasl_username == "", key: sender}}
`
	inPlace(t, policy, func(p *place) {
		m := p.mta()
		m.write(`C "x·4\x10\x92192.0.2.7·"`, `H "c·"`)
		m.write(`D "M{auth_authen}·bob·"`, `M "<a@b>·"`, `E`, `A`)
		m.write(`M "<c@d>·"`, `E`, `A`)
		m.write(`D "M"`, `M "<e@f>·"`, `A`)
		m.write(`D "M{auth_authen}·eve·"`, `M "<g@h>·"`, `E`, `Q`)
		p.counts()
		if got, want := p.seen.keys("mails"), "a@b|bob 1, g@h|eve 1"; got != want {
			t.Errorf("with a login: got %s, want %s", got, want)
		}
		if got, want := p.seen.keys("bare"), "c@d 1, e@f 1"; got != want {
			t.Errorf("without: got %s, want %s", got, want)
		}
	})
}

func TestRecipientCountHasNoRefusedOnes(t *testing.T) {
	const policy = `
series:
  rcpts: {type: string, interval: 1h, windows: 2, add: {at: [rcpt, rcpt_refused, data], key: recipient_count}}
rules:
  - {name: no, at: rcpt, when: recipient == "no@c", then: reject}
`
	inPlace(t, policy, func(p *place) {
		m := p.mta()
		m.write(`C "x·4\x10\x92192.0.2.7·"`, `M "<a@b>·"`)
		m.write(`R "<u@c>·"`)                                  // 1
		m.write(`R "<no@c>·"`)                                 // 2, refused
		m.write(`D "R{rcpt_mailer}·error·{rcpt_host}·5.1.1·"`) // by the MTA:
		m.write(`R "<x@c>·"`)                                  // 1
		m.write(`R "<v@c>·"`, `T`)                             // 2, and 2 at data
		p.counts()
		if got, want := p.seen.keys("rcpts"), "1 2, 2 3"; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	})
}

func TestAConnectionUsedAgainIsAnotherSession(t *testing.T) {
	inPlace(t, everything, func(p *place) {
		m := p.mta()
		m.write(`C "x·4\x10\x92192.0.2.7·"`, `H "c·"`, `M "<a@b>·"`, `K`)
		m.write(`C "y·4\x10\x92192.0.2.8·"`, `H "c·"`, `Q`)
		if got, want := p.counts(), "aborted 1, connected 2, gone 2, greeted 2, mailed 1"; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		if got, want := p.seen.keys("gone"), "192.0.2.7 1, 192.0.2.8 1"; got != want {
			t.Errorf("ended: got %s, want %s", got, want)
		}
		m = p.mta()
		m.write(`C "x·4\x10\x92192.0.2.7·"`, `M "<a@b>·"`)
		m.write(`O 6 0x1ff 0x1fffff`, `C "x·4\x10\x92192.0.2.7·"`)
		m.hangUp()
		if got, want := p.counts(), "aborted 2, connected 4, gone 4, greeted 2, mailed 2"; got != want {
			t.Errorf("after a second negotiation: got %s, want %s", got, want)
		}
	})
}

func TestOneClientHasOneKeyOnBothMTAs(t *testing.T) {
	inPlace(t, everything, func(p *place) {
		for _, c := range []string{
			`C "[2001:db8::1]·6\x10\x922001:db8::1·"`,
			`C "[IPv6:2001:db8:0:0:0:0:0:1]·6\x10\x92IPv6:2001:db8:0:0:0:0:0:1·"`,
		} {
			m := p.mta()
			m.write(c)
			m.hangUp()
		}
		p.counts()
		if got, want := p.seen.keys("connected"), "2001:db8::1 2"; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	})
}

func TestASessionWithoutANegotiationCountsNothing(t *testing.T) {
	inPlace(t, everything, func(p *place) {
		m := p.dial()
		m.hangUp()
		if got := p.counts(); got != "" || p.seen.said("") > 0 {
			t.Errorf("a health check counted %q and logged %d lines", got, p.seen.said(""))
		}
	})
}

// Example frames that a reader of the tests above may want to see answered.
func TestEachVerdictAtEachStage(t *testing.T) {
	inPlace(t, everything, func(p *place) {
		m := p.mta()
		m.hears(``, `C "x·4\x10\x92192.0.2.7·"`) // nothing judges there: not waited for
		m.hears(`y "550 5.7.1 bad helo·"`, `H "bad·"`)
		m.hears(`c`, `H "good·"`)
		m.hears(`y "450 4.7.1 bad mail·"`, `M "<bad@mail>·"`)
		m.hears(`c`, `M "<a@b>·"`)
		m.hears(`y "550 5.7.1 bad rcpt·"`, `R "<bad@rcpt>·"`)
		m.hears(`c`, `D "R{rcpt_mailer}·error·{rcpt_host}·5.1.1·"`, `R "<bad@rcpt>·"`)
		m.hears(`c`, `R "<hold@rcpt>·"`)
		m.hears(`c`, `T`)
		m.hears(``, `L "Subject·x·"`)
		m.hears(`c`, `N`)
		m.hears(`q "held by rule hold·", c`, `E`)
		m.hears(`c`, `M "<drop@mail>·"`)
		m.hears(`d`, `E`)
		m.hears(`c`, `M "<good@eom>·"`)
		m.hears(`a`, `E`)
		m.hears(`c`, `M "<bad@data>·"`)
		m.hears(`y "550 5.7.1 bad data·"`, `T`)
		m.hears(`y "421 4.7.0 bye·"`, `R "<bye@rcpt>·"`)
	})
}

func TestHeadersReplaceReceivedOnes(t *testing.T) {
	const policy = `
rules:
  - {name: first, at: eom, header: "X-Audit: one"}
  - {name: second, at: mail, header: ["X-Audit: two", "X-Other: {client_address} 100%"]}
`
	inPlace(t, policy, func(p *place) {
		m := p.mta()
		m.write(`C "x·4\x10\x92192.0.2.7·"`, `M "<a@b>·"`, `L "x-audit·forged·"`, `L "Subject·x·"`, `L "X-AUDIT·forged·"`)
		m.answers()
		got := m.ask(`E`)
		want := []string{
			`m "···\x02X-Audit··"`, `m "···\x01X-Audit··"`,
			`i "····X-Audit·one·"`, `i "····X-Other·192.0.2.7 100%·"`, `i "····X-Audit·two·"`, `c`,
		}
		if got != strings.Join(want, ", ") {
			t.Errorf("got\n%s, want\n%s", got, strings.Join(want, ", "))
		}
		m.ask(`M "<a@b>·"`)
		if got := m.ask(`E`); strings.Contains(got, "m ") {
			t.Errorf("the next message, which brought none, loses headers: %s", got)
		}
	})
}

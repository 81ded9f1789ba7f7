package milter_test

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/audit-milter/audit-milter/internal/wiretrace"
	"github.com/audit-milter/audit-milter/milter"
	"github.com/audit-milter/audit-milter/policy"
)

// repeating puts what a client says into a reply, a header, a quarantine's
// reason and the log.
const repeating = `
series: {said: {type: string, interval: 1h, windows: 2, add: {at: mail, key: sender_raw}}}
rules:
  - {name: helo, at: helo, then: reject, reply: "550 5.7.1 {helo_name} is not welcome"}
  - {name: mark, at: mail, header: "X-Sender: {sender_raw}"}
  - {name: hold, at: mail, if: {series: said, key: sender_raw, above: 0}, then: quarantine}
`

// TestWhatClientsSayIsHarmless lets a client say the same at HELO and at MAIL.
// FuzzTexts has more of it, and looks at the answers as each receiver does.
func TestWhatClientsSayIsHarmless(t *testing.T) {
	x := func(n int) string { return strings.Repeat("x", n) }
	for _, row := range []struct {
		name, said    string
		reply         string // is not welcome
		header        string
		reason, inLog string
	}{
		{"nothing odd", "A@b", `550 5.7.1 a@b`, `A@b`, `a@b`, `sender=a@b`},
		{"CR and LF", "a\r\n250 2.0.0 ok\r\n", `550 5.7.1 a 250 2.0.0 ok`, `a  250 2.0.0 ok  `, `a  250 2.0.0 ok  `, `sender=a.250.2.0.0.ok`},
		{"LF and a header", "a\nbcc: c@d", `550 5.7.1 a bcc: c@d`, `a bcc: c@d`, `a bcc: c@d`, `sender="\"a.bcc:c\"@d"`},
		{"NUL, which ends the text", "a\x00b", `550 5.7.1 a`, `a`, `a`, `sender=a`},
		{"per cent signs", "100%s %n %%", `550 5.7.1 100%%s %%n %%%%`, `100%s %n %%`, `100%s %n %%`, `sender=100%s.%n.%%`},
		{"8-bit characters", "grüße", `550 5.7.1 gr??e`, `gr??e`, `gr??e`, `sender=grüße`},
		{"8-bit bytes that are no characters", "gr\xfc\xdfe", `550 5.7.1 gr\xfc\xdfe`, `gr??e`, `gr\xfc\xdfe`, `sender=gr\xfc\xdfe`},
		{"what moves a terminal's cursor", "\x1b[2ja\x07", `550 5.7.1 ?[2ja?`, `?[2ja?`, `?[2ja?`, `sender="\x1b[2ja\a"`},
		{"the rest of a line of the log", `a" level=error msg="b`, `550 5.7.1 a" level=error msg="b`, `a" level=error msg="b`, `a" level=error msg="b`, `sender="\"a level=error msg=b\""`},
		{"64 KiB, of which 2 are kept", x(65_534), "550-5.7.1 " + x(390) + "\r\n550-5.7.1 " + x(390) + "\r\n550 5.7.1 " + x(117) + "...", x(897) + "...", x(200) + "~1d1801f753ccd9fa", "sender=xxx"},
	} {
		t.Run(row.name, func(t *testing.T) {
			if len(row.said) < 1000 {
				row.reply += " is not welcome"
			}
			var log bytes.Buffer
			inPlace(t, repeating, func(p *place) {
				m := p.mta()
				m.write(client)
				m.writeRaw(textFrame('H', row.said).Bytes())
				if got, want := m.answers(), tell(textFrame('y', row.reply)); got != want {
					t.Errorf("replied %s, want %s", got, want)
				}
				m.writeRaw(textFrame('M', row.said).Bytes())
				m.answers()
				m.hears(strings.Join([]string{
					tell(textFrame('q', "hold: 1 in said for "+row.reason+" over 1 hour, above 0")),
					tell(textFrame('i', "\x00\x00\x00\x00X-Sender\x00"+row.header)),
					`c`,
				}, ", "), `E`)
			}, func(s *milter.Terms) {
				engine, err := policy.NewEngine(parse(t, repeating).Policy, policy.Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
				if err != nil {
					t.Fatal(err)
				}
				s.Engine = engine
			})
			lines := strings.Split(strings.TrimSuffix(log.String(), "\n"), "\n")
			if len(lines) != 3 || !strings.Contains(lines[2], row.inLog) {
				t.Errorf("%d lines, the last %s; want %s", len(lines), lines[len(lines)-1], row.inLog)
			}
			for _, line := range lines {
				if err := wrongAsText(line); err != nil {
					t.Errorf("%q: %v", line, err)
				}
			}
		})
	}
}

// textFrame is a frame whose data are a text that ends in NUL.
func textFrame(code byte, text string) wiretrace.Frame {
	return wiretrace.Frame{Code: code, Data: append([]byte(text), 0)}
}

// tell is a frame of the milter as answers tells it.
func tell(f wiretrace.Frame) string { return strings.TrimPrefix(f.String(), "< ") }

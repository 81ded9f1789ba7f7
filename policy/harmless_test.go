package policy_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/audit-milter/audit-milter/internal/short"
	"github.com/audit-milter/audit-milter/policy"
)

// hostile is what clients send to be mistaken for something else.
var hostile = map[string]string{
	"line ends":               "x\r\n250 2.0.0 ok\r\nX-Forged: yes\n",
	"a line of the log":       "x\ntime=2026-01-01T12:00:00Z level=ERROR msg=forged\n{\"msg\":\"forged\"}",
	"a value's end":           `x" msg=forged "`,
	"a NUL":                   "x\x00y",
	"a percent sign":          "%s%n%d 100%",
	"a placeholder":           "{count}{sender}",
	"8-bit":                   "x\xe9\xff\x80\x85",
	"UTF-8":                   "grüße",
	"other ends of lines":     "x\u0085y\u2028z\u2029\v\f",
	"what terminals obey":     "x\x1b[2J\u009b2J\x7f\b",
	"text from right to left": "x\u202egpj.exe",
	"white space":             " \t ",
	"64 KiB":                  strings.Repeat("x", 64<<10),
	"64 KiB of controls":      strings.Repeat("\x01", 64<<10),
	"64 KiB of 8-bit":         strings.Repeat("\xff", 64<<10),
}

// hostileEvent has the text wherever a client, or a macro that a client may
// have a say in, can bring it.
func hostileEvent(text string) (ev policy.Event) {
	ev.Session = "s1"
	ev.SetClient(netip.MustParseAddr("198.51.100.1"), 40000, text)
	ev.SetServer(netip.MustParseAddr("203.0.113.1"))
	ev.SetHelo(text)
	ev.SetSender("<" + text + "@" + text + ">")
	ev.SetRecipient("<" + text + "@" + text + ">")
	ev.SetHeader("From", "<a@"+text+">")
	ev.SetHeader("X-Mark", text)
	for _, a := range []policy.Attribute{
		policy.ReverseClientName, policy.DaemonName, policy.EncryptionProtocol, policy.EncryptionCipher,
		policy.SASLUsername, policy.SASLMethod, policy.SASLSender, policy.QueueID,
	} {
		ev.SetText(a, text)
	}
	return ev
}

// Every attribute in a reply, a header, a reason and the log, as a placeholder
// and as a key.
func TestWhatAClientSendsEndsHarmless(t *testing.T) {
	const policyText = `
log: {level: debug}
series:
  texts: {type: string, interval: 1m, windows: 1, add: {at: %[1]s, key: '%[2]s'}}
rules:
  - {name: tag, at: %[1]s, allow_shared_key: true, if: {series: texts, at_least: 0}, header: 'X-Tag: {%[2]s} {count}'}
  - {name: reply, at: %[1]s, when: size == 1, then: reject, reply: 'no, {%[2]s}'}
  - {name: sentence, at: %[1]s, when: size == 2, allow_shared_key: true, if: {series: texts, at_least: 0}, then: tempfail}
  - {name: hold, at: %[1]s, when: size == 3, allow_shared_key: true, if: {series: texts, at_least: 0}, then: quarantine}
`
	events, seen := make(map[string]policy.Event), 0
	for what, text := range hostile {
		if seen++; seen%short.Part(1, 4) == 0 {
			events[what] = hostileEvent(text)
		}
	}
	for _, name := range append(policy.AttributeNames(), `header["X-Mark"]`) {
		stage := policy.EOM
		if a, ok := policy.ParseAttribute(name); ok {
			if !a.KnownAt().Has(stage) {
				stage = policy.Rcpt
			}
			if a == policy.Header || !a.KnownAt().Has(stage) {
				continue // no rule can name it
			}
		}
		w := newWorld(t, fmt.Sprintf(policyText, stage, name))
		for what, ev := range events {
			where := what + " in " + name
			for _, size := range []int{0, 1, 2, 3} {
				ev := ev
				ev.Size = size
				w.mustAnswerHarmlessly(&ev, stage, where)
				if stage != policy.EOM { // where a header and a reason come out
					w.mustAnswerHarmlessly(&ev, policy.EOM, where)
				}
				w.mustLogHarmlessly(where)
			}
		}
	}
}

func (w *world) mustAnswerHarmlessly(ev *policy.Event, s policy.Stage, where string) {
	w.t.Helper()
	v, err := w.engine.Decide(ev, s, w.now)
	if err != nil {
		w.t.Fatal(err)
	}
	texts := []string{v.Reply.Text, v.Reason}
	for _, h := range v.Headers {
		texts = append(texts, h.Value)
	}
	for _, text := range texts {
		if len(text) > 900 || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' }) {
			w.t.Errorf("%s ends as %d bytes, %.200q", where, len(text), text)
		}
	}
}

func (w *world) mustLogHarmlessly(where string) {
	w.t.Helper()
	for line := range strings.Lines(w.log.String() + w.text.String()) {
		if err := badLine(line); err != nil {
			w.t.Errorf("%s is %v: %.200q", where, err, line)
		}
	}
	w.log.Reset()
	w.text.Reset()
}

var textLine = regexp.MustCompile(`^time=\S+ level=\w+ msg=(?:"([^"]*)"|(\S+)) `)

// badLine says what is wrong with a line of the log: the engine must have said
// it, and it is printable and no longer than 8 KiB.
func badLine(line string) error {
	msg := ""
	if m := textLine.FindStringSubmatch(line); m != nil {
		msg = m[1] + m[2]
	} else {
		var fields struct{ Msg string }
		if err := json.Unmarshal([]byte(line), &fields); err != nil {
			return fmt.Errorf("no line of the log: %w", err)
		}
		msg = fields.Msg
	}
	switch {
	case msg != "add" && msg != "verdict" && msg != "verdict repeated":
		return fmt.Errorf("a line that says %q", msg)
	case len(line) > 8<<10:
		return fmt.Errorf("a line of %d bytes", len(line))
	case !utf8.ValidString(line) || strings.ContainsFunc(strings.TrimSuffix(line, "\n"), func(r rune) bool { return !unicode.IsPrint(r) }):
		return errors.New("an unprintable line")
	}
	return nil
}

// The line that tells how often a verdict was repeated has a key too.
func TestARepeatedKeyIsHarmless(t *testing.T) {
	w := newWorld(t, `
series:
  helos: {type: string, interval: 1m, windows: 1, add: {at: helo, key: helo_name}}
rules:
  - {name: r, at: helo, if: {series: helos, above: 0}, then: reject}
`)
	for what, text := range hostile {
		ev := hostileEvent(text)
		for range 12 {
			w.mustAnswerHarmlessly(&ev, policy.Helo, what)
		}
		w.engine.Close()
		w.mustLogHarmlessly(what)
	}
}

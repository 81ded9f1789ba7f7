package milter_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/audit-milter/audit-milter/internal/wiretrace"
	"github.com/audit-milter/audit-milter/milter"
	"github.com/audit-milter/audit-milter/policy"
)

func FuzzReply(f *testing.F) {
	f.Add(450, "4.7.1", "Too many connections from 192.0.2.0/24, try again in 40 seconds")
	f.Add(550, "5.7.1", "100% of\r\n\x00 your quota")
	f.Add(421, "", strings.Repeat("%", 1000))
	f.Add(0, "9.9.9", strings.Repeat("ü ", 3000))
	f.Fuzz(func(t *testing.T, code int, enhanced, text string) {
		data := milter.ReplyData(policy.Reply{Code: code, Enhanced: enhanced, Text: text})
		if err := checkReply([]byte(data)); err != nil {
			t.Errorf("%d %q %q became %q: %v", code, enhanced, text, data, err)
		}
	})
}

// telling puts all that a client can say into replies, headers, a quarantine's
// reason and the log. Which rule answers a message is its SIZE.
const telling = `
log_repeats: true
series:
  told: {type: string, interval: 1, windows: 2, add: [
    {at: mail, key: sender_raw},
    {at: rcpt, key: recipient_raw},
    {at: mail, key: sasl_username},
    {at: eom, key: 'header["Subject"]'}]}
rules:
  - {name: helo, at: helo, then: reject, reply: '550 5.7.1 {helo_name} of {client_name}, {reverse_client_name}, is not 100% welcome'}
  - {name: sender, at: mail, when: size == 1, then: tempfail, reply: '450 4.7.1 {sender_raw} {sender_domain} {sasl_username} {queue_id}'}
  - {name: alone, at: mail, when: size == 2, then: reject, reply: '{sender_raw}'}
  - {name: close, at: mail, when: size == 3, then: disconnect, reply: '421 {sasl_username}{sasl_method}{helo_name}{sender}'}
  - {name: counted, at: mail, when: size == 4, if: {series: told, key: sender_raw, above: 0}, then: tempfail}
  - {name: number, at: mail, when: size == 4, if: {series: told, key: sasl_username, above: 0}, then: tempfail, reply: '499 {count}%{series}%{threshold}%{retry_after}'}
  - {name: nothing, at: mail, when: size == 4, then: tempfail, reply: '{sasl_username}'}
  - {name: recipient, at: rcpt, when: size == 5, then: reject, reply: '553 5.1.3 {recipient_raw} {recipient} {recipient_domain}'}
  - {name: data, at: data, when: size == 6, then: reject, reply: '599 5.999.999 %{encryption_protocol}%{encryption_cipher}%'}
  - {name: subject, at: eom, when: size == 7, then: tempfail, reply: '452 4.3.1 {header["Subject"]} {from_domain}'}
  - {name: held, at: eom, when: size == 8, if: {series: told, key: sender_raw, above: 0}, then: quarantine}
  - {name: held-anyway, at: eom, when: size == 8, then: quarantine}
  - {name: marked, at: mail, when: size == 9, header: ["X-Helo: {helo_name}", "Subject: {sender_raw}", "X-Nothing: {sasl_sender}"]}
`

// saying is what a client says in one SMTP session.
type saying struct{ helo, sender, recipient, login, subject string }

// script is what an MTA sends, and the answers that it must get.
type script struct {
	frames []wiretrace.Frame
	want   []string // a reply's code, or its beginning, or the letter of another answer
}

// say appends a frame of strings and the answers to it.
func (s *script) say(answers string, code byte, parts ...string) {
	var data []byte
	for _, p := range parts {
		data = append(append(data, cString(p)...), 0)
	}
	s.frames = append(s.frames, wiretrace.Frame{FromMTA: true, Code: code, Data: data})
	s.want = append(s.want, strings.Fields(answers)...)
}

// mail appends a MAIL, with its macros. The SIZE is the number of the rule that
// is to answer.
func (s *script) mail(say saying, size int, answer string) {
	s.say("", 'D', "M{auth_authen}", say.login, "{auth_type}", say.login, "{auth_author}", say.login, "i", say.login)
	s.say(answer, 'M', say.sender, fmt.Sprint("SIZE=", size))
}

// cString is as much of s as one string of a frame can have.
func cString(s string) string {
	s, _, _ = strings.Cut(s, "\x00")
	return s[:min(len(s), 15_000)]
}

// script is the session of an MTA that waits for the answer to everything.
func (say saying) script() *script {
	s := &script{frames: []wiretrace.Frame{{FromMTA: true, Code: 'O', Data: []byte("\x00\x00\x00\x06\x00\x00\x01\xff\x00\x00\x00\x00")}}}
	s.say("", 'D', "C{client_ptr}", say.helo)
	s.say("c", 'C', say.helo, "4\x10\x92192.0.2.7")
	s.say("", 'D', "H{tls_version}", say.login, "{cipher}", say.login)
	s.say("550", 'H', say.helo)
	s.mail(say, 1, "450")
	s.mail(say, 2, "550")
	s.mail(say, 3, "421")
	s.mail(say, 4, "4")
	s.mail(say, 5, "c")
	s.say("553", 'R', say.recipient)
	s.mail(say, 6, "c")
	s.say("c", 'R', say.recipient)
	s.say("599", 'T')
	for i, answers := range []string{"452", "q c", "m i i i c"} {
		s.mail(say, 7+i, "c")
		s.say("c", 'L', "Subject", say.subject)
		s.say("c", 'L', "From", say.sender)
		s.say(answers, 'E')
	}
	return s
}

// check reads the answers as both MTAs do.
func (s *script) check(answers []byte) error {
	r := bytes.NewReader(answers)
	if f, err := wiretrace.ReadFrame(r); err != nil || f.Code != 'O' {
		return fmt.Errorf("the negotiation was answered %s, %v", f, err)
	}
	for i, want := range s.want {
		f, err := wiretrace.ReadFrame(r)
		if err == nil {
			err = checkAnswer(f)
		}
		if err != nil {
			return fmt.Errorf("answer %d: %w", i+1, err)
		}
		if got := strings.TrimPrefix(string(f.Code)+string(f.Data), "y"); !strings.HasPrefix(got, want) {
			return fmt.Errorf("answer %d is %s, not %s", i+1, f, want)
		}
	}
	if r.Len() > 0 {
		return fmt.Errorf("%d bytes answer nothing", r.Len())
	}
	return nil
}

// logLines checks what a log writes, one line at a time.
type logLines struct {
	wrong func(line string) error
	found []error
}

func (l *logLines) Write(b []byte) (int, error) {
	line, ended := strings.CutSuffix(string(b), "\n")
	err := l.wrong(line)
	if !ended || strings.ContainsAny(line, "\r\n\x00") {
		err = errors.New("not one line")
	}
	if err != nil {
		l.found = append(l.found, fmt.Errorf("%q: %w", b, err))
	}
	return len(b), nil
}

// wrongAsText: a line goes to terminals as well.
func wrongAsText(line string) error {
	if i := strings.IndexFunc(line, func(r rune) bool { return !unicode.IsPrint(r) }); i >= 0 || !utf8.ValidString(line) {
		return fmt.Errorf("byte %d is not printable", i)
	}
	return nil
}

func wrongAsJSON(line string) error {
	if !json.Valid([]byte(line)) {
		return errors.New("not JSON")
	}
	return nil
}

// FuzzTexts lets a client say anything, in all its places, to a policy that
// repeats it wherever it can. What leaves are replies, headers and reasons that
// both MTAs take, the right ones, and lines of a log.
func FuzzTexts(f *testing.F) {
	text, structured := &logLines{wrong: wrongAsText}, &logLines{wrong: wrongAsJSON}
	log := slog.New(slog.NewMultiHandler(slog.NewTextHandler(text, nil), slog.NewJSONHandler(structured, nil)))
	engine, err := policy.NewEngine(parse(f, telling).Policy, policy.Options{Log: log})
	if err != nil {
		f.Fatal(err)
	}
	pipes := newPipes()
	server := &milter.Server{Log: log}
	server.Adopt(milter.Terms{Engine: engine})
	go server.Serve(pipes, nil)
	f.Cleanup(func() { server.Shutdown(f.Context()) })
	for _, s := range hostile {
		f.Add(s, s, s, s, s)
	}
	f.Add("client.example.com", "<a@example.com>", "<b@example.org>", "alice", "hello")
	f.Fuzz(func(t *testing.T, helo, sender, recipient, login, subject string) {
		script := saying{helo, sender, recipient, login, subject}.script()
		var in bytes.Buffer
		for _, frame := range script.frames {
			in.Write(frame.Bytes())
		}
		answers := pipes.play(in.Bytes(), 4096).Bytes()
		if err := script.check(answers); err != nil {
			t.Errorf("%v\nin %q", err, answers)
		}
		for _, err := range slices.Concat(text.found, structured.found) {
			t.Errorf("log: %v", err)
		}
		text.found, structured.found = nil, nil
	})
}

// hostile are texts with which a client may try to break out of a reply, a
// header or a line of the log.
var hostile = []string{
	"",
	" ",
	"a\r\n250 2.0.0 Ok",
	"a\nBcc: victim@example.com",
	"a\r\n.\r\nMAIL FROM:<b@c>",
	"%s%n%%%",
	"100%",
	"\x1b[2J\x07\x7f",
	"\u0085\u009b31m\u2028\u202e\ufeff",
	"grüße@例え.テスト",
	"\xff\xfe\x80",
	`{count} {sender} "quoted" \ 'x' level=ERROR msg=forged`,
	strings.Repeat("%", 5000),
	strings.Repeat("x", 15_000),
	strings.Repeat("word ", 3000),
	strings.Repeat("ü", 5000),
}

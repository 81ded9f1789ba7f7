package milter

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/audit-milter/audit-milter/policy"
)

func TestReplyData(t *testing.T) {
	long := strings.TrimSpace(strings.Repeat("word ", 100))
	for _, row := range []struct {
		name  string
		reply policy.Reply
		want  string
	}{
		{"one line", policy.Reply{Code: 450, Enhanced: "4.7.1", Text: "Too many connections"}, "450 4.7.1 Too many connections\x00"},
		{"a per cent sign is doubled", policy.Reply{Code: 550, Enhanced: "5.7.1", Text: "100% full"}, "550 5.7.1 100%% full\x00"},
		{"a line end is none", policy.Reply{Code: 550, Enhanced: "5.7.1", Text: "one\r\n250 two\n"}, "550 5.7.1 one 250 two\x00"},
		{"control and 8-bit bytes", policy.Reply{Code: 550, Enhanced: "5.7.1", Text: "a\x00b\x7fü"}, "550 5.7.1 a?b???\x00"},
		{"no text", policy.Reply{Code: 451, Enhanced: "4.3.0"}, "451 4.3.0 refused\x00"},
		{"no code", policy.Reply{Text: "later"}, "451 4.0.0 later\x00"},
		{"a code that does not refuse", policy.Reply{Code: 250, Enhanced: "2.0.0", Text: "ok"}, "451 4.0.0 ok\x00"},
		{"a status of another class", policy.Reply{Code: 550, Enhanced: "4.7.1", Text: "no"}, "550 5.0.0 no\x00"},
		{"a long text is cut between words", policy.Reply{Code: 450, Enhanced: "4.7.1", Text: long},
			"450-4.7.1 " + long[:389] + "\r\n450 4.7.1 " + long[390:] + "\x00"},
		{"a long word is cut where it must be", policy.Reply{Code: 450, Enhanced: "4.7.1", Text: strings.Repeat("%", 200)},
			"450-4.7.1 " + strings.Repeat("%", 390) + "\r\n450 4.7.1 " + strings.Repeat("%", 10) + "\x00"},
	} {
		if got := replyData(row.reply); got != row.want {
			t.Errorf("%s: got\n%q, want\n%q", row.name, got, row.want)
		}
	}
}

var replyLine = regexp.MustCompile(`^([45]\d\d)([ -])([45])\.\d{1,3}\.\d{1,3} (.+)$`)

// checkReply says what either MTA would find wrong with a reply's data.
func checkReply(data string) error {
	text, ended := strings.CutSuffix(data, "\x00")
	if !ended {
		return fmt.Errorf("no NUL at the end")
	}
	if len(text) > 16<<10 {
		return fmt.Errorf("%d bytes in all", len(text))
	}
	lines := strings.Split(text, "\r\n")
	for i, line := range lines {
		m := replyLine.FindStringSubmatch(line)
		switch {
		case m == nil:
			return fmt.Errorf("line %q has not the form of a reply", line)
		case m[1] != lines[0][:3]:
			return fmt.Errorf("line %q has another code than the first", line)
		case m[3] != m[1][:1]:
			return fmt.Errorf("line %q has a status of another class", line)
		case (m[2] == " ") != (i == len(lines)-1):
			return fmt.Errorf("line %q of %d has the wrong separator", line, len(lines))
		case len(line) > 500:
			return fmt.Errorf("a line of %d bytes", len(line))
		case strings.Contains(strings.ReplaceAll(line, "%%", ""), "%"):
			return fmt.Errorf("line %q has a single %%", line)
		}
		for _, c := range []byte(line) {
			if c < ' ' || c > '~' {
				return fmt.Errorf("line %q has byte %#x", line, c)
			}
		}
	}
	return nil
}

func FuzzReply(f *testing.F) {
	f.Add(450, "4.7.1", "Too many connections from 192.0.2.0/24, try again in 40 seconds")
	f.Add(550, "5.7.1", "100% of\r\n\x00 your quota")
	f.Add(421, "", strings.Repeat("%", 1000))
	f.Add(0, "9.9.9", strings.Repeat("ü ", 3000))
	f.Fuzz(func(t *testing.T, code int, enhanced, text string) {
		data := replyData(policy.Reply{Code: code, Enhanced: enhanced, Text: text})
		if err := checkReply(data); err != nil {
			t.Errorf("%d %q %q became %q: %v", code, enhanced, text, data, err)
		}
	})
}

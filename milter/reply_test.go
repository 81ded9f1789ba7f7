package milter

import (
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

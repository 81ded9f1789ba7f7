package milter

import (
	"fmt"
	"strings"
	"testing"

	"github.com/audit-milter/audit-milter/policy"
)

func TestClientsAreTheSameOnBothMTAs(t *testing.T) {
	for _, row := range []struct{ name, data, want string }{
		{"Postfix, IPv4", "mx.example.com\x004\x10\x92192.0.2.7\x00", "mx.example.com 192.0.2.7 4242"},
		{"Postfix, IPv6", "mx.example.com\x006\x10\x922001:db8::1\x00", "mx.example.com 2001:db8::1 4242"},
		{"Sendmail, IPv6", "mx.example.com\x006\x10\x92IPv6:2001:db8:0:0:0:0:0:1\x00", "mx.example.com 2001:db8::1 4242"},
		{"the tag in small letters", "mx.example.com\x006\x10\x92ipv6:2001:DB8::1\x00", "mx.example.com 2001:db8::1 4242"},
		{"an IPv4 address in IPv6", "mx.example.com\x006\x10\x92::ffff:192.0.2.7\x00", "mx.example.com 192.0.2.7 4242"},
		{"no name, IPv4", "[192.0.2.7]\x004\x10\x92192.0.2.7\x00", "unknown 192.0.2.7 4242"},
		{"no name, Sendmail's IPv6", "[IPv6:2001:db8:0:0:0:0:0:1]\x006\x10\x92IPv6:2001:db8:0:0:0:0:0:1\x00", "unknown 2001:db8::1 4242"},
		{"an empty name", "\x004\x10\x92192.0.2.7\x00", "unknown 192.0.2.7 4242"},
		{"Postfix's sendmail command", "localhost\x004\x00\x00127.0.0.1\x00", "localhost 127.0.0.1 0"},
		{"a unix socket", "localhost\x00L\x00\x00/run/x\x00", "localhost invalid IP 0"},
		{"a pipe", "localhost\x00U", "localhost invalid IP 0"},
		{"an unknown family", "x\x00Z\x00\x00abc\x00", "x invalid IP 0"},
		{"an address that is none", "x\x004\x10\x92abc\x00", "x invalid IP 4242"},
		{"the wildcard", "x\x004\x10\x920.0.0.0\x00", "x invalid IP 4242"},
	} {
		c, err := parseConnect([]byte(row.data))
		if got := fmt.Sprint(c.name, " ", c.addr, " ", c.port); err != nil || got != row.want {
			t.Errorf("%s: got %s, %v; want %s", row.name, got, err, row.want)
		}
	}
}

func TestOfLongTextsTheBeginningIsKept(t *testing.T) {
	long := strings.Repeat("x", 60_000) + "\x00"
	c, _ := parseConnect([]byte(long + "U"))
	helo, _ := parseHelo([]byte(long))
	sender, size, _ := parseMail([]byte(long + long + "SIZE=100\x00"))
	recipient, _ := parseRcpt([]byte(long))
	var m macroTable
	m.set([]byte("Mi\x00"+long), macros(queueID))
	for what, got := range map[string]string{
		"client": c.name, "HELO": helo, "sender": sender, "recipient": recipient, "macro": m.get(queueID),
	} {
		if len(got) != 2048 {
			t.Errorf("%s: %d bytes", what, len(got))
		}
	}
	if size != 100 {
		t.Errorf("what comes behind is lost: SIZE is %d", size)
	}
}

func TestSizeOfMail(t *testing.T) {
	for _, row := range []struct {
		params string
		want   int
	}{
		{"", 0},
		{"SIZE=100\x00", 100},
		{"BODY=8BITMIME\x00size=100\x00", 100},
		{"SIZE\x00", 0},
		{"SIZE=\x00", 0},
		{"SIZE=-5\x00", 0},
		{"SIZE=1e3\x00", 0},
		{"SIZE=99999999999999999999999999\x00", maxSize},
		{"SIZE=18446744073709551615\x00", maxSize},
	} {
		arg, size, err := parseMail([]byte("<a@b>\x00" + row.params))
		if err != nil || arg != "<a@b>" || size != row.want {
			t.Errorf("%q: got %s, %d, %v; want %d", row.params, arg, size, err, row.want)
		}
	}
}

func TestRefusedRecipientsAreKnown(t *testing.T) {
	for _, row := range []struct{ name, mailer, host, addr, want string }{
		{"Postfix, user unknown", "error", "5.1.1", "Recipient address rejected: User unknown in local recipient table", "5.1.1|Recipient address rejected: User unknown in local recipient table|true"},
		{"Postfix, relaying", "error", "5.7.1", "Relay access denied", "5.7.1|Relay access denied|true"},
		{"Postfix, greylisting", "error", "4.2.0", "Recipient address rejected: Greylisted", "4.2.0|Recipient address rejected: Greylisted|true"},
		{"Sendmail, user unknown", "error", "5.1.1", "550 5.1.1 User unknown", "5.1.1|User unknown|true"},
		{"Sendmail, a rule without status", "error", "nouser", "550 5.1.1 No such user", "5.1.1|No such user|true"},
		{"Sendmail, a rule with a reply only", "error", "nouser", "550 No such user", "|No such user|true"},
		{"Sendmail 8.18, user unknown", "error", "", "aaron", "5.1.1||true"},
		{"nothing but the mailer", "error", "", "", "5.1.1||true"},
		{"Sendmail, a rule with a reply and nothing else", "error", "", "550 No such user", "|No such user|true"},
		{"an ordinary recipient", "local", "", "user", "||false"},
		{"no macros at all", "", "", "", "||false"},
		{"Postfix, a good address of a virtual alias domain", "error", "5.1.1 User unknown in virtual alias table", "user@example.com", "||false"},
		{"Postfix, a transport named error", "error", "closed", "user@example.com", "||false"},
	} {
		status, text, refused := refusal(row.mailer, row.host, row.addr)
		if got := fmt.Sprintf("%s|%s|%v", status, text, refused); got != row.want {
			t.Errorf("%s: got %s, want %s", row.name, got, row.want)
		}
	}
}

func TestOddMacrosAreTaken(t *testing.T) {
	for _, row := range []struct{ name, data, want string }{
		{"a name without a value", "Mi\x00A\x00{auth_authen}\x00", "A|"},
		{"an empty value", "Mi\x00\x00{auth_authen}\x00bob\x00", "|bob"},
		{"an unknown name", "M{x}\x00y\x00i\x00A\x00", "A|"},
		{"none", "M", "|"},
		{"a command without a slot", "Ui\x00A\x00", "|"},
	} {
		var m macroTable
		if err := m.set([]byte(row.data), macros(queueID, authAuthen)); err != nil {
			t.Errorf("%s: %v", row.name, err)
		}
		if got := m.get(queueID) + "|" + m.get(authAuthen); got != row.want {
			t.Errorf("%s: got %s, want %s", row.name, got, row.want)
		}
	}
}

func TestMacrosOfTheLatestStageWin(t *testing.T) {
	var m macroTable
	set := func(data string) {
		if err := m.set([]byte(data), macros(queueID, tlsVersion, rcptMailer)); err != nil {
			t.Fatal(err)
		}
	}
	is := func(when string, name macro, want string) {
		t.Helper()
		if got := m.get(name); got != want {
			t.Errorf("%s: %s is %q, want %q", when, macroNames[name], got, want)
		}
	}
	set("H{tls_version}\x00TLSv1.3\x00")
	m.enter(policy.Helo)
	set("Mi\x00A1\x00")
	m.enter(policy.Mail)
	is("at MAIL", queueID, "A1")
	is("at MAIL", tlsVersion, "TLSv1.3")
	set("R{rcpt_mailer}\x00error\x00") // its command never comes
	set("R{rcpt_mailer}\x00local\x00i\x00A2\x00")
	m.enter(policy.Rcpt)
	is("at RCPT", rcptMailer, "local")
	is("at RCPT", queueID, "A2")
	set("Ri\x00A2\x00")
	m.enter(policy.Rcpt)
	is("at a RCPT without it", rcptMailer, "")
	set("Mi\x00B1\x00")
	m.enter(policy.Mail)
	is("at the next MAIL", queueID, "B1")
	is("at the next MAIL", rcptMailer, "")
	m.enter(policy.Helo)
	is("at a repeated HELO", queueID, "")
	is("at a repeated HELO", tlsVersion, "TLSv1.3")
}

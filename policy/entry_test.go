package policy

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/audit-milter/audit-milter/series"
)

// What the log and the commands show of an event is what people write into lists,
// tables and expressions.
func TestAKeyIsFoundAsItIsShown(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 150 {
		ev := randomEvent(rnd)
		var terms []Term
		for a := range numAttributes {
			if a != Header && a < VerdictName {
				terms = append(terms, Term{Attribute: a})
			}
		}
		terms = append(terms, Term{Header, "From"}, Term{Header, "Subject"})
		for _, term := range terms {
			findsAsShown(t, ev, Key{term})
			isComparedAsShown(t, ev, term)
			findsAsShown(t, ev, Key{term, terms[rnd.IntN(len(terms))]})
			findsAsShown(t, ev, Key{terms[rnd.IntN(len(terms))], {Attribute: Sender}, term})
		}
	}
}

// findsAsShown puts a key into a table, and into a list if it is one value. Of an
// argument as the client wrote it they take the mailbox.
func findsAsShown(t *testing.T, ev *Event, key Key) {
	t.Helper()
	shown := key.of(ev, series.String).String()
	raw := func(t Term) bool { return t.Attribute == SenderRaw || t.Attribute == RecipientRaw }
	if shown == "" || slices.ContainsFunc(key, raw) {
		return
	}
	table := NewTable("limits")
	if err := table.Add(shown, 7); err != nil {
		t.Errorf("a table does not take the %s %s: %v", key, shown, err)
	} else if n, _ := table.number(series.TextKey(shown), series.Host); n != 7 {
		t.Errorf("a table does not find the %s %s", key, shown)
	}
	if len(key) > 1 || key[0].Attribute.Kind() == Number {
		return
	}
	list := NewList(StringList)
	if err := list.Add(shown); err != nil {
		t.Errorf("a list does not take the %s %s: %v", key, shown, err)
	} else if !list.hasText(key[0].keyText(ev)) {
		t.Errorf("a list does not find the %s %s", key, shown)
	}
}

// isComparedAsShown compares with the whole value and with parts of it.
func isComparedAsShown(t *testing.T, ev *Event, term Term) {
	t.Helper()
	value := term.text(ev)
	if !utf8.ValidString(value) {
		return // no expression can spell it
	}
	sources := []string{fmt.Sprintf(`%s == %q`, term, value), fmt.Sprintf(`%s in [%q]`, term, value)}
	switch {
	case term.Attribute.Kind() == Number:
		sources = []string{fmt.Sprintf(`%s == %s`, term, value)}
	case term.Attribute != ClientAddress && term.Attribute != ServerAddress:
		half := strings.ToValidUTF8(value[:len(value)/2], "")
		sources = append(sources, fmt.Sprintf(`%s startsWith %q`, term, half), fmt.Sprintf(`%s contains %q`, term, half),
			fmt.Sprintf(`%s endsWith %q`, term, strings.TrimPrefix(value, half)), fmt.Sprintf(`%s matches %q`, term, "^"+regexp.QuoteMeta(value)+"$"))
	}
	for _, source := range sources {
		w, err := CompileWhen(source, nil)
		if err != nil {
			t.Errorf("%s: %v", source, err)
			continue
		}
		if holds, err := w.ask(ev); err != nil || !holds {
			t.Errorf("%s does not hold, %v", source, err)
		}
	}
}

// randomEvent is one of a client, a mail server and an owner of accounts that are
// allowed to be odd.
func randomEvent(rnd *rand.Rand) *Event {
	pick := func(from ...string) string { return from[rnd.IntN(len(from))] }
	address := func() netip.Addr {
		return netip.MustParseAddr(pick("192.0.2.7", "::ffff:198.51.100.1", "2001:db8::1", "2001:db8:0:1:0:0:0:9", "::1"))
	}
	word := func() string {
		return pick("alice", "Alice.B", "o'neill", "123", "SRS0=a=b=c.test=joe", "bounce+x#1", "müller", "M\xfcller", "a|b", `a\b`, "-x", "/g=a/s=b/", "x~y", "_", "a!b", "a%c.test", "*a", "{a}", "Bob", "$a`b", "&", "?")
	}
	domain := func() string {
		return pick("example.com", "Sub.Example.COM", "localhost", "[192.0.2.9]", "[IPv6:2001:db8::1]", "xn--mller-kva.test", "müller.test", "under_score.test", "example.com.", "a-b.test")
	}
	mailbox := func() string {
		local := pick(word(), word()+"."+word(), `"`+pick("two words", `a\"b`, "x@y", "a.b", `back\\slash`, "a,b", "(c)", "a|b")+`"`)
		return pick(pick("", "Ann ", `"Ann B" `)+"<"+local+"@"+domain()+">", local+"@"+domain(), "<"+word()+">", "<>", "<@relay.test:"+local+"@"+domain()+">")
	}
	host := func() string { return pick(domain(), domain(), "unknown", "mail."+domain()) }
	ev := &Event{}
	ev.Session, ev.Node = "1ab2c", pick("mx1", "mx1.example.com")
	ev.SetClient(address(), rnd.IntN(65536), pick("unknown", "mail.example.com", "Mail.Example.com."))
	ev.SetServer(address())
	ev.ServerPort = rnd.IntN(1000)
	ev.SetHelo(pick(host(), "two words", "ylmf-pc", `"quoted`, "a b@c", "WIN-1A2B", "192.0.2.1", "h\xe9lo", `dom\host`, "-"))
	ev.SetSender(mailbox())
	ev.SetRecipient(mailbox())
	ev.Size, ev.RecipientCount = rnd.IntN(5000), rnd.IntN(20)
	for a, value := range map[Attribute]string{
		ReverseClientName: host(), DaemonName: pick("mx.example.com", "MTA-v4", "smtp"),
		EncryptionProtocol: pick("", "TLSv1.3"), EncryptionCipher: pick("", "ECDHE-RSA-AES256-GCM-SHA384"),
		SASLUsername: pick("", "alice", "alice.", "Alice@Example.com", `CORP\alice`, `CORP\xaver`, `\\host\alice`, "two words", "m\xfcller", "12.34", "2019", "o'neill", "user*master", "a|b", "a b@example.com", "+49123", "cn=alice,dc=example,dc=com", "joe/admin@EXAMPLE.COM", `a\\b`, `CORP\xadmin`),
		SASLMethod:   pick("", "PLAIN", "SCRAM-SHA-256"), SASLSender: pick("", "<>", "Alice@Example.com", "<bob@example.com>"), QueueID: pick("", "4bQ0kX1zZzz", "5ATBxK012345", "A1B2C3D4E5"),
		RefusedStatus: pick("", "5.1.1", "4.7.1", "5.7.26"),
		RefusedText:   pick("", "User unknown in local recipient table", "Recipient address rejected: \"no\", sorry", "user unknown"),
	} {
		ev.SetText(a, value)
	}
	ev.SetHeader("From", pick("Ann <ann@example.com>", `"Ann, B" <ann@example.com>`, "root@example.com (Cron Daemon)", "=?UTF-8?Q?M=C3=BC?= <m@example.com>", "ann@example.com", "Ann"))
	ev.SetHeader("Subject", pick("", "*** Bargain ***", "Deals | Shop", "- 50% off", "bob@example.com has sent you a file", "RE: a, b; c", "It's 5.1.1", `"Quoted" and more`, "100%", "a\\b"))
	return ev
}

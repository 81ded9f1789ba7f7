package config

import (
	"bytes"
	"fmt"
	"net"
	"net/mail"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/audit-milter/audit-milter/internal/notify"
	"github.com/audit-milter/audit-milter/policy"
)

// defaultSMTP is the mail server beside this daemon.
const defaultSMTP = "127.0.0.1:25"

// decodeNotify decodes the mapping of names to those who can be told. A broken
// one is kept, so that rules can name it.
func (d *decoder) decodeNotify(n node) {
	for _, e := range n.entries("a mapping of names to targets, such as admin: {mail: postmaster@example.com}") {
		subject := fmt.Sprintf("notify %q", e.key.Value)
		t := d.target(e.value.about(subject))
		t.Name = e.key.about(subject).printable(e.key.Value)
		d.config.Notify = append(d.config.Notify, t)
	}
}

// target decodes one who can be told.
//
//	key         default          what, and what follows
//	mail        none             an address; or
//	webhook     none             a URL, to which JSON is posted; one of the two is required
//	every       1h               the least time between two notifications of one rule and key, 1m to 31d
//	smtp        127.0.0.1:25     the server that takes the mail, host:port
//	from        audit-milter@    an address for the header From; without it, at the name of this host
//	starttls    offered          never, offered (then it is used) or required; the certificate must be right. Default on
//	                             loopback, whose certificates are nobody's: never
//	token_file  none             a file whose text is sent to the webhook as Authorization: Bearer
func (d *decoder) target(n node) notify.Target {
	t := notify.Target{Every: time.Hour}
	byMail, byHook := &notify.Mail{Server: defaultSMTP}, &notify.Webhook{}
	n.name = "a target"
	n.mapping("a mapping with mail or webhook",
		optional("mail", func(n node) { byMail.To, t.Via = mailAddress(n), byMail }),
		optional("webhook", func(n node) { byHook.URL, t.Via = hook(n), byHook }),
		optional("every", set(&t.Every, duration(time.Minute, 31*24*time.Hour))),
		optional("smtp", set(&byMail.Server, server(defaultSMTP))),
		optional("from", set(&byMail.From, mailAddress)),
		optional("starttls", set(&byMail.StartTLS, choice("starttls", notify.StartTLSNames(), notify.ParseStartTLS))),
		optional("token_file", set(&byHook.Token, d.token)),
	)
	if !n.has("starttls") && !isLoopback(byMail.Server) {
		byMail.StartTLS = notify.TLSOffered
	}
	n.oneWay()
	return t
}

// oneWay checks that a target has either mail or webhook, and keys that go with
// it.
func (n node) oneWay() {
	switch {
	case n.lacks("mail", "webhook"):
		n.errorf("where it goes is missing; write mail: postmaster@example.com or webhook: https://chat.example.com/hook")
	case n.has("mail") && n.has("webhook"):
		n.errorf("a target has either mail or webhook; make two of them, and name both in the rule")
	case n.has("mail"):
		n.refuse("webhook", "token_file")
	case n.has("webhook"):
		n.refuse("mail", "smtp", "from", "starttls")
	}
}

// refuse notes an error at keys that belong to another one, which is not there.
func (n node) refuse(other string, keys ...string) {
	for _, key := range n.keys() {
		if slices.Contains(keys, key.name) {
			key.errorf("%s belongs to %s; leave it out", key.name, other)
		}
	}
}

// mailAddress is a mail address as MAIL and RCPT take it.
func mailAddress(n node) string {
	text := n.text("an address, such as postmaster@example.com")
	parsed, err := mail.ParseAddress(text)
	ascii := strings.IndexFunc(text, func(r rune) bool { return r <= ' ' || r > '~' }) < 0
	if text != "" && (err != nil || parsed.Address != text || !ascii) {
		n.errorf("%s is not a mail address: %q; write name@domain, in ASCII", n.name, text)
	}
	return text
}

// isLoopback reports whether a server's connections stay on this machine.
func isLoopback(server string) bool {
	host, _, _ := net.SplitHostPort(server)
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.IsLoopback()
}

// hook is a webhook's URL. What the error shows of it is not its path, which is
// often a password.
func hook(n node) *url.URL {
	text := n.text("a URL, such as https://chat.example.com/hook")
	u, err := url.Parse(text)
	switch {
	case text == "":
		return &url.URL{}
	case err != nil || u.Hostname() == "" || u.Scheme != "https" && u.Scheme != "http":
		n.errorf("webhook is not a URL of a web server; write it whole, such as https://chat.example.com/hook")
		return &url.URL{}
	}
	return u
}

// token is the token in a file; "" after an error.
func (d *decoder) token(n node) string {
	path, data, ok := d.contents(n)
	if !ok {
		return ""
	}
	token, err := ParseToken(path, data)
	if err != nil {
		n.fail(err)
	}
	return token
}

// ParseToken is the text of a token's file, without the white space around it.
func ParseToken(path string, data []byte) (string, error) {
	token := string(bytes.TrimSpace(bytes.TrimPrefix(data, byteOrderMark)))
	if token == "" || strings.IndexFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) >= 0 {
		return "", fmt.Errorf("%s does not hold a token, which is one word of printable ASCII", path)
	}
	return token, nil
}

// told are the targets that a rule names.
func (d *decoder) told(n node) []string {
	var known, names []string
	for _, t := range d.config.Notify {
		known = append(known, t.Name)
	}
	for _, item := range n.items() {
		name := item.text("the name of a target in notify")
		switch {
		case name == "" || d.lostSection("notify"):
		case !slices.Contains(known, name):
			item.fail(policy.UnknownError{What: "target", Name: name, Known: known})
		case slices.Contains(names, name):
			item.errorf("%s is named twice", name)
		default:
			names = append(names, name)
		}
	}
	return names
}

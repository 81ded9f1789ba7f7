package integration

import "regexp"

const (
	sendmailIPv4 = "192.0.2.2"
	sendmailIPv6 = "2001:db8:25::2"
)

// sendmail is Debian's, as its own sendmail.mc builds it, less what makes it
// slow down or turn away busy clients.
func sendmail() *mta {
	return &mta{
		name: "sendmail", system: "sendmail", IPv4: sendmailIPv4, IPv6: sendmailIPv6,
		inet:    "inet:127.0.0.2:9900",
		sockets: "/run/audit-milter", group: "smmta",
		serve:     []string{"/usr/libexec/sendmail/sendmail", "-bD", "-q1h"},
		configure: configureSendmail,
		ready:     "starting daemon",
		pasted:    pastedIntoSendmail,
		echo:      withoutEcho,
		held:      func(m *mta, id string) string { return m.path("var/spool/mqueue/hf" + id) },
	}
}

func configureSendmail(m *mta) error {
	for _, file := range []struct{ to, from string }{
		{"etc/mail/sendmail.mc", "sendmail.mc"},
		{"etc/mail/aliases", "aliases"},
		{"etc/mail/access", "access"},
		{"etc/mail/service.switch", "service.switch"},
		{"etc/sasl2/Sendmail.conf", "sasl.conf"},
	} {
		if err := m.write(file.to, file.from, m); err != nil {
			return err
		}
	}
	return m.run(`
		for user in user user2 user3; do useradd -M $user; done
		m4 /etc/mail/sendmail.mc >/etc/mail/sendmail.cf
		makemap hash /etc/mail/access </etc/mail/access
		chmod 600 /etc/sasldb2
		/usr/libexec/sendmail/newaliases`)
}

var echoed = regexp.MustCompile(`(?m)^(\d{3}[ -]\d\.\d{1,3}\.\d{1,3} )(?:\S+|".*"\S*)\.\.\. `)

// withoutEcho removes the address that Sendmail puts before a reply's text.
func withoutEcho(reply string) string { return echoed.ReplaceAllString(reply, "$1") }

// pastedIntoSendmail is the milter in sendmail.mc, under a name of its own,
// since there are several.
func pastedIntoSendmail(printed, name string) string {
	rest := lineWith(printed, "INPUT_MAIL_FILTER(`audit-milter'")
	if rest == "" {
		return ""
	}
	return "INPUT_MAIL_FILTER(`" + name + "'" + rest
}

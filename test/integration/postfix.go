package integration

const (
	postfixIPv4  = "192.0.2.1"
	postfixIPv6  = "2001:db8:25::1"
	postfix2IPv4 = "192.0.2.250"
	postfix2IPv6 = "2001:db8:25::250"
)

// postfix is Debian's, with its smtpd under chroot as Debian has it.
func postfix() *mta {
	return &mta{
		name: "postfix", system: "postfix", IPv4: postfixIPv4, IPv6: postfixIPv6,
		inet:    inetSocket,
		sockets: "/var/spool/postfix/audit-milter", group: "postfix",
		serve:     []string{"/usr/sbin/postfix", "start-fg"},
		configure: configurePostfix,
		ready:     "daemon started",
		pasted:    pastedIntoPostfix,
		echo:      func(reply string) string { return reply },
		held:      func(m *mta, id string) string { return m.path("var/spool/postfix/hold/" + id) },
	}
}

// postfix2 is another one, for a cluster.
func postfix2() *mta {
	m := postfix()
	m.name, m.IPv4, m.IPv6, m.inet = "postfix2", postfix2IPv4, postfix2IPv6, "inet:127.0.0.3:9900"
	return m
}

// configurePostfix leaves Debian's master.cf as it is and adds its services.
// Debian 12 makes the chroot by a script that it starts with the service;
// since Debian 13 Postfix starts it itself and refuses everybody else.
func configurePostfix(m *mta) error {
	if err := m.write("etc/postfix/main.cf", "postfix-main.cf", m); err != nil {
		return err
	}
	if err := m.write("etc/postfix/sasl/smtpd.conf", "sasl.conf", nil); err != nil {
		return err
	}
	if err := m.write("tmp/master.cf", "postfix-master.cf", nil); err != nil {
		return err
	}
	return m.run(`
		cat /tmp/master.cf >>/etc/postfix/master.cf
		/usr/lib/postfix/configure-instance.sh - || mkdir -p /var/spool/postfix/etc
		install -o postfix -g postfix -m 600 /etc/sasldb2 /var/spool/postfix/etc/sasldb2`)
}

// pastedIntoPostfix is the milter in main.cf.
func pastedIntoPostfix(printed, _ string) string {
	return lineWith(printed, "smtpd_milters = ")
}

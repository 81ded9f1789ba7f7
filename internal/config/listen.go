package config

import (
	"io/fs"
	"net"
	"net/netip"
	"strconv"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/audit-milter/audit-milter/milter"
	"github.com/audit-milter/audit-milter/policy"
)

// defaultListen is where MTAs are served without a listen: this machine alone
// can reach it.
const defaultListen = "inet:127.0.0.1:9900"

// decodeListen decodes a socket or a list of sockets.
func (d *decoder) decodeListen(n node) {
	lines := make(map[string]int)
	for _, item := range n.items() {
		l, ok := d.socket(item)
		if !ok {
			continue
		}
		if first, again := lines[l.String()]; again {
			item.errorf("%s is given twice, first in line %d; keep one of them", l, first)
			continue
		}
		lines[l.String()] = item.Line
		d.config.Listen = append(d.config.Listen, l)
	}
}

// socket is an address, as either MTA's configuration spells it, or a mapping.
//
//	key     default           what, and what follows
//	socket  required          inet:host:port, inet:[IPv6]:port, inet:port@host, unix:path, local:path or /path
//	mode    "0660"            permissions of a unix socket; the MTA must be able to write to it
//	group   the process's     group of a unix socket, by name or number
//	allow   loopback          networks that may connect to an inet socket; required beyond loopback, since the
//	                          protocol has no authentication
func (d *decoder) socket(n node) (milter.Listen, bool) {
	var l milter.Listen
	if n.Kind != yaml.MappingNode {
		l = d.address(n)
	} else {
		n.mapping("a mapping with socket",
			required("socket", "socket: inet:127.0.0.1:9900", func(n node) { l = d.address(n) }),
			optional("mode", set(&l.Mode, permissions)),
			optional("group", func(n node) { l.Group = n.text("a group's name or number") }),
			optional("allow", func(n node) {
				for _, item := range n.items() {
					l.Allow = append(l.Allow, network(item))
				}
			}),
		)
	}
	if n.containsBad() {
		return l, false
	}
	if err := l.Check(); err != nil {
		n.fail(err)
		return l, false
	}
	return l, true
}

func (d *decoder) address(n node) milter.Listen {
	text := n.text("a socket, such as " + defaultListen)
	if text == "" {
		return milter.Listen{}
	}
	l, err := milter.ParseAddress(text)
	if err != nil {
		n.fail(err)
	}
	if l.Network == "unix" {
		l.Address = d.absolute(l.Address)
	}
	return l
}

// permissions are octal, as chmod takes them.
func permissions(n node) fs.FileMode {
	text := n.text(`permissions, such as "0660"`)
	mode, err := strconv.ParseUint(text, 8, 32)
	if text != "" && (err != nil || mode == 0 || mode > 0o777) {
		n.errorf(`mode needs octal permissions, such as "0660", not %q`, text)
	} else if unable := mode &^ (mode << 1); unable&0o044 != 0 {
		n.errorf(`mode %04o lets somebody read the socket and not write to it, who then cannot connect; write "0660", or "0600" for this user alone`, mode)
	}
	return fs.FileMode(mode)
}

// network is a network, or an address that stands for the one of it alone.
func network(n node) netip.Prefix {
	text := n.text("a network, such as 192.0.2.0/24")
	p, err := policy.ParseNetwork(text)
	if err != nil && text != "" {
		n.fail(err)
	}
	return p
}

// decodeTimeouts decodes how long an MTA is waited for.
//
//	key        default  what, and what follows
//	negotiate  30s      for its first packet
//	frame      30s      for the rest of a packet that has begun
//	write      30s      to take answers
//	idle       130m     between two packets, which is as long as the SMTP client takes for its next command; less than
//	                    the MTA allows its clients fails the milter for those that are slow. It may be twice as long
func decodeTimeouts(t *milter.Timeouts) func(node) {
	return func(n node) {
		n.mapping("a mapping such as {negotiate: 30s, idle: 130m}",
			optional("negotiate", set(&t.Negotiate, duration(time.Second, 10*time.Minute))),
			optional("frame", set(&t.Frame, duration(time.Second, 10*time.Minute))),
			optional("write", set(&t.Write, duration(time.Second, 10*time.Minute))),
			optional("idle", set(&t.Idle, duration(time.Minute, 24*time.Hour))),
		)
	}
}

// server is host:port of one to connect to.
func server(example string) func(node) string { return hostPort(example, 1) }

// hostPort is what TCP connects to or listens at.
func hostPort(example string, leastPort uint64) func(node) string {
	return func(n node) string {
		text := n.text("host:port, such as " + example)
		host, port, err := net.SplitHostPort(text)
		number, badPort := strconv.ParseUint(port, 10, 16)
		if text != "" && (err != nil || host == "" || badPort != nil || number < leastPort) {
			_, port, _ = net.SplitHostPort(example)
			n.errorf("%s needs host:port, such as %s or [::1]:%s, not %q", n.name, example, port, text)
		}
		return text
	}
}

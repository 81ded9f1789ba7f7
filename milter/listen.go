package milter

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// Listen is one socket at which MTAs are served.
type Listen struct {
	Network string // "tcp" or "unix"
	Address string // host:port with an IPv6 host in brackets, or a path; port 0 lets the system choose

	Mode  fs.FileMode // of a unix socket, 0 for 0660
	Group string      // of a unix socket, a name or a number; "" keeps the process's own

	// Allow are the networks that may connect by inet. Required beyond
	// loopback, since the protocol has no authentication.
	Allow []netip.Prefix
}

// maxUnixPath is the longest path of a unix socket on Linux, in bytes; the
// kernel's 108 include a trailing NUL.
const maxUnixPath = 107

// ParseAddress understands a socket as either MTA's configuration spells it:
// inet:host:port, inet:[v6]:port (Postfix), inet:port@host, inet6:port@host
// (Sendmail), unix:path, local:path, and a bare absolute path. Its errors show
// what would be right.
func ParseAddress(s string) (Listen, error) {
	if strings.HasPrefix(s, "/") {
		return Listen{Network: "unix", Address: s}, nil
	}
	kind, rest, found := strings.Cut(s, ":")
	switch {
	case !found && strings.ContainsAny(s, "/."):
		return Listen{}, fmt.Errorf("%q is not a socket; of a file write unix:%s", s, s)
	case !found:
		return Listen{}, fmt.Errorf("%q is not a socket; write inet:127.0.0.1:9900 or unix:/run/audit-milter/milter.sock", s)
	case kind == "unix" || kind == "local":
		return parsePath(kind, rest)
	case kind == "inet" || kind == "inet6":
		return parseInet(kind, rest)
	}
	return Listen{}, fmt.Errorf("%q begins with neither inet:, inet6:, unix: nor local:; write %s", s, guessInet(s))
}

// guessInet is s as inet if it may have been meant so.
func guessInet(s string) string {
	if _, _, err := net.SplitHostPort(s); err == nil {
		return "inet:" + s
	}
	return "inet:127.0.0.1:9900 or unix:/run/audit-milter/milter.sock"
}

func parsePath(kind, path string) (Listen, error) {
	if path == "" {
		return Listen{}, fmt.Errorf("%s: needs a path; write %s:/run/audit-milter/milter.sock", kind, kind)
	}
	return Listen{Network: "unix", Address: path}, nil
}

func parseInet(kind, rest string) (Listen, error) {
	split := splitHostPort
	if strings.Contains(rest, "@") {
		split = splitPortHost
	}
	host, port, err := split(kind, rest)
	if err != nil {
		return Listen{}, err
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return Listen{}, fmt.Errorf("port %q is not a number up to 65535; write %s:127.0.0.1:9900", port, kind)
	}
	if addr, err := netip.ParseAddr(host); kind == "inet6" && err == nil && addr.Is4() {
		return Listen{}, fmt.Errorf("%s is an IPv4 address; write inet:%s:%s", host, host, port)
	}
	return Listen{Network: "tcp", Address: net.JoinHostPort(host, port)}, nil
}

// splitHostPort is Postfix's order, host:port.
func splitHostPort(kind, s string) (host, port string, err error) {
	colon := strings.LastIndexByte(s, ':')
	if colon < 0 {
		if _, err := strconv.Atoi(s); err == nil {
			return "", "", fmt.Errorf("%s:%s has no host; write %s:%s:%s, which this machine alone can reach", kind, s, kind, loopback(kind), s)
		}
		return "", "", fmt.Errorf("%s:%s has no port; write %s:%s:9900", kind, s, kind, s)
	}
	host, port = s[:colon], s[colon+1:]
	inner, bracketed := cutBrackets(host)
	switch {
	case bracketed:
		err = checkBracketed(kind, inner, port)
		host = inner
	case host == "":
		err = fmt.Errorf("%s:%s has no host; write %s:%s:%s, which this machine alone can reach", kind, s, kind, loopback(kind), port)
	case isIPv6(host):
		err = fmt.Errorf("%s:%s: an IPv6 address stands in brackets; write %s:[%s]:%s", kind, s, kind, host, port)
	case isIPv6(s), isIPv6(strings.Trim(s, "[]")):
		err = fmt.Errorf("%s:%s has no port; write %s:[%s]:9900", kind, s, kind, strings.Trim(s, "[]"))
	default:
		err = checkHost(host)
	}
	return host, port, err
}

// splitPortHost is Sendmail's order, port@host.
func splitPortHost(kind, s string) (host, port string, err error) {
	port, host, _ = strings.Cut(s, "@")
	inner, bracketed := cutBrackets(host)
	switch {
	case bracketed && !isIPv6(inner):
		// Sendmail itself never connects to such a spelling.
		err = fmt.Errorf("%s:%s: only an IPv6 address stands in brackets; write %s:%s@%s", kind, s, kind, port, inner)
	case bracketed:
		host = inner
	case host == "":
		err = fmt.Errorf("%s:%s has no host; write %s:%s@%s, which this machine alone can reach", kind, s, kind, port, loopback(kind))
	case !isIPv6(host):
		err = checkHost(host)
	}
	return host, port, err
}

func cutBrackets(host string) (inner string, ok bool) {
	inner, opened := strings.CutPrefix(host, "[")
	inner, closed := strings.CutSuffix(inner, "]")
	if !opened || !closed {
		return host, false
	}
	return inner, true
}

func checkBracketed(kind, inner, port string) error {
	if isIPv6(inner) {
		return nil
	}
	return fmt.Errorf("[%s]: only an IPv6 address stands in brackets; write %s:%s:%s", inner, kind, inner, port)
}

// checkHost refuses what can be neither a name nor an IPv4 address.
func checkHost(host string) error {
	if strings.ContainsAny(host, "[]:/@ \t") {
		return fmt.Errorf("%q is not a host; write a name, an IPv4 address, or an IPv6 address in brackets", host)
	}
	return nil
}

func isIPv6(s string) bool {
	addr, err := netip.ParseAddr(s)
	return err == nil && addr.Is6()
}

func loopback(kind string) string {
	if kind == "inet6" {
		return "[::1]"
	}
	return "127.0.0.1"
}

// Check says what is wrong with the socket, if anything. It looks at no file
// and opens nothing.
func (l Listen) Check() error {
	if l.Network == "unix" {
		return l.checkUnix()
	}
	switch {
	case l.Mode != 0:
		return errors.New("mode belongs to a unix socket; an inet one has allow")
	case l.Group != "":
		return errors.New("group belongs to a unix socket; an inet one has allow")
	case len(l.Allow) == 0 && !l.onLoopback():
		return fmt.Errorf("%s can be reached from other machines, and the protocol has no authentication; give the MTAs' networks in allow: [192.0.2.0/24]", l)
	}
	return nil
}

func (l Listen) checkUnix() error {
	switch {
	case len(l.Allow) > 0:
		return errors.New("allow belongs to an inet socket; a unix one has mode and group")
	case len(l.Address) > maxUnixPath:
		return fmt.Errorf("the socket's path has %d bytes; the system allows %d", len(l.Address), maxUnixPath)
	case l.Mode&^fs.ModePerm != 0:
		return fmt.Errorf("mode %#o has more than permissions; write one like 0660", uint32(l.Mode))
	}
	return nil
}

// onLoopback reports whether only this machine can reach the socket.
func (l Listen) onLoopback() bool {
	host, _ := l.hostPort()
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return host == "localhost"
	}
	return addr.Unmap().IsLoopback()
}

func (l Listen) hostPort() (host, port string) {
	host, port, _ = net.SplitHostPort(l.Address)
	return host, port
}

// String is the socket as ParseAddress reads it.
func (l Listen) String() string {
	if l.Network == "unix" {
		return "unix:" + l.Address
	}
	return "inet:" + l.Address
}

// postfixQueue is Debian's queue_directory, Postfix's working directory, into
// which Debian's master.cf chroots smtpd.
const postfixQueue = "/var/spool/postfix/"

// Postfix is the socket as main.cf spells it. One below the queue directory is
// spelled relative to it, which is right with and without the chroot.
func (l Listen) Postfix() string {
	if l.Network == "unix" {
		return "unix:" + strings.TrimPrefix(l.Address, postfixQueue)
	}
	host, port := l.reachable()
	return "inet:" + net.JoinHostPort(host, port)
}

// Sendmail is the socket as S= of sendmail.mc spells it. Sendmail does not
// connect to an address in brackets.
func (l Listen) Sendmail() string {
	if l.Network == "unix" {
		return l.String()
	}
	host, port := l.reachable()
	if isIPv6(host) {
		return "inet6:" + port + "@" + host
	}
	return "inet:" + port + "@" + host
}

// reachable is where an MTA on this machine connects: a wildcard is no address
// to connect to.
func (l Listen) reachable() (host, port string) {
	host, port = l.hostPort()
	switch host {
	case "0.0.0.0":
		host = "127.0.0.1"
	case "::":
		host = "::1"
	}
	return host, port
}

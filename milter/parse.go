package milter

import (
	"bytes"
	"encoding/binary"
	"math"
	"net/netip"
	"strconv"
	"strings"

	wire "github.com/emersion/go-milter"
)

// maxText is how much is kept of a command's argument or a macro's value, in
// bytes; the MTAs' own are no longer.
const maxText = 2048

func bounded(text []byte) []byte { return text[:min(len(text), maxText)] }

// cutString takes a string that ends in NUL from the beginning of b.
func cutString(b []byte) (s string, rest []byte, ok bool) {
	before, rest, ok := bytes.Cut(b, []byte{0})
	return string(bounded(before)), rest, ok
}

// client is what CONNECT says.
type client struct {
	name string // unknownName when the MTA knows none
	addr netip.Addr
	port int
}

// parseConnect reads the data of CONNECT: a host name, a letter for the
// address family and, but for the unknown family, a port and an address. An
// address that cannot be read, or a family that is none of the internet's, is
// a client without an address.
func parseConnect(data []byte) (client, error) {
	name, rest, ok := cutString(data)
	if !ok || len(rest) == 0 {
		return client{}, malformedf("a CONNECT without an address family")
	}
	c := client{name: hostName(name)}
	family := wire.ProtoFamily(rest[0])
	if family == wire.FamilyUnknown {
		return c, nil
	}
	rest = rest[1:]
	if len(rest) < 2 {
		return client{}, malformedf("a CONNECT without a port")
	}
	port := binary.BigEndian.Uint16(rest)
	addr, _, ok := cutString(rest[2:])
	if !ok {
		return client{}, malformedf("a CONNECT whose address does not end in NUL")
	}
	if family == wire.FamilyInet || family == wire.FamilyInet6 {
		c.addr, c.port = parseAddr(addr), int(port)
	}
	return c, nil
}

// parseAddr reads an address as Postfix or Sendmail writes it; the latter puts
// "IPv6:" in front and compresses nothing. What is no address of a host, the
// wildcard included, is the zero Addr.
func parseAddr(s string) netip.Addr {
	const tag = "IPv6:"
	if len(s) > len(tag) && strings.EqualFold(s[:len(tag)], tag) {
		s = s[len(tag):]
	}
	addr, err := netip.ParseAddr(s)
	if err != nil || addr.IsUnspecified() {
		return netip.Addr{}
	}
	return addr.Unmap().WithZone("")
}

// unknownName is the name of a client that has none, as Postfix's policy
// protocol spells it.
const unknownName = "unknown"

// hostName gives a client without a verified name one spelling; the MTAs say
// unknown, [192.0.2.1] or [IPv6:2001:db8:0:0:0:0:0:1].
func hostName(name string) string {
	if name == "" || strings.HasPrefix(name, "[") || strings.EqualFold(name, unknownName) {
		return unknownName
	}
	return name
}

// parseHelo reads the data of HELO.
func parseHelo(data []byte) (string, error) {
	name, _, ok := cutString(data)
	if !ok {
		return "", malformedf("a HELO that does not end in NUL")
	}
	return name, nil
}

// maxSize is the largest SIZE that is believed, in bytes: more than any MTA
// takes, and no lie of a client fills a 64-bit count.
const maxSize = min(1<<40, math.MaxInt)

// parseMail reads the data of MAIL: the argument as the client wrote it, then
// the ESMTP parameters.
func parseMail(data []byte) (arg string, size int, err error) {
	arg, rest, ok := cutString(data)
	if !ok {
		return "", 0, malformedf("a MAIL without an address")
	}
	for len(rest) > 0 {
		var param string
		if param, rest, ok = cutString(rest); !ok {
			return "", 0, malformedf("a MAIL that does not end in NUL")
		}
		if name, value, ok := strings.Cut(param, "="); ok && strings.EqualFold(name, "SIZE") {
			size = parseSize(value)
		}
	}
	return arg, size, nil
}

func parseSize(s string) int {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil && n == 0 {
		return 0
	}
	return int(min(n, maxSize)) // out of range, n is the largest there is
}

// parseRcpt reads the argument of RCPT as the client wrote it.
func parseRcpt(data []byte) (string, error) {
	arg, _, ok := cutString(data)
	if !ok {
		return "", malformedf("a RCPT without an address")
	}
	return arg, nil
}

// parseHeader reads a header field, its value folded as it came.
func parseHeader(data []byte) (name, value []byte, err error) {
	name, rest, ok := bytes.Cut(data, []byte{0})
	value, _, ended := bytes.Cut(rest, []byte{0})
	if !ok || !ended {
		return nil, nil, malformedf("a header field that does not end in NUL")
	}
	return name, value, nil
}

// errorMailer is where a recipient goes that the MTA refuses.
const errorMailer = "error"

// refusal tells a recipient that the MTA refused from one that it took, by the
// recipient's macros, and says why it was refused. The mailer's name is not
// enough: Postfix says error as well for each good address of a virtual alias
// domain and for a transport of that name, with a sentence as the host. On a
// refusal the host is an enhanced status code, or (in Sendmail's rules it can
// be any word) the address is a reply with its code. Sendmail 8.18 gives an
// unknown user neither: the host is empty, the address the user. It reports no
// other refusals, so that is its status.
func refusal(mailer, host, addr string) (status, text string, refused bool) {
	if mailer != errorMailer {
		return "", "", false
	}
	text, isReply := cutReplyCode(addr)
	if host != "" && !isStatus(host) && !isReply {
		return "", "", false
	}
	first, rest, _ := strings.Cut(text, " ")
	if isReply && isStatus(first) {
		status, text = first, rest
	}
	switch {
	case isStatus(host):
		status = host
	case host == "" && !isReply:
		status, text = "5.1.1", ""
	}
	return status, text, true
}

// cutReplyCode strips the three digits with which Sendmail begins.
func cutReplyCode(s string) (text string, ok bool) {
	if len(s) < 4 || s[3] != ' ' {
		return s, false
	}
	if n, err := strconv.Atoi(s[:3]); err != nil || n < 400 || n > 599 {
		return s, false
	}
	return s[4:], true
}

// isStatus reports whether s is an enhanced status code (RFC 3463) of a
// failure.
func isStatus(s string) bool {
	parts := strings.Split(s, ".")
	if len(parts) != 3 || parts[0] != "4" && parts[0] != "5" {
		return false
	}
	for _, p := range parts[1:] {
		if _, err := strconv.ParseUint(p, 10, 16); err != nil || len(p) > 3 {
			return false
		}
	}
	return true
}

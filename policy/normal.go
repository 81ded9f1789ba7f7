package policy

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"net/netip"
	"regexp"
	"strings"
	"unicode/utf8"
)

// The one spelling of every attribute, so that a client has one key however it
// writes itself. The rules are in docs/attributes.md.

// normalText lower-cases s and makes it valid UTF-8: other bytes become \xhh,
// and a backslash \\ so that the two cannot be confused.
func normalText(s string) string {
	if isNormal(s) {
		return s
	}
	var b strings.Builder
	b.Grow(len(s) + 8)
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			b.WriteString(`\x`)
			b.WriteString(hex.EncodeToString([]byte{s[i]}))
		case r == '\\':
			b.WriteString(`\\`)
		default:
			b.WriteString(strings.ToLower(s[i : i+n]))
		}
		i += n
	}
	return b.String()
}

// isNormal is the common case: ASCII without capitals and backslashes.
func isNormal(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c >= utf8.RuneSelf || c == '\\' || 'A' <= c && c <= 'Z' {
			return false
		}
	}
	return true
}

// normalHost is a host name without its trailing dot.
func normalHost(s string) string {
	return strings.TrimSuffix(normalText(s), ".")
}

// normalAddress takes an argument of MAIL or RCPT as the client wrote it, down to
// the mailbox that the mail server finds in it, without quotes that the local part
// does not need. It returns the address and its domain.
func normalAddress(raw string) (addr, domain string) { return spellAddress(mailbox(raw)) }

// plainAddress is normalAddress for what the mail server or the admin wrote. It may
// as well be a login with a backslash, or a part of a header.
func plainAddress(s string) (addr, domain string) { return spellAddress(withoutBrackets(s)) }

func spellAddress(s string) (addr, domain string) {
	local, host := cutAddress(s)
	if host == "" {
		// Quotes around all of it hide nothing from the mail servers.
		if inner, ok := unquoted(local); ok {
			local, host = cutAddress(inner)
		}
	}
	local = withoutQuotes(local)
	if host == "" {
		return normalText(local), ""
	}
	domain = normalHost(host)
	return normalText(local) + "@" + domain, domain
}

// mailbox strips what both mail servers take around an address and between its
// parts, the syntax of a header (RFC 5322, 3.4 and 4.4): brackets, a name in front
// of them, a source route, a group's name, comments, spaces, and backslashes that
// stand outside of quotes.
func mailbox(s string) string {
	s = withoutBrackets(s)
	if !strings.ContainsAny(s, " \t()<>:;,\\") {
		return s
	}
	b := make([]byte, 0, len(s))
	quoted, literal, comments := false, false, 0
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '\\' && i+1 < len(s):
			i++
			if quoted {
				b = append(b, c)
			}
			if comments == 0 {
				b = append(b, s[i])
			}
		case comments > 0 || !quoted && c == '(':
			switch c {
			case '(':
				comments++
			case ')':
				comments--
			}
		case c == '"':
			quoted = !quoted
			b = append(b, c)
		case quoted:
			b = append(b, c)
		case c == '<' || c == ':' && !literal: // what stood in front was no mailbox
			b = b[:0]
		case c == '>':
			return string(bytes.TrimRight(b, " "))
		case c == ' ' || c == '\t':
			if n := len(b); n > 0 && strings.IndexByte("@. ", b[n-1]) < 0 {
				b = append(b, ' ') // it parts two words of another mailbox
			}
		case c == '@' || c == '.':
			b = append(bytes.TrimRight(b, " "), c)
		case c != ';' && c != ',':
			literal = c == '[' || literal && c != ']'
			b = append(b, c)
		}
	}
	return string(bytes.TrimRight(b, " "))
}

func withoutBrackets(s string) string {
	s = strings.TrimSpace(s)
	if inner, ok := strings.CutPrefix(s, "<"); ok {
		s = strings.TrimSuffix(inner, ">")
	}
	return s
}

// cutAddress splits at the last @, which no quoted local part can hide.
func cutAddress(s string) (local, host string) {
	at := strings.LastIndexByte(s, '@')
	if at < 0 || strings.HasSuffix(s, `"`) {
		return s, ""
	}
	return s[:at], s[at+1:]
}

// withoutQuotes unquotes a local part that is a dot-atom (RFC 5321, 4.1.2)
// without its quotes.
func withoutQuotes(local string) string {
	if inner, ok := unquoted(local); ok && isDotAtom(inner) {
		return inner
	}
	return local
}

func unquoted(s string) (inner string, ok bool) {
	if len(s) < 2 || s[0] != '"' || s[len(s)-1] != '"' {
		return s, false
	}
	return unescape(s[1 : len(s)-1]), true
}

func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b = append(b, s[i])
	}
	return string(b)
}

func isDotAtom(s string) bool {
	if s == "" || s[0] == '.' || s[len(s)-1] == '.' || strings.Contains(s, "..") {
		return false
	}
	for _, c := range []byte(s) {
		if c <= ' ' || c == 0x7f || strings.IndexByte(`()<>[]:;@\,"`, c) >= 0 {
			return false
		}
	}
	return true
}

// normalIP is the one text of an address; "" for the zero Addr.
func normalIP(a netip.Addr) (netip.Addr, string) {
	a = a.Unmap().WithZone("")
	if !a.IsValid() {
		return a, ""
	}
	return a, a.String()
}

// The bounds of a text key, in bytes.
const (
	maxKey = 255
	cutKey = 200
)

// boundedKey shortens a long key to its beginning and 16 hexadecimal digits of
// its SHA-256, so that two long keys stay two keys.
func boundedKey(key string) string {
	if len(key) <= maxKey {
		return key
	}
	sum := sha256.Sum256([]byte(key))
	n := cutKey
	for n > 0 && !utf8.RuneStart(key[n]) {
		n--
	}
	return key[:n] + "~" + hex.EncodeToString(sum[:8])
}

// nodeName is what can stand in the keys of a cluster's server and in a terminal.
var nodeName = regexp.MustCompile(`\A[a-z0-9._-]{1,64}\z`)

// IsNodeName reports whether a cluster and its nodes may have that name.
func IsNodeName(name string) bool { return nodeName.MatchString(name) }

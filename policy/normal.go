package policy

import (
	"crypto/sha256"
	"encoding/hex"
	"net/netip"
	"regexp"
	"strings"
	"unicode/utf8"
)

// The one spelling of every attribute, so that a client has one key however it
// writes itself. The rules are in docs/attributes.md.

// normalText lower-cases s and makes it valid UTF-8.
func normalText(s string) string {
	if isNormal(s) {
		return s
	}
	return strings.ToLower(Spell(s))
}

// Spell makes s valid UTF-8: other bytes become \xhh, and a backslash \\ so that the
// two cannot be confused.
func Spell(s string) string {
	if utf8.ValidString(s) && !strings.Contains(s, `\`) {
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
			b.WriteString(s[i : i+n])
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
		if inner, ok := unquoted(local); ok && (inner == "" || strings.Contains(inner, "@")) {
			local, host = cutAddress(mailbox(inner))
		}
	}
	local = withoutQuotes(local)
	if host == "" {
		return normalText(local), ""
	}
	if strings.ContainsAny(host, `"\`) {
		host = strings.NewReplacer(`"`, "", `\`, "").Replace(host) // as the mail servers do
	}
	domain = strings.TrimRight(normalText(host), ".")
	return normalText(local) + "@" + domain, domain
}

// mailbox strips what both mail servers take around an address and between its
// parts, the syntax of a header (RFC 5322, 3.4 and 4.4): a name in front of brackets,
// the brackets, of which the last count, a source route, a group's name, comments and
// spaces. What a backslash protects outside of quotes comes out in quotes.
func mailbox(s string) string {
	s = withoutBrackets(s)
	if !strings.ContainsAny(s, blanks+`()<>:;,\`) {
		return s
	}
	b := make([]byte, 0, len(s))
	bracketed := ""
	quoted, literal, apart, comments := false, false, false, 0
	word := func(text ...byte) {
		// Sendmail puts a dot between two words; Postfix refuses them.
		if apart && !literal && len(b) > 0 && strings.IndexByte(`@."`, b[len(b)-1]) < 0 && text[0] != '"' {
			b = append(b, '.')
		}
		b, apart = append(b, text...), false
	}
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '\\' && i+1 < len(s):
			i++
			switch c := s[i]; {
			case comments > 0:
			case quoted:
				b = append(b, '\\', c)
			case strings.IndexByte(blanks+`()<>[]:;,"\`, c) >= 0:
				word('"', '\\', c, '"')
			default:
				word(c)
			}
		case comments > 0 || !quoted && c == '(':
			switch c {
			case '(':
				comments++
			case ')':
				comments--
			}
			apart = true
		case c == '"':
			quoted = !quoted
			word(c)
		case quoted:
			b = append(b, c)
		case c == '<': // what stood in front was no mailbox
			b, bracketed, literal, apart = b[:0], "", false, false
		case c == '>':
			if len(b) > 0 && b[0] == '@' { // still within a route
				break
			}
			if len(b) > 0 && bracketed == "" {
				bracketed = string(b)
			}
			b, apart = b[:0], false
		case c == ':' && !literal:
			if len(b) > 0 && b[0] == '@' || strings.Contains(s[i:], ";") { // a route, a group
				b, apart = b[:0], false
			} else {
				word('"', c, '"')
			}
		case strings.IndexByte(blanks, c) >= 0:
			apart = true
		case c == '@' || c == '.':
			b, apart = append(b, c), false
		case c != ';' && c != ',':
			word(c)
			literal = c == '[' || literal && c != ']'
		}
	}
	if bracketed != "" {
		return bracketed
	}
	return string(b)
}

// blanks are what the mail servers take for spaces.
const blanks = " \t\r\n\v\f"

func withoutBrackets(s string) string {
	s = strings.TrimSpace(s)
	if inner, ok := strings.CutPrefix(s, "<"); ok {
		s = strings.TrimSuffix(inner, ">")
	}
	return s
}

// cutAddress splits at the last @ outside of quotes, or where these do not end, at the
// last of all.
func cutAddress(s string) (local, host string) {
	at := strings.LastIndexByte(s, '@')
	if strings.Contains(s, `"`) {
		outside, quoted := -1, false
		for i := 0; i < len(s); i++ {
			switch c := s[i]; {
			case c == '\\' && quoted:
				i++
			case c == '"':
				quoted = !quoted
			case c == '@' && !quoted:
				outside = i
			}
		}
		if !quoted {
			at = outside
		}
	}
	if at < 0 {
		return s, ""
	}
	return s[:at], s[at+1:]
}

// withoutQuotes takes all quotes out of a local part, and puts them around the whole
// of it if it needs them (RFC 5321, 4.1.2).
func withoutQuotes(local string) string {
	inner, ok := unquoted(local)
	switch {
	case !ok:
		return local
	case isAtoms(inner):
		return inner
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(inner) + `"`
}

// unquoted is s without its quotes, wherever they stand; not ok where there are none,
// or one has no end.
func unquoted(s string) (inner string, ok bool) {
	if !strings.Contains(s, `"`) {
		return s, false
	}
	b := make([]byte, 0, len(s))
	quoted := false
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c == '"' {
			quoted = !quoted
			continue
		}
		if c == '\\' && quoted && i+1 < len(s) {
			i++
			c = s[i]
		}
		b = append(b, c)
	}
	return string(b), !quoted
}

// isAtoms reports whether a local part needs no quotes. The mail servers take dots
// anywhere.
func isAtoms(s string) bool {
	for _, c := range []byte(s) {
		if c <= ' ' || c == 0x7f || strings.IndexByte(`()<>[]:;@\,"`, c) >= 0 {
			return false
		}
	}
	return s != ""
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

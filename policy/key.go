package policy

import (
	"net/netip"
	"strings"

	"github.com/audit-milter/audit-milter/series"
)

// asReceived are the attributes that keep their spelling everywhere but in a
// key. All others are normalised when they enter the event.
func asReceived(a Attribute) bool {
	switch a {
	case SenderRaw, RecipientRaw, QueueID, Header, RefusedText, RuleName:
		return true
	}
	return false
}

// of is the key's value in the event for a series of the given type; the zero
// series.Key when it, or a part of a composite, is absent.
func (k Key) of(ev *Event, t series.Type) series.Key {
	if t.IsAddress() {
		return series.AddrKey(k.addr(ev))
	}
	if len(k) == 1 {
		return series.TextKey(boundedKey(k[0].keyText(ev)))
	}
	var b strings.Builder
	for i, term := range k {
		part := term.keyText(ev)
		if part == "" {
			return series.Key{}
		}
		if i > 0 {
			b.WriteByte('|')
		}
		b.WriteString(strings.ReplaceAll(part, "|", `\|`))
	}
	return series.TextKey(boundedKey(b.String()))
}

// addr is the address that the key of an address series is.
func (k Key) addr(ev *Event) netip.Addr {
	if len(k) == 1 && k[0].Attribute == ServerAddress {
		return ev.ServerAddr
	}
	return ev.ClientAddr
}

// orClient is the key, or what stands for none in an address series.
func (k Key) orClient(t series.Type) Key {
	if len(k) == 0 && t.IsAddress() {
		return Key{{Attribute: ClientAddress}}
	}
	return k
}

// keyText is the term's value as a key spells it.
func (t Term) keyText(ev *Event) string {
	s := t.text(ev)
	if asReceived(t.Attribute) {
		return normalText(s)
	}
	return s
}

func (k Key) String() string {
	parts := make([]string, len(k))
	for i, t := range k {
		parts[i] = t.String()
	}
	return strings.Join(parts, "|")
}

// equal reports whether both keys take the same values.
func (k Key) equal(other Key) bool { return k.String() == other.String() }

package policy

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/audit-milter/audit-milter/series"
)

// Target is what a person asks a series for: a text, an address, or a block of
// addresses.
type Target struct {
	Key  series.Key
	Mask series.Mask // of the block; series.Host for an address or a text
}

// Block is the block of an address series' target.
func (t Target) Block() netip.Prefix { return t.Mask.Of(t.Key.Addr()) }

// IsBlock reports whether the target is more than one key.
func (t Target) IsBlock() bool {
	return t.Key.Addr().IsValid() && !t.Block().IsSingleIP()
}

// Compare puts the lower address or text first.
func (t Target) Compare(other Target) int {
	if addr := t.Key.Addr(); addr.IsValid() {
		return addr.Compare(other.Key.Addr())
	}
	return strings.Compare(t.Key.String(), other.Key.String())
}

func (t Target) String() string {
	if t.IsBlock() {
		return t.Block().String()
	}
	return t.Key.String()
}

// ParseTarget reads what a person writes for one of the engine's series: an
// address, ADDRESS/BITS or a text. A text that the series holds, or for which a
// penalty of a rule about it runs, means itself; any other is brought into the one
// spelling of the attribute that the series is keyed by, or of its parts.
func (e *Engine) ParseTarget(c Counter, written string, now time.Time) (Target, error) {
	if c.Definition().Type.IsAddress() {
		return parseBlockOf(c, written)
	}
	if k, err := ParseKey(c, written); err == nil && e.knows(c, k, now) {
		return Target{k, series.Host}, nil
	}
	key := e.keyOf(c.Definition().Name)
	k, err := parseText(unspell, written, key)
	if raw, rawErr := parseText(strings.Clone, written, key); rawErr == nil && !e.knows(c, k, now) && e.knows(c, raw, now) {
		k, err = raw, nil // the backslash of a client, with what looks like an escape behind it
	}
	return Target{k, series.Host}, about(c, err)
}

// knows reports whether a text counts in any window, or a penalty runs for it.
func (e *Engine) knows(c Counter, k series.Key, now time.Time) bool {
	return holds(c, k, now) || e.penalizes(c, k, now)
}

// holds reports whether a key counts in any window.
func holds(c Counter, k series.Key, now time.Time) bool {
	counts, _ := c.Counts(nil, k, series.Host, now)
	return anyCounts(counts)
}

// penalizes reports whether a penalty runs for a text, for what it is in the series: in
// another one the same text is something else.
func (e *Engine) penalizes(c Counter, k series.Key, now time.Time) bool {
	return slices.ContainsFunc(e.penalizing, func(r *rule) bool {
		return r.penalties.left(Subject{Text: k.String()}, now) > 0 && r.decidesBy(c)
	})
}

// anyCounts reports whether any of a key's windows has a count.
func anyCounts(counts []int64) bool {
	return slices.ContainsFunc(counts, func(n int64) bool { return n != 0 })
}

// ParseKey reads an address or a text in the one spelling of keys, as an export has
// it.
func ParseKey(c Counter, spelt string) (series.Key, error) {
	if c.Definition().Type.IsAddress() {
		t, err := parseBlockOf(c, spelt)
		if err == nil && t.IsBlock() {
			err = about(c, fmt.Errorf("%s is a block; its counts are those of its addresses", t))
		}
		return t.Key, err
	}
	k := series.TextKey(spelt)
	if !c.Takes(k) || !utf8.ValidString(spelt) || strings.ToLower(spelt) != spelt {
		return k, about(c, fmt.Errorf("%q is not spelt as keys are: UTF-8 in lower case, of 1 to %d bytes", spelt, maxKey))
	}
	return k, nil
}

// about says which series an error is about.
func about(c Counter, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("series %s: %w", c.Definition().Name, err)
}

func parseBlockOf(c Counter, written string) (Target, error) {
	t, err := ParseBlock(written)
	if err == nil && !c.Takes(t.Key) {
		err = fmt.Errorf("it is of type %s and does not take %s", c.Definition().Type, t)
	}
	return t, about(c, err)
}

// keyOf is what a series of the configuration is keyed by; nil for a built-in one.
func (e *Engine) keyOf(name string) Key {
	if s := e.policy.Find(name); s != nil && len(s.Adds) > 0 {
		return s.Adds[0].Key
	}
	return nil
}

// ParseBlock reads an address, or ADDRESS/BITS, which is the block that the
// address is in.
func ParseBlock(written string) (Target, error) {
	text, bits, masked := strings.Cut(written, "/")
	addr, err := netip.ParseAddr(text)
	if err != nil || addr.Zone() != "" {
		return Target{}, fmt.Errorf("%q is not an address; write one such as 192.0.2.7 or 2001:db8::7, or a block such as 192.0.2.0/24", written)
	}
	addr = addr.Unmap()
	if !masked {
		return Target{series.AddrKey(addr), series.Host}, nil
	}
	n, err := strconv.ParseUint(bits, 10, 8)
	switch {
	case err != nil || int(n) > addr.BitLen():
		return Target{}, fmt.Errorf("/%s is not a mask of %s; write /0 to /%d", bits, addr, addr.BitLen())
	case int(n) == addr.BitLen():
		return Target{series.AddrKey(addr), series.Host}, nil
	}
	mask := series.Mask{IPv4: uint8(n), IPv6: uint8(n)}
	return Target{series.AddrKey(mask.Of(addr).Addr()), mask}, nil
}

// parseText reads a text key of a series that is keyed by key, and undoes its escapes,
// if it has any.
func parseText(undo func(string) string, written string, key Key) (series.Key, error) {
	parts := []string{written}
	if len(key) > 1 {
		parts = splitComposite(written)
	}
	if len(key) > 1 && len(parts) != len(key) {
		return series.Key{}, fmt.Errorf("%q has %d of the parts %s; put | between them, and \\| for one inside", written, len(parts), key)
	}
	for i, part := range parts {
		if len(key) > 0 {
			parts[i] = key[i].respell(undo(part))
		}
		if parts[i] == "" {
			return series.Key{}, fmt.Errorf("the key %q, or a part of it, is empty, and so is never counted", written)
		}
		if len(key) > 1 {
			parts[i] = strings.ReplaceAll(parts[i], "|", `\|`)
		}
	}
	return series.TextKey(boundedKey(strings.Join(parts, "|"))), nil
}

// splitComposite cuts a composite key at each | that has no backslash in front,
// which it takes away from the others.
func splitComposite(s string) []string {
	parts := []string{""}
	for i := 0; i < len(s); i++ {
		last := &parts[len(parts)-1]
		switch {
		case s[i] == '|':
			parts = append(parts, "")
		case s[i] == '\\' && i+1 < len(s):
			i++
			if s[i] != '|' {
				*last += `\`
			}
			*last += s[i : i+1]
		default:
			*last += s[i : i+1]
		}
	}
	return parts
}

// respell brings a value of the term's attribute into the spelling of keys.
func (t Term) respell(raw string) string {
	switch t.Attribute {
	case Sender, Recipient:
		if raw == nullSender {
			return raw
		}
		addr, _ := normalAddress(raw)
		return addr
	case SASLSender:
		addr, _ := plainAddress(raw)
		return addr
	case ClientName, ReverseClientName, HeloName, SenderDomain, RecipientDomain, FromDomain:
		return normalHost(raw)
	case ClientAddress, ServerAddress:
		if addr, err := netip.ParseAddr(raw); err == nil {
			_, raw = normalIP(addr)
		}
	}
	return normalText(raw)
}

// unspell undoes the escapes of normalText. A text with a backslash that is none
// of them is not one that normalText wrote, and stays.
func unspell(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			b.WriteByte(s[i])
			continue
		}
		switch rest := s[i+1:]; {
		case strings.HasPrefix(rest, `\`):
			b.WriteByte('\\')
			i++
		case strings.HasPrefix(rest, "x") && isHexByte(rest[1:]):
			n, _ := strconv.ParseUint(rest[1:3], 16, 8)
			b.WriteByte(byte(n))
			i += 3
		default:
			return s
		}
	}
	return b.String()
}

func isHexByte(s string) bool {
	return len(s) >= 2 && strings.Trim(s[:2], "0123456789abcdef") == ""
}

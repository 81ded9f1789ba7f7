package series

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// Type says what a series is keyed by.
type Type uint8

// The types. CIDR and CIDR6 take addresses of one family, IP of both.
const (
	CIDR   Type = iota // "cidr": IPv4 addresses
	CIDR6              // "cidr_ipv6": IPv6 addresses
	String             // "string": any text
	IP                 // "ip": IPv4 and IPv6 addresses
)

var typeNames = [...]string{"cidr", "cidr_ipv6", "string", "ip"}

func (t Type) String() string { return typeNames[t] }

// IsAddress reports whether the series is keyed by addresses.
func (t Type) IsAddress() bool { return t != String }

// takes reports whether the type is keyed by keys like this one. An absent key no
// type takes, nor a text over 255 bytes.
func (t Type) takes(k Key) bool {
	switch {
	case k.addr.Is4():
		return t == CIDR || t == IP
	case k.addr.IsValid():
		return t == CIDR6 || t == IP
	}
	return t == String && k.text != "" && len(k.text) <= maxText
}

// takesAll reports whether the type takes all keys that the other one does.
func (t Type) takesAll(other Type) bool { return t == other || t == IP && other.IsAddress() }

// ParseType is the inverse of [Type.String].
func ParseType(name string) (Type, bool) {
	for t, n := range typeNames {
		if n == name {
			return Type(t), true
		}
	}
	return 0, false
}

// TypeNames lists the names of all types.
func TypeNames() []string { return typeNames[:] }

// The bounds of a definition.
const (
	MinInterval = time.Second
	MaxInterval = 31 * 24 * time.Hour
	MaxWindows  = 1024
	MaxMaxKeys  = 1_000_000_000
)

// DefaultMaxKeys is the bound of the number of keys where none is given.
const DefaultMaxKeys = 1_000_000

// Definition is what a series is: its name, its keys, and the time it covers,
// Interval × Windows.
type Definition struct {
	Name     string
	Type     Type
	Interval time.Duration // whole seconds, MinInterval to MaxInterval; 0 for a gauge, which has none
	Windows  int           // 1 to MaxWindows

	// MaxKeys bounds how many keys there are at a time, and so the memory: 1 to
	// MaxMaxKeys. 0 stands for DefaultMaxKeys.
	MaxKeys int
}

// IsGauge reports whether the series tells what there is at present.
func (d Definition) IsGauge() bool { return d.Interval == 0 }

func (d Definition) check() error {
	switch {
	case d.Name == "":
		return errors.New("a series needs a name")
	case int(d.Type) >= len(typeNames):
		return fmt.Errorf("type %d: must be one of %s", d.Type, strings.Join(typeNames[:], ", "))
	case d.Interval < MinInterval || d.Interval > MaxInterval || d.Interval%time.Second != 0:
		return fmt.Errorf("interval %v: must be whole seconds, 1s to 31d", d.Interval)
	case d.Windows < 1 || d.Windows > MaxWindows:
		return fmt.Errorf("windows %d: must be 1 to %d", d.Windows, MaxWindows)
	case d.MaxKeys < 0 || d.MaxKeys > MaxMaxKeys:
		return fmt.Errorf("max_keys %d: must be 1 to %d", d.MaxKeys, MaxMaxKeys)
	}
	return nil
}

// Key is what one counter of a series belongs to: an address or a text.
type Key struct {
	addr netip.Addr
	text string
}

// AddrKey is the key of an address, which is unmapped and loses its zone.
func AddrKey(a netip.Addr) Key { return Key{addr: a.Unmap().WithZone("")} }

// TextKey is the key of a text. The empty text is the zero Key, which no
// series takes; it takes texts of at most 255 bytes.
func TextKey(s string) Key { return Key{text: s} }

// IsZero reports whether the key is absent.
func (k Key) IsZero() bool { return !k.addr.IsValid() && k.text == "" }

// Addr is the key's address; the zero Addr for a text.
func (k Key) Addr() netip.Addr { return k.addr }

func (k Key) String() string {
	if k.addr.IsValid() {
		return k.addr.String()
	}
	return k.text
}

// Mask is how many leading bits of an address make the block that is asked
// for, by family. The zero Mask asks for everything.
type Mask struct {
	IPv4 uint8 // 0 to 32
	IPv6 uint8 // 0 to 128
}

// Host is the mask that asks for a single address.
var Host = Mask{32, 128}

// Of is the block of addr under the mask.
func (m Mask) Of(addr netip.Addr) netip.Prefix {
	p, err := addr.Prefix(int(m.bits(addr)))
	if err != nil {
		panic(err) // a mask beyond the family's length is refused where masks are read
	}
	return p
}

// bits is how many leading bits of addr make the block.
func (m Mask) bits(addr netip.Addr) uint8 {
	if addr.Is4() {
		return m.IPv4
	}
	return m.IPv6
}

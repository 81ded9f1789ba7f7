package series

import (
	"cmp"
	"encoding/binary"
	"math/bits"
	"net/netip"
)

// address is where a key lies in a tree, as a row of bits, the first one
// highest: an IP address, of which IPv4 takes the first 32 bits, or 32 bits of the
// hash of a text. The rest is zero.
type address struct{ hi, lo uint64 }

func addressOf(a netip.Addr) address {
	if a.Is4() {
		b := a.As4()
		return address{hi: uint64(binary.BigEndian.Uint32(b[:])) << 32}
	}
	b := a.As16()
	return address{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}
}

// ip is the IP address that lies there, of IPv6 if it is wide.
func (a address) ip(wide bool) netip.Addr {
	if !wide {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], uint32(a.hi>>32))
		return netip.AddrFrom4(b)
	}
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], a.hi)
	binary.BigEndian.PutUint64(b[8:], a.lo)
	return netip.AddrFrom16(b)
}

func (a address) compare(b address) int {
	if a.hi != b.hi {
		return cmp.Compare(a.hi, b.hi)
	}
	return cmp.Compare(a.lo, b.lo)
}

// lower is the lower one of two.
func lower(a, b address) address {
	if a.compare(b) < 0 {
		return a
	}
	return b
}

// before is the address before a, which is not the first.
func (a address) before() address {
	if a.lo == 0 {
		a.hi--
	}
	a.lo--
	return a
}

// next is the address behind a, which is not the last.
func (a address) next() address {
	if a.lo++; a.lo == 0 {
		a.hi++
	}
	return a
}

// extent is a range of addresses, both ends included.
type extent struct{ first, last address }

// blockOf is the block of so many leading bits that a is in.
func blockOf(a address, bits uint8) extent {
	mask := leading(bits)
	first := address{a.hi & mask.hi, a.lo & mask.lo}
	return extent{first, address{first.hi | ^mask.hi, first.lo | ^mask.lo}}
}

func (e extent) contains(a address) bool { return e.first.compare(a) <= 0 && a.compare(e.last) <= 0 }

// behind is what is left of the range behind a, and whether anything is.
func (e extent) behind(a address) (rest extent, more bool) {
	return extent{a.next(), e.last}, a.compare(e.last) < 0
}

// golden is 2⁶⁴ divided by the golden ratio, whose multiples lie far apart.
const golden = 0x9e3779b97f4a7c15

// leading is the address that has so many bits set and then none: a mask.
func leading(n uint8) address {
	if n <= 64 {
		return address{hi: ^(^uint64(0) >> n)}
	}
	return address{^uint64(0), ^(^uint64(0) >> (n - 64))}
}

// bit is 0 or 1; i is 0 to 127.
func (a address) bit(i uint8) uint64 {
	if i < 64 {
		return a.hi >> (63 - i) & 1
	}
	return a.lo >> (127 - i) & 1
}

// slot is the number that the slotBits bits from i on make; i is a multiple of
// them.
func (a address) slot(i uint8) uint64 {
	if i < 64 {
		return a.hi >> (64 - slotBits - i) % slots
	}
	return a.lo >> (128 - slotBits - i) % slots
}

// shared is how many leading bits are the same in both, 128 if all are.
func (a address) shared(b address) uint8 {
	if x := a.hi ^ b.hi; x != 0 {
		return uint8(bits.LeadingZeros64(x))
	}
	return uint8(64 + bits.LeadingZeros64(a.lo^b.lo))
}

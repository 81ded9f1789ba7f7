package series

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
)

// address is where a key lies in a tree, as a row of bits, the first one
// highest: an IP address, of which IPv4 takes the first 32 bits, or the hash of a
// text in the first 64. The rest is zero.
type address struct{ hi, lo uint64 }

func addressOf(a netip.Addr) address {
	if a.Is4() {
		b := a.As4()
		return address{hi: uint64(binary.BigEndian.Uint32(b[:])) << 32}
	}
	b := a.As16()
	return address{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}
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

package policy

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
)

// networks are values by network, of which the most specific one counts.
type networks[V any] struct {
	values  map[netip.Prefix]V
	lengths [2][]int // the distinct prefix lengths, IPv4 and IPv6, the longest first: a look-up tries only these
}

func newNetworks[V any]() networks[V] {
	return networks[V]{values: make(map[netip.Prefix]V)}
}

func (n *networks[V]) clone() networks[V] {
	return networks[V]{maps.Clone(n.values), [2][]int{slices.Clone(n.lengths[0]), slices.Clone(n.lengths[1])}}
}

// set gives a network, or a single address, its value.
func (n *networks[V]) set(p netip.Prefix, v V) {
	n.values[p] = v
	lengths := &n.lengths[family(p.Addr())]
	at, known := slices.BinarySearchFunc(*lengths, p.Bits(), func(have, bits int) int { return bits - have })
	if !known {
		*lengths = slices.Insert(*lengths, at, p.Bits())
	}
}

// holding is the value of the most specific network that holds the whole block.
func (n *networks[V]) holding(block netip.Prefix) (v V, ok bool) {
	for _, bits := range n.lengths[family(block.Addr())] {
		if bits > block.Bits() {
			continue
		}
		p, _ := block.Addr().Prefix(bits)
		if v, ok = n.values[p]; ok {
			return v, true
		}
	}
	return v, false
}

func family(a netip.Addr) int {
	if a.Is4() {
		return 0
	}
	return 1
}

// ParseNetwork reads a network, or an address that stands for the one of it
// alone.
func ParseNetwork(entry string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(entry); err == nil && addr.Zone() == "" {
		addr = addr.Unmap()
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	p, err := netip.ParsePrefix(entry)
	if err != nil {
		return p, fmt.Errorf("%q is not a network; write 192.0.2.0/24, 2001:db8::/32 or a single address", entry)
	}
	if p != p.Masked() {
		return p, fmt.Errorf("%s has bits beyond its mask; the network is %s", p, p.Masked())
	}
	return p, nil
}

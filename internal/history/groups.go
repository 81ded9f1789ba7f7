package history

import (
	"encoding/binary"
	"net/netip"
	"strings"
)

// Group is what a line counts: a block or a text. The zero one is all that was
// asked for where nothing tells keys apart, and else the keys that were too small to
// have rows of their own.
type Group struct {
	Block netip.Prefix
	Text  string
}

func (g Group) String() string {
	switch {
	case g.Block.IsSingleIP():
		return g.Block.Addr().String()
	case g.Block.IsValid():
		return g.Block.String()
	}
	return g.Text
}

// compare puts the zero one last.
func (g Group) compare(h Group) int {
	switch zero := (Group{}); {
	case g == h:
		return 0
	case g == zero:
		return 1
	case h == zero:
		return -1
	}
	if c := g.Block.Addr().Compare(h.Block.Addr()); c != 0 {
		return c
	}
	if c := g.Block.Bits() - h.Block.Bits(); c != 0 {
		return c
	}
	return strings.Compare(g.Text, h.Text)
}

// groups numbers groups from 0 on. Blocks of IPv4, of which there may be millions,
// are found by a number instead of a structure, which takes half of the time.
type groups struct {
	list   []Group // by number
	ipv4   map[uint64]int32
	others map[Group]int32
}

func newGroups() groups {
	return groups{ipv4: make(map[uint64]int32), others: make(map[Group]int32)}
}

func (s *groups) number(g Group) int32 {
	if a := g.Block.Addr(); a.Is4() {
		b := a.As4()
		return numbered(s, s.ipv4, uint64(binary.BigEndian.Uint32(b[:]))<<8|uint64(g.Block.Bits()), g)
	}
	return numbered(s, s.others, g, g)
}

func numbered[K comparable](s *groups, numbers map[K]int32, key K, g Group) int32 {
	n, ok := numbers[key]
	if !ok {
		n = int32(len(s.list))
		numbers[key] = n
		s.list = append(s.list, g)
	}
	return n
}

package history

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Sizes are those of the blocks that counts are told of.
type Sizes struct {
	ipv4, ipv6 bits
	both       bool // one for each family was named
	named      bool // which the zero Sizes are not
}

// bits is a range, both ends included, of how many leading bits make a block.
type bits struct{ from, to int }

func (s Sizes) given() bool { return s.named }

// defaultIPv6 is the size of IPv6 blocks where only the one of IPv4 blocks is named.
var defaultIPv6 = bits{64, 64}

// ParseSizes reads a size or a range of sizes, such as 24 or 8-32, or two of them with
// a comma between, for IPv4 and IPv6.
func ParseSizes(text string) (s Sizes, err error) {
	first, second, both := strings.Cut(text, ",")
	s.both, s.named = both, true
	if s.ipv4, err = parseBits(first, 128); err == nil && both {
		s.ipv6, err = parseBits(second, 128)
	}
	if err == nil && both && s.ipv4.to > 32 {
		err = fmt.Errorf("/%d is beyond IPv4, whose blocks are /0 to /32", s.ipv4.to)
	}
	if !both {
		s.ipv6 = s.ipv4
	}
	return s, err
}

func parseBits(text string, most int) (b bits, err error) {
	from, to, isRange := strings.Cut(text, "-")
	if !isRange {
		to = from
	}
	for i, part := range []string{from, to} {
		n, err := strconv.ParseUint(part, 10, 8)
		if err != nil || int(n) > most {
			return b, fmt.Errorf("%q is not a size of blocks; write one such as 24, a range such as 8-32, or 24,48 for IPv4 and IPv6", text)
		}
		*[]*int{&b.from, &b.to}[i] = int(n)
	}
	if b.from > b.to {
		return b, fmt.Errorf("%s: the smaller number comes first", text)
	}
	return b, nil
}

// fit is the sizes for a question, in which there can be addresses of these families.
func (s Sizes) fit(k kind, block netip.Prefix) (Sizes, error) {
	if !s.both && k.ipv4 && k.ipv6 {
		s.ipv6 = defaultIPv6
	}
	if k.ipv4 && s.ipv4.to > 32 {
		what := "write /0 to /32"
		if k.ipv6 {
			what += ", and behind a comma the size of IPv6 blocks, such as 24,48"
		}
		return s, fmt.Errorf("/%d is beyond IPv4; %s", s.ipv4.to, what)
	}
	of := s.ipv6
	if k.ipv4 {
		of = s.ipv4
	}
	if block.IsValid() && of.from < block.Bits() {
		return s, fmt.Errorf("blocks of /%d are larger than %s, of which the counts are asked for", of.from, block)
	}
	return s, nil
}

// of are the sizes of the blocks that an address is in.
func (s Sizes) of(a netip.Addr) bits {
	if a.Is4() {
		return s.ipv4
	}
	return s.ipv6
}

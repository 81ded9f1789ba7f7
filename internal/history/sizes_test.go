package history

import (
	"net/netip"
	"strings"
	"testing"
)

func TestSizesFitTheFamiliesThatAreAskedFor(t *testing.T) {
	both, ipv4, ipv6 := kind{true, true, true}, kind{true, true, false}, kind{true, false, true}
	for _, c := range []struct {
		text  string
		kind  kind
		block string
		says  string // an error; empty: there is none
		ipv4  bits
		ipv6  bits
	}{
		{"24", both, "", "", bits{24, 24}, bits{64, 64}},
		{"8-32", both, "", "", bits{8, 32}, bits{64, 64}},
		{"24,48-56", both, "", "", bits{24, 24}, bits{48, 56}},
		{"48", ipv6, "2001:db8::/32", "", bits{48, 48}, bits{48, 48}},
		{"24,48", ipv4, "10.0.0.0/8", "", bits{24, 24}, bits{48, 48}},
		{"64", both, "", "behind a comma", bits{}, bits{}},
		{"33", ipv4, "", "/33 is beyond IPv4", bits{}, bits{}},
		{"33,64", both, "", "/33 is beyond IPv4", bits{}, bits{}},
		{"8", ipv4, "10.0.0.0/16", "larger than 10.0.0.0/16", bits{}, bits{}},
		{"0-64", ipv6, "2001:db8::/32", "larger than 2001:db8::/32", bits{}, bits{}},
		{"129", ipv6, "", "not a size", bits{}, bits{}},
		{"24-16", ipv4, "", "the smaller number", bits{}, bits{}},
		{"", ipv4, "", "not a size", bits{}, bits{}},
		{"24,", both, "", "not a size", bits{}, bits{}},
		{"-24", ipv4, "", "not a size", bits{}, bits{}},
	} {
		var block netip.Prefix
		if c.block != "" {
			block = netip.MustParsePrefix(c.block)
		}
		s, err := ParseSizes(c.text)
		if err == nil {
			s, err = s.fit(c.kind, block)
		}
		switch {
		case c.says != "":
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%q: %v, which should say %q", c.text, err, c.says)
			}
		case err != nil || s.ipv4 != c.ipv4 || s.ipv6 != c.ipv6:
			t.Errorf("%q is %+v, %v", c.text, s, err)
		}
	}
}

func FuzzParseSizes(f *testing.F) {
	f.Add("24")
	f.Add("8-32,48-64")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := ParseSizes(text)
		if err == nil && (s.ipv4.from > s.ipv4.to || s.ipv6.from > s.ipv6.to || s.ipv6.to > 128 || s.both && s.ipv4.to > 32) {
			t.Errorf("%q is %+v", text, s)
		}
	})
}

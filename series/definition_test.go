package series

import (
	"net/netip"
	"testing"
)

func TestKeys(t *testing.T) {
	tests := []struct {
		key  Key
		want string
		addr string // "" for a text
		zero bool
	}{
		{AddrKey(netip.MustParseAddr("192.0.2.1")), "192.0.2.1", "192.0.2.1", false},
		{AddrKey(netip.MustParseAddr("::ffff:192.0.2.1")), "192.0.2.1", "192.0.2.1", false},
		{AddrKey(netip.MustParseAddr("fe80::1%eth0")), "fe80::1", "fe80::1", false},
		{TextKey("192.0.2.1"), "192.0.2.1", "", false},
		{TextKey("user@example.com"), "user@example.com", "", false},
		{TextKey(""), "", "", true},
		{AddrKey(netip.Addr{}), "", "", true},
	}
	for _, test := range tests {
		addr := ""
		if test.key.Addr().IsValid() {
			addr = test.key.Addr().String()
		}
		if test.key.String() != test.want || addr != test.addr || test.key.IsZero() != test.zero {
			t.Errorf("%q, address %q, zero %v; want %q, %q, %v",
				test.key, addr, test.key.IsZero(), test.want, test.addr, test.zero)
		}
	}
}

func TestBlocks(t *testing.T) {
	m := Mask{IPv4: 24, IPv6: 64}
	for addr, want := range map[string]string{
		"192.0.2.77":         "192.0.2.0/24",
		"2001:db8:1:2:3::77": "2001:db8:1:2::/64",
	} {
		if got := m.Of(netip.MustParseAddr(addr)).String(); got != want {
			t.Errorf("the block of %s: %s; want %s", addr, got, want)
		}
	}
	if got := Host.Of(netip.MustParseAddr("192.0.2.77")).String(); got != "192.0.2.77/32" {
		t.Errorf("the host: %s", got)
	}
}

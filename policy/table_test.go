package policy

import (
	"net/netip"
	"testing"

	"github.com/audit-milter/audit-milter/series"
)

func newTable(t *testing.T, rows map[string]int64) *Table {
	t.Helper()
	table := NewTable("limits")
	for key, n := range rows {
		if err := table.Add(key, n); err != nil {
			t.Fatal(err)
		}
	}
	return table
}

func TestTable(t *testing.T) {
	table := newTable(t, map[string]int64{
		"192.0.2.0/24": 10, "192.0.2.0/28": 20, "192.0.2.7": 30, "0.0.0.0/0": 40,
		"2001:db8::/32": 50, "2001:db8:0:1::/64": 60, "::ffff:198.51.100.7": 70,
		"alice@example.com": 100, "@example.com": 200, "Bob": 300, "<>": 400, "<Carol@Example.ORG.>": 500,
	})
	const none = -1
	host, by24 := series.Host, series.Mask{IPv4: 24, IPv6: 64}
	for _, row := range []struct {
		name, key string
		mask      series.Mask
		want      int64
	}{
		{"an address of its own", "192.0.2.7", host, 30},
		{"the most specific network", "192.0.2.8", host, 20},
		{"a larger one", "192.0.2.200", host, 10},
		{"the largest", "203.0.113.1", host, 40},
		{"a block is held by its network", "192.0.2.7", by24, 10},
		{"and not by a part of it", "198.51.100.7", by24, 40},
		{"a mapped address is the one that it maps", "198.51.100.7", host, 70},
		{"IPv6", "2001:db8:0:1::7", host, 60},
		{"an IPv6 block", "2001:db8:0:1::7", by24, 60},
		{"another one", "2001:db8:0:2::7", by24, 50},
		{"an IPv6 address of no network", "2001:db9::1", host, none},
		{"a text", "alice@example.com", host, 100},
		{"another one of its domain", "bob@example.com", host, 200},
		{"the domain itself", "example.com", host, 200},
		{"not what is below it", "bob@sub.example.com", host, none},
		{"a key has small letters", "bob", host, 300},
		{"the null sender", "<>", host, 400},
		{"an address in one spelling", "carol@example.org", host, 500},
		{"a text that is not there", "dave", host, none},
	} {
		key := series.TextKey(row.key)
		if addr, err := netip.ParseAddr(row.key); err == nil {
			key = series.AddrKey(addr)
		}
		got, ok := table.number(key, row.mask)
		if !ok {
			got = none
		}
		if got != row.want {
			t.Errorf("%s: %d, want %d", row.name, got, row.want)
		}
	}
	for _, text := range []string{"dave@example.org", "4711", "198.51.100.8"} {
		if n := testing.AllocsPerRun(100, func() { table.number(series.TextKey(text), host) }); n != 0 {
			t.Errorf("looking %s up allocates %v times", text, n)
		}
	}
	for text, want := range map[string]int64{"192.0.2.7": 30, "192.0.2.8": 20, "2001:db8::1": 50, "192.0.2": 0, "beef:": 0} {
		if got, _ := table.number(series.TextKey(text), host); got != want {
			t.Errorf("the text %s has %d, want %d", text, got, want)
		}
	}
	if got := table.String(); got != "12 keys" {
		t.Errorf("the table has %s", got)
	}
}

func TestTableFindsCompositeKeys(t *testing.T) {
	table := newTable(t, map[string]int64{
		"<>|Bob@Example.com": 1, "alice|<carol@example.org.>": 2, "2001:DB8::0:1|<>": 3, `corp\ann|x`: 4, `a\|b|c`: 5, `corp\\beth`: 6,
	})
	for key, want := range map[string]int64{
		"<>|bob@example.com": 1, "alice|carol@example.org": 2, "2001:db8::1|<>": 3, `corp\\ann|x`: 4, `a\|b|c`: 5, `corp\\beth`: 6,
	} {
		if got, _ := table.number(series.TextKey(key), series.Host); got != want {
			t.Errorf("%s has %d, want %d", key, got, want)
		}
	}
}

func TestTableKeysThatNothingMatches(t *testing.T) {
	for key, want := range map[string]string{
		".example.com":       `".example.com": a table has no domains with all below them; write "@example.com", a key for each`,
		"*.example.com":      `"*.example.com": a table has no domains with all below them; write "@example.com", a key for each`,
		"*@example.com":      `"*@example.com": there are no wildcards; write "@example.com"`,
		"a@b.test c@b.test":  `"a@b.test c@b.test" is more than one entry or has something behind it; write one by itself`,
		"192.0.2":            `"192.0.2" is not a network; write 192.0.2.0/24, 2001:db8::/32 or a single address`,
		"192.0.2.*":          `"192.0.2.*" is not a network; write 192.0.2.0/24, 2001:db8::/32 or a single address`,
		"010.0.0.1":          `"010.0.0.1" is not a network; write 192.0.2.0/24, 2001:db8::/32 or a single address`,
		"2001:db8::/129":     `"2001:db8::/129" is not a network; write 192.0.2.0/24, 2001:db8::/32 or a single address`,
		"192.0.2.0/24|alice": `"192.0.2.0/24|alice": a part of a key is one address, and "192.0.2.0/24" is none`,
		"alice|":             `"alice|" has an empty part, and such a key is never counted`,
	} {
		if err := NewTable("limits").Add(key, 1); err == nil || err.Error() != want {
			t.Errorf("Add(%q) = %v, want %s", key, err, want)
		}
	}
}

func TestTableIsReplacedAsAWhole(t *testing.T) {
	table := newTable(t, map[string]int64{"alice": 1, "bob": 2})
	table.Replace(newTable(t, map[string]int64{"alice": 3}))
	alice, _ := table.number(series.TextKey("alice"), series.Host)
	if _, ok := table.number(series.TextKey("bob"), series.Host); ok || alice != 3 || table.Name() != "limits" {
		t.Errorf("alice has %d, bob is there: %v", alice, ok)
	}
}

package policy

import (
	"net/netip"
	"testing"
)

func TestListOfTexts(t *testing.T) {
	list := NewList(StringList)
	for _, entry := range []string{"Newsletter@Example.com", "@bulk.test", ".wide.test", "mail.host.test.", "<>", `CORP\Bob@example.com`, "Joe <joe@spam.test>"} {
		if err := list.Add(entry); err != nil {
			t.Fatal(err)
		}
	}
	for text, want := range map[string]bool{
		"newsletter@example.com": true,
		"other@example.com":      false,
		"any@bulk.test":          true,
		"bulk.test":              true,
		"any@sub.bulk.test":      false,
		"any@wide.test":          true,
		"any@a.b.wide.test":      true,
		"a.wide.test":            true,
		"any@notwide.test":       false,
		"mail.host.test":         true,
		"<>":                     true,
		`corp\\bob@example.com`:  true, // as sasl_username spells it
		"corpbob@example.com":    false,
		"joe <joe@spam.test>":    true, // lower(header["From"])
		"":                       false,
	} {
		if got := list.hasText(text); got != want {
			t.Errorf("hasText(%q) = %v, want %v", text, got, want)
		}
	}
	for _, bad := range []string{"", "@", ".", "@.", `""`} {
		if err := list.Add(bad); err == nil {
			t.Errorf("the entry %q was taken", bad)
		}
	}
}

func TestListEntriesThatNothingMatches(t *testing.T) {
	list := NewList(StringList)
	for entry, want := range map[string]string{
		`"alice"`:             `"alice" would be found with its quotes only; write alice`,
		`'alice@example.com'`: `'alice@example.com' would be found with its quotes only; write alice@example.com`,
		"- alice":             `"- alice" begins with a dash; write alice`,
		"*@example.com":       `"*@example.com": there are no wildcards; write "@example.com"`,
		"*.example.com":       `"*.example.com": there are no wildcards; write ".example.com"`,
		"@.example.com":       `"@.example.com": no domain begins so; write @example.com, or in a list .example.com for it and all below it`,
		"@*.example.com":      `"@*.example.com": no domain begins so; write @example.com, or in a list .example.com for it and all below it`,
		"a@example.com OK":    `"a@example.com OK" is more than one entry or has something behind it; write one by itself`,
		"a@b.test\tc@b.test":  `"a@b.test\tc@b.test" is more than one entry or has something behind it; write one by itself`,
		"a@b.test,c@b.test":   `"a@b.test,c@b.test" is more than one entry or has something behind it; write one by itself`,
		"a@b.test#away":       `"a@b.test#away" is more than one entry or has something behind it; write one by itself`,
		"alice,":              `"alice," is more than one entry or has something behind it; write one by itself`,
	} {
		if err := list.Add(entry); err == nil || err.Error() != want {
			t.Errorf("Add(%q) = %v, want %s", entry, err, want)
		}
	}
	for entry, value := range map[string]string{
		"alice.":                  "alice.",
		"two words":               "two words",
		"user*master":             "user*master",
		"*** Bargain ***":         "*** bargain ***",
		`"Two Words"@example.com`: `"two words"@example.com`,
		"Ann <ann@example.com>":   "ann <ann@example.com>",
		`corp\ann`:                `corp\\ann`,
		`corp\\beth`:              `corp\\beth`,
		`Jos\xe9@example.com`:     `jos\xe9@example.com`, // as the log shows it
		"bounce#tag@example.com":  "bounce#tag@example.com",
		`m\xfcller`:               `m\xfcller`,
		"m\xfcller":               `m\xfcller`,
		`\\host\ann`:              `\\\\host\\ann`,
		"- 50% off":               "- 50% off",
		"root@mx.test (Cron Job)": "root@mx.test (cron job)",
		"2001:DB8::0:1":           "2001:db8::1",
		"<>":                      "<>",
		"o'neill":                 "o'neill",
	} {
		if err := list.Add(entry); err != nil || !list.hasText(value) {
			t.Errorf("Add(%q) = %v, and %s is in the list: %v", entry, err, value, list.hasText(value))
		}
	}
}

func TestListOfNetworks(t *testing.T) {
	list := NewList(CIDRList)
	for _, entry := range []string{"127.0.0.0/8", "::1", "192.0.2.7", "::ffff:198.51.100.1", "2001:db8::/32"} {
		if err := list.Add(entry); err != nil {
			t.Fatal(err)
		}
	}
	for addr, want := range map[string]bool{
		"127.255.0.1":  true,
		"128.0.0.1":    false,
		"::1":          true,
		"::2":          false,
		"192.0.2.7":    true,
		"192.0.2.8":    false,
		"198.51.100.1": true,
		"2001:db8::99": true,
		"2001:db9::":   false,
	} {
		if got := list.hasAddr(netip.MustParseAddr(addr)); got != want {
			t.Errorf("hasAddr(%s) = %v, want %v", addr, got, want)
		}
	}
	if list.hasAddr(netip.Addr{}) {
		t.Error("an unknown address is in the list")
	}
	for entry, want := range map[string]string{
		"192.0.2.7/24": "192.0.2.7/24 has bits beyond its mask; the network is 192.0.2.0/24",
		"example.com":  `"example.com" is not a network; write 192.0.2.0/24, 2001:db8::/32 or a single address`,
		"fe80::1%eth0": `"fe80::1%eth0" is not a network; write 192.0.2.0/24, 2001:db8::/32 or a single address`,
	} {
		if err := list.Add(entry); err == nil || err.Error() != want {
			t.Errorf("Add(%q) = %v, want %s", entry, err, want)
		}
	}
}

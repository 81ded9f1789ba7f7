package config

import (
	"strings"
	"testing"
)

// What is in a list or a table and found by nobody is noted, as far as that can be known.
func TestNotesOnEntriesThatNothingFinds(t *testing.T) {
	for _, row := range []struct{ name, entries, rule, want string }{
		{"an address for a domain", `[a@example.com, example.com, "@example.net", .example.org, b@example.com]`, `at: eoh, when: sender_domain in l`,
			"list l: no sender_domain is spelt like a@example.com and 1 more; a domain is what is behind the @"},
		{"which another attribute finds", `[a@example.com]`, `at: eoh, when: sender_domain in l or sender in l`, ""},
		{"or may find", `[a@example.com]`, `at: eoh, when: 'sender_domain in l or lower(header["From"]) in l'`, ""},
		{"or what was made of it", `[a@example.com]`, `at: eoh, when: 'let x = sender + ""; sender_domain in l or x in l'`, ""},
		{"a domain for an address", `[root, "<>", example.com, a@example.com, .example.net]`, `at: rcpt, when: sender in l or recipient in l`,
			"list l: no sender or recipient is spelt like example.com; for all of a domain write @example.com; a dot in a local part alone is rare"},
		{"a domain that is told otherwise", `["joe%example.com", "example.com!joe"]`, `at: rcpt, when: sender in l`, ""},
		{"a network and an address among names", `[192.0.2.0/24, "@192.0.2.7"]`, `at: rcpt, when: sender in l or client_address in l`,
			"list l: no sender or client_address is spelt like 192.0.2.0/24; networks are for a list with cidr"},
		{"which a login may be", `[example.com]`, `at: eoh, when: sender in l or sasl_username in l`, ""},
		{"a network for an address", `[192.0.2.0/24, 192.0.2.7, "2001:DB8:0::1"]`, `at: eoh, when: client_address in l`,
			"list l: no client_address is spelt like 192.0.2.0/24; networks are for a list with cidr"},
		{"a name for an address", `["@example.com", 192.0.2.7]`, `at: eoh, when: client_address not in l`,
			"list l: no client_address is spelt like @example.com; an address is like 192.0.2.7"},
		{"a header is asked as it was received", `["YES"]`, `at: eoh, when: 'header["x-spam-flag"] in l'`,
			`rule r: header["X-Spam-Flag"] is as it was received, and the texts of list l are in lower case and without brackets; lower(header["X-Spam-Flag"]) in l finds capitals too`},
		{"a mailbox too", `["<joe@example.com>"]`, `at: rcpt, when: sender_raw in l`,
			"rule r: sender_raw is as it was received, and the texts of list l are in lower case and without brackets; write sender in l"},
		{"or in lower case", `["YES"]`, `at: eoh, when: 'lower(header["x-spam-flag"]) in l'`, ""},

		{"a table of domains", `[]`, `at: eoh, if: {series: domains, above: {table: t, default: 5}}`,
			"table t: no sender_domain is spelt like alice@example.com; a domain is what is behind the @"},
		{"a table of addresses", `[]`, `at: eoh, if: {series: clients, above: {table: t, default: 5}}`,
			"table t: no client_address is spelt like @example.org and 3 more; an address is like 192.0.2.7"},
		{"a table of senders", `[]`, `at: eoh, if: {series: domains, key: sender, above: {table: t, default: 5}}`,
			"table t: no sender is spelt like example.com; for all of a domain write @example.com; a dot in a local part alone is rare"},
		{"a table of both", `[]`, `at: eoh, any: [{series: domains, above: {table: t, default: 5}}, {series: domains, key: sender, above: {table: t, default: 5}}]`, ""},
		{"a table of keys with parts", `[]`, `at: eoh, if: {series: domains, key: [sender_domain, client_address], above: {table: t, default: 5}}`, ""},
	} {
		files := map[string]string{"t.yaml": `{alice@example.com: 1, example.com: 2, "@example.org": 3, root: 4, 192.0.2.0/24: 5}`}
		text := `
lists: {l: {string: ` + row.entries + `}}
tables: {t: {file: t.yaml}}
series:
  domains: {type: string, interval: 5m, windows: 6, add: {at: mail, key: sender_domain}}
  clients: {type: ip, interval: 5m, windows: 6, add: {at: mail}}
rules: [{name: r, ` + row.rule + `, then: reject}]`
		c, err := parse("audit.yaml", []byte(text), readMap(files))
		if err != nil {
			t.Errorf("%s: %v", row.name, err)
			continue
		}
		var got []string
		for _, note := range c.Policy.Notes() {
			if strings.Contains(note, "spelt") || strings.Contains(note, "received") {
				got = append(got, note)
			}
		}
		if strings.Join(got, "\n") != row.want {
			t.Errorf("%s:\n%s\nwant\n%s", row.name, strings.Join(got, "\n"), row.want)
		}
	}
}

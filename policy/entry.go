package policy

import (
	"fmt"
	"net/netip"
	"strings"
)

// normalEntry brings an entry of a list, or a key of a table, into the spelling of
// attributes: an address as an address, "<>" as the null sender and everything else
// as a host name. A backslash may be doubled, as the log and the commands show it.
func normalEntry(entry string) string {
	if entry == nullSender {
		return nullSender
	}
	entry = strings.ReplaceAll(entry, `\\`, `\`)
	if strings.Contains(entry, "@") {
		addr, _ := plainAddress(entry)
		return addr
	}
	if addr, err := netip.ParseAddr(entry); err == nil {
		_, spelt := normalIP(addr)
		return spelt
	}
	if strings.Count(entry, ".") == 1 {
		return normalText(entry) // a login may be "alice."; a host name has another dot
	}
	return normalHost(entry)
}

// checkEntry refuses what no value is ever spelt like, as people write it who think
// of the files of other programs.
func checkEntry(entry string) error {
	word, rest, _ := strings.Cut(strings.ReplaceAll(entry, "\t", " "), " ")
	at := strings.IndexByte(word, '@')
	switch {
	case rest == "" && len(word) > 2 && strings.Trim(word[:1], `"'`) == "" && word[len(word)-1] == word[0]:
		return fmt.Errorf("%s would be found with its quotes only; write %s", entry, word[1:len(word)-1])
	case word == "-" && rest != "":
		return fmt.Errorf("%q begins with a dash; write %s", entry, strings.TrimSpace(rest))
	case strings.HasPrefix(entry, "*@") || strings.HasPrefix(entry, "*."):
		return fmt.Errorf("%q: there are no wildcards; write %q", entry, entry[1:])
	case strings.HasPrefix(entry, "@*") || strings.HasPrefix(entry, "@."):
		return fmt.Errorf("%q: no domain begins so; write @example.com, or in a list .example.com for it and all below it", entry)
	case at > 0 && word[0] != '"' && (rest != "" || strings.ContainsAny(word[at:], `,;#"'`)),
		rest == "" && strings.TrimRight(word, ",;") != word:
		return fmt.Errorf("%q is more than one entry or has something behind it; write one by itself", entry)
	}
	return nil
}

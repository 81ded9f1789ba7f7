package policy

import (
	"fmt"
	"net/netip"
	"strings"
)

// normalEntry brings an entry of a list, or a key of a table, into the spelling of
// attributes: an address as an address, "<>" as the null sender and everything else
// as a host name. The escapes with which the log and the commands show it are undone.
func normalEntry(entry string) string {
	if entry == nullSender {
		return nullSender
	}
	entry = unspell(entry)
	isHeader := strings.ContainsAny(withoutBrackets(entry), "<>") // with a name, as in From
	if strings.Contains(entry, "@") && !isHeader {
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
	words := strings.Fields(entry)
	if len(words) == 0 || len(words) > 2 {
		return nil // more words are a header's or a reply's
	}
	word, two := words[0], len(words) == 2
	at := strings.IndexByte(word, '@')
	switch {
	case !two && len(word) > 2 && strings.Trim(word[:1], `"'`) == "" && word[len(word)-1] == word[0]:
		return fmt.Errorf("%s would be found with its quotes only; write %s", entry, word[1:len(word)-1])
	case two && word == "-":
		return fmt.Errorf("%q begins with a dash; write %s", entry, words[1])
	case strings.HasPrefix(entry, "*@") || strings.HasPrefix(entry, "*."):
		return fmt.Errorf("%q: there are no wildcards; write %q", entry, entry[1:])
	case strings.HasPrefix(entry, "@*") || strings.HasPrefix(entry, "@."):
		return fmt.Errorf("%q: no domain begins so; write @example.com, or in a list .example.com for it and all below it", entry)
	case at > 0 && word[0] != '"' && (two || strings.ContainsAny(word[at:], `,;#"'`)),
		!two && strings.TrimRight(word, ",;") != word:
		return fmt.Errorf("%q is more than one entry or has something behind it; write one by itself", entry)
	}
	return nil
}

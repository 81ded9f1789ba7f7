package policy

import (
	"fmt"
	"maps"
	"net/netip"
	"strings"
	"sync/atomic"

	"github.com/audit-milter/audit-milter/series"
)

// ListKind is what a list holds.
type ListKind uint8

// The kinds of lists.
const (
	CIDRList   ListKind = iota // networks and addresses
	StringList                 // texts, @domains and .domains
)

// List is a set of networks or of texts that an expression asks with `in`. It is
// filled before anything asks it; after that, [List.Replace] alone changes it.
type List struct {
	kind    ListKind
	entries atomic.Pointer[entries]
}

// entries are what a list holds.
type entries struct {
	networks networks[struct{}]
	exact    map[string]struct{}
	domains  map[string]struct{} // of @example.com
	below    map[string]struct{} // of .example.com: it and all below it
}

// NewList makes an empty list.
func NewList(kind ListKind) *List {
	l := &List{kind: kind}
	l.entries.Store(&entries{
		networks: newNetworks[struct{}](),
		exact:    make(map[string]struct{}),
		domains:  make(map[string]struct{}),
		below:    make(map[string]struct{}),
	})
	return l
}

// Clone is another list with the same entries, of which more can be added.
func (l *List) Clone() *List {
	e := l.entries.Load()
	clone := &List{kind: l.kind}
	clone.entries.Store(&entries{
		networks: e.networks.clone(),
		exact:    maps.Clone(e.exact),
		domains:  maps.Clone(e.domains),
		below:    maps.Clone(e.below),
	})
	return clone
}

// Replace gives the list the entries of another one of its kind, in one step, also
// while it is asked. The other one is not to be used any more.
func (l *List) Replace(by *List) { l.entries.Store(by.entries.Load()) }

// String tells how many entries the list holds, and of what.
func (l *List) String() string {
	e := l.entries.Load()
	n, what := len(e.exact)+len(e.domains)+len(e.below), "text"
	if l.kind == CIDRList {
		n, what = len(e.networks.values), "network"
	}
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}

// Add puts an entry into the list: a network or an address, or a text, where
// @example.com stands for that domain and .example.com for that domain and all
// below it. Texts are normalised as keys are.
func (l *List) Add(entry string) error {
	e := l.entries.Load()
	if l.kind == CIDRList {
		return e.addNetwork(entry)
	}
	if err := checkEntry(entry); err != nil {
		return err
	}
	switch {
	case strings.Trim(entry, `@."'`) == "":
		return fmt.Errorf("%q is not an entry; write a text, @example.com or .example.com", entry)
	case entry[0] == '@':
		e.domains[normalHost(entry[1:])] = struct{}{}
	case entry[0] == '.':
		e.below[normalHost(entry[1:])] = struct{}{}
	default:
		e.exact[normalEntry(entry)] = struct{}{}
	}
	return nil
}

func (e *entries) addNetwork(entry string) error {
	p, err := ParseNetwork(entry)
	if err == nil {
		e.networks.set(p, struct{}{})
	}
	return err
}

// hasAddr reports whether a network of the list contains the address.
func (l *List) hasAddr(addr netip.Addr) bool {
	if !addr.IsValid() {
		return false
	}
	_, ok := l.entries.Load().networks.holding(series.Host.Of(addr))
	return ok
}

// hasText reports whether the list contains the text, or the domain that it is
// or ends in.
func (l *List) hasText(s string) bool {
	if s == "" {
		return false
	}
	e := l.entries.Load()
	if _, ok := e.exact[s]; ok {
		return true
	}
	domain := domainOf(s)
	if _, ok := e.domains[domain]; ok {
		return true
	}
	if len(e.below) == 0 {
		return false
	}
	for domain != "" {
		if _, ok := e.below[domain]; ok {
			return true
		}
		_, domain, _ = strings.Cut(domain, ".")
	}
	return false
}

// texts yields the entries that are no networks, as they are normalised.
func (l *List) texts(yield func(string) bool) {
	e := l.entries.Load()
	_ = yieldTexts(e.exact, "", yield) && yieldTexts(e.domains, "@", yield) && yieldTexts(e.below, ".", yield)
}

// yieldTexts yields the keys of a map with something in front, and reports whether more
// are wanted.
func yieldTexts[V any](of map[string]V, front string, yield func(string) bool) bool {
	for text := range of {
		if !yield(front + text) {
			return false
		}
	}
	return true
}

// domainOf is the domain that a text ends in behind an @, or the whole text.
func domainOf(text string) string { return text[strings.LastIndexByte(text, '@')+1:] }

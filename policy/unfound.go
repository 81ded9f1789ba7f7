package policy

import (
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"strings"
)

// Entries of lists and keys of tables that are spelt like nothing that is looked up
// there. Their files may change at any time, so these are no mistakes.

// whens yields all expressions, each with who has it.
func (p *Policy) whens() iter.Seq2[string, *When] {
	return func(yield func(string, *When) bool) {
		for _, s := range p.Series {
			for _, a := range s.Adds {
				if a.When != nil && !yield("series "+s.Name, a.When) {
					return
				}
			}
		}
		for _, r := range p.Rules {
			if r.When != nil && !yield("rule "+r.Name, r.When) {
				return
			}
		}
	}
}

// spellingNotes name who looks up a client's spelling, capitals and all, in a list,
// whose entries are lower case.
func (p *Policy) spellingNotes() (notes []string) {
	for who, w := range p.whens() {
		for _, a := range w.asks {
			if !a.term || !asReceived(a.of.Attribute) || a.of.Attribute == RuleName {
				continue
			}
			right := fmt.Sprintf("lower(%s) in %s finds capitals too", a.of, a.name)
			if plain := map[Attribute]Attribute{SenderRaw: Sender, RecipientRaw: Recipient}[a.of.Attribute]; plain != 0 {
				right = fmt.Sprintf("write %s in %s", plain, a.name)
			}
			note := fmt.Sprintf("%s: %s is as it was received, and the texts of list %s are in lower case and without brackets; %s", who, a.of, a.name, right)
			if !slices.Contains(notes, note) { // several adds may share an expression
				notes = append(notes, note)
			}
		}
	}
	return notes
}

// lookup is what is looked up in a list or a table.
type lookup struct {
	what  string
	texts iter.Seq[string] // its entries, but for networks
	terms []Term
	other bool // what is looked up may be spelt in any way
}

// lookups are those of all lists and tables that the policy uses.
func (p *Policy) lookups() (all []*lookup) {
	add := func(what string, texts iter.Seq[string], t Term, isTerm bool) {
		i := slices.IndexFunc(all, func(l *lookup) bool { return l.what == what })
		if i < 0 {
			i, all = len(all), append(all, &lookup{what: what, texts: texts})
		}
		l := all[i]
		l.other = l.other || !isTerm
		if !slices.Contains(l.terms, t) {
			l.terms = append(l.terms, t)
		}
	}
	for _, w := range p.whens() {
		for _, a := range w.asks {
			add("list "+a.name, a.list.texts, a.of, a.term)
		}
	}
	for _, r := range p.Rules {
		for c := range r.conditions() {
			if key := p.key(c); c.Table != nil && len(key) > 0 {
				add("table "+c.Table.Name(), c.Table.texts, key[0], len(key) == 1)
			}
		}
	}
	return all
}

// entryNotes name what nothing finds.
func (p *Policy) entryNotes() (notes []string) {
	for _, l := range p.lookups() {
		if l.other {
			continue
		}
		var vain []string
		for text := range l.texts {
			if !slices.ContainsFunc(l.terms, func(t Term) bool { return t.Attribute.mayFind(text) }) {
				vain = append(vain, text)
			}
		}
		if vain == nil {
			continue
		}
		first, more := slices.Min(vain), ""
		if len(vain) > 1 {
			more = fmt.Sprintf(" and %d more", len(vain)-1)
		}
		notes = append(notes, fmt.Sprintf("%s: no %s is spelt like %s%s; %s", l.what, l.asking(), Printable(first), more, l.right(first)))
	}
	return notes
}

// asking names the terms.
func (l *lookup) asking() string {
	names := make([]string, len(l.terms))
	for i, t := range l.terms {
		names[i] = t.String()
	}
	return strings.Join(names, " or ")
}

// right is what to write for a text that no term finds: of the terms, the one that it may
// be meant for counts.
func (l *lookup) right(text string) string {
	_, err := netip.ParsePrefix(text)
	i := slices.IndexFunc(l.terms, func(t Term) bool { return (t.Attribute.Kind() == Address) == (err == nil) })
	return l.terms[max(i, 0)].Attribute.right(text)
}

// mayFind reports whether a value of the attribute may be spelt like a text of a list or
// a table. A sender or recipient without a domain may be, but hardly with a dot, unless
// the domain is told otherwise, as by joe%example.com or example.com!joe.
func (a Attribute) mayFind(text string) bool {
	switch {
	case a.Kind() == Address:
		return parsed(strings.TrimPrefix(text, "@")) != ""
	case strings.HasPrefix(text, "@") || strings.HasPrefix(text, "."): // domains
		return true
	case a.isDomain():
		return !strings.Contains(text, "@")
	case a == Sender || a == Recipient:
		return strings.ContainsAny(text, "@%!") || !strings.Contains(text, ".")
	}
	return true
}

// isDomain reports whether the attribute is the domain of an address alone.
func (a Attribute) isDomain() bool {
	return a == SenderDomain || a == RecipientDomain || a == FromDomain
}

// right is what to write for a text that the attribute does not find.
func (a Attribute) right(text string) string {
	_, err := netip.ParsePrefix(text)
	switch {
	case a.Kind() == Address && err == nil:
		return "networks are for a list with cidr"
	case a.Kind() == Address:
		return "an address is like 192.0.2.7"
	case a.isDomain():
		return "a domain is what is behind the @"
	}
	return "for all of a domain write @example.com; a dot in a local part alone is rare"
}

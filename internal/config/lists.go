package config

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/audit-milter/audit-milter/policy"
)

// decodeLists decodes the mapping of names to lists. `when` asks them as in
// `client_address in trusted`.
func (d *decoder) decodeLists(n node) {
	for _, e := range n.entries("a mapping of names to lists, such as trusted: {cidr: [192.0.2.0/24]}") {
		name := e.key.Value
		list := d.list(e.value.about(fmt.Sprintf("list %q", name)))
		if d.checkListName(e.key, list) && e.value.saysWhatItHolds() {
			d.lists[name] = list
		}
	}
}

// checkListName notes an error at a name that no expression could spell, or
// that means something else there.
func (d *decoder) checkListName(key node, list *policy.List) bool {
	name := key.Value
	if _, taken := policy.ParseAttribute(name); taken {
		key.errorf("%s is an attribute; give the list another name", name)
		return false
	}
	if _, err := policy.CompileWhen("client_address in "+name, map[string]*policy.List{name: list}); err != nil {
		key.errorf("%q cannot be a list's name in when; use letters, digits and underscores", name)
		return false
	}
	return true
}

// list decodes a list.
//
//	key     default   what, and what follows
//	cidr              networks and single addresses; or
//	string            texts, @example.com for a domain, .example.com for it and all below it;
//	                  one of the two is required and may be empty
//	file    none      a file with more entries, one a line; # begins a comment; a change of it takes effect by itself
func (d *decoder) list(n node) *policy.List {
	n.name = "a list"
	kind, entries := policy.CIDRList, "cidr"
	if !n.has("cidr") && n.has("string") {
		kind, entries = policy.StringList, "string"
	}
	list := policy.NewList(kind)
	fill := func(n node) {
		switch {
		case n.name == entries:
			fillList(n, list)
		default:
			n.errorf("a list has either cidr or string; make two lists of it")
		}
	}
	n.mapping("a mapping such as {cidr: [192.0.2.0/24]}",
		optional("cidr", fill),
		optional("string", fill),
		optional("file", func(file node) {
			if n.saysWhatItHolds() {
				d.readList(file, list)
			}
		}),
	)
	if n.lacks("cidr", "string") {
		n.errorf("what the list holds is missing; write cidr: [] or string: [], with entries or beside a file")
	}
	return list
}

// saysWhatItHolds reports whether a list has entries of a kind, which may be none.
func (n node) saysWhatItHolds() bool { return n.has("cidr") || n.has("string") }

func fillList(n node, list *policy.List) {
	for _, item := range n.list("a list of entries") {
		entry := item.text("an entry")
		if entry == "" {
			continue
		}
		if err := list.Add(entry); err != nil {
			item.fail(err)
		}
	}
}

// readList adds a file's entries, one a line, and does so anew when it changes.
func (d *decoder) readList(n node, list *policy.List) {
	own := list.Clone()
	d.readFile(n, func(path string, data []byte) Errors {
		next := own.Clone()
		errs := fillFromFile(next, n.subject, path, data)
		if len(errs) == 0 {
			list.Replace(next)
		}
		return errs
	})
}

func fillFromFile(list *policy.List, subject, path string, data []byte) (errs Errors) {
	if isUTF16(data) {
		return Errors{{path, 1, 1, subject + ": " + notUTF8}}
	}
	for i, line := range strings.Split(string(data), "\n") {
		entry, column := listEntry(line)
		if entry == "" {
			continue
		}
		if err := list.Add(entry); err != nil {
			errs = append(errs, &Error{path, i + 1, column, subject + ": " + err.Error()})
		}
	}
	return errs
}

// listEntry is what a line of a list's file holds, and at which column.
// A comment begins with # at the line's beginning or behind white space, since
// an address may contain one.
func listEntry(line string) (entry string, column int) {
	for i := range len(line) {
		if line[i] == '#' && (i == 0 || line[i-1] == ' ' || line[i-1] == '\t') {
			line = line[:i]
			break
		}
	}
	entry = strings.TrimSpace(line)
	column = 1 + utf8.RuneCountInString(line[:strings.Index(line, entry)])
	return entry, column
}

package config

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/audit-milter/audit-milter/policy"
)

// node is a place in the file, with the words that messages have for it. Its
// methods are strict: whatever is not as asked for is noted as an error there,
// and a value that may be worked on with comes back, so that one mistake does
// not hide the next.
type node struct {
	*yaml.Node
	doc     *document
	subject string // the thing it belongs to, such as `rule "connection-flood"`
	name    string // its key, or its list's
	example string // how its key may look that cannot be left out
}

func (n node) errorf(format string, args ...any) { n.fail(fmt.Errorf(format, args...)) }

// fail notes an error at the node, or inside its text where the error says so.
func (n node) fail(err error) {
	offset := 0
	var syntax *policy.SyntaxError
	if errors.As(err, &syntax) {
		offset = syntax.Offset
	}
	n.failAt(offset, err)
}

// failAt notes an error at a byte of the node's text. What the subject is
// stands in front, unless the error itself begins with it.
func (n node) failAt(offset int, err error) {
	n.doc.bad[n.Node] = true
	line, column := n.doc.position(n.Node, offset)
	msg := err.Error()
	if n.subject != "" && !strings.HasPrefix(msg, n.subject) {
		msg = n.subject + ": " + msg
	}
	n.doc.add(line, column, msg)
}

// about is the node as a part of the subject.
func (n node) about(subject string) node {
	n.subject = subject
	return n
}

// printable notes an error at a name that the log, the console and mails could not show as
// it is.
func (n node) printable(name string) string {
	if policy.Printable(name) != name {
		n.errorf("a name has no tab, line end or other character that does not print: %q", name)
	}
	return name
}

// of is a node beside or below n.
func (n node) of(y *yaml.Node, name string) node {
	return node{Node: y, doc: n.doc, subject: n.subject, name: name}
}

// is reports whether the node is of the kind, and notes an error when not:
// want says what would be right.
func (n node) is(kind yaml.Kind, want string) bool {
	switch {
	case n.Kind == yaml.AliasNode: // already refused
	case n.Kind == yaml.ScalarNode && n.Tag == "!!null":
		n.errorf("%s is empty; it needs %s", n.name, want)
	case n.Kind != kind:
		n.errorf("%s needs %s, not %s", n.name, want, kindName(n.Kind))
	default:
		return true
	}
	return false
}

func kindName(k yaml.Kind) string {
	switch k {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	}
	return "a single value"
}

// text is a scalar's text; "" after an error.
func (n node) text(want string) string {
	if !n.is(yaml.ScalarNode, want) {
		return ""
	}
	text := n.line()
	if text == "" {
		n.errorf("%s is empty; it needs %s", n.name, want)
	}
	return text
}

// line is a scalar's text without the line end of a block scalar.
func (n node) line() string { return strings.TrimRight(n.Value, "\n") }

// integer is a whole number from lo to hi; lo after an error.
func (n node) integer(lo, hi int64) int64 {
	text := n.text("a whole number")
	if text == "" {
		return lo
	}
	i, err := strconv.ParseInt(text, 10, 64)
	digits := strings.TrimLeft(text, "+-")
	switch {
	case n.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle) != 0 && err == nil:
		n.errorf("%s needs a number, not a text; write %d without quotes", n.name, i)
	case errors.Is(err, strconv.ErrRange):
		n.errorf("%s is too large a number: %s; it may be %d to %d", n.name, text, lo, hi)
	case err != nil:
		n.errorf("%s needs a whole number, not %q", n.name, text)
	case len(digits) > 1 && digits[0] == '0':
		n.errorf("%s needs a decimal number; write %d instead of %s", n.name, i, text)
	case i < lo || i > hi:
		n.errorf("%s must be %d to %d, not %d", n.name, lo, hi, i)
	default:
		return i
	}
	return lo
}

// boolean is true or false; false after an error.
func (n node) boolean() bool {
	text := n.text("true or false")
	if text != "" && n.Tag != "!!bool" {
		n.errorf("%s needs true or false, not %q", n.name, text)
	}
	return n.Tag == "!!bool" && strings.EqualFold(text, "true")
}

// items are the items of a list that has some; a single value stands for a
// list of one.
func (n node) items() []node {
	if n.Kind != yaml.SequenceNode {
		return []node{n}
	}
	return n.some("a list")
}

// some are the items of what must be a list with at least one.
func (n node) some(want string) []node {
	items := n.list(want)
	switch {
	case n.Kind != yaml.SequenceNode || len(items) > 0:
	case n.example != "":
		n.errorf("%s is an empty list; write for example %s", n.name, n.example)
	default:
		n.errorf("%s is an empty list; leave it out, or give it a value", n.name)
	}
	return items
}

// list are the items of what must be a list.
func (n node) list(want string) []node {
	if !n.is(yaml.SequenceNode, want) {
		return nil
	}
	items := make([]node, len(n.Content))
	for i, c := range n.Content {
		items[i] = n.of(c, n.name)
	}
	return items
}

// entry is one key of a mapping and its value, both named as the key.
type entry struct{ key, value node }

// entries are the keys and values of a mapping, without those keys that cannot
// be one or are there twice.
func (n node) entries(want string) []entry {
	if !n.is(yaml.MappingNode, want) {
		return nil
	}
	var entries []entry
	lines := make(map[string]int)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.of(n.Content[i], n.Content[i].Value)
		first, again := lines[key.name]
		switch {
		case n.doc.bad[key.Node]:
		case key.Kind != yaml.ScalarNode:
			key.errorf("a key must be a name, not %s", kindName(key.Kind))
		case again:
			key.errorf("%q is given twice, first in line %d; keep one of them", key.name, first)
		default:
			lines[key.name] = key.Line
			entries = append(entries, entry{key, n.of(n.Content[i+1], key.name)})
		}
	}
	return entries
}

// field is a key that a mapping may have.
type field struct {
	name    string
	decode  func(node)
	example string // a required key: how it may look
}

func optional(name string, decode func(node)) field { return field{name: name, decode: decode} }

func required(name, example string, decode func(node)) field {
	return field{name: name, decode: decode, example: example}
}

// set is the decode function that stores what decode makes of the node.
func set[T any](to *T, decode func(node) T) func(node) {
	return func(n node) { *to = decode(n) }
}

// mapping decodes a mapping that may have the given keys, in their order and
// not the file's: a field may rely on those before it. What is missing is only
// told when all keys are understood, since a misspelt one is likely it.
func (n node) mapping(want string, fields ...field) {
	if !n.is(yaml.MappingNode, want) {
		return
	}
	entries := n.entries(want)
	misspelt := n.refuseUnknown(entries, fields)
	for _, f := range fields {
		at := slices.IndexFunc(entries, func(e entry) bool { return e.key.name == f.name })
		switch {
		case at < 0:
			n.without(f, misspelt || n.has(f.name) || n.has("<<"))
		default:
			value := entries[at].value
			value.example = f.example
			f.decode(value)
		}
	}
}

// without notes that a mapping lacks a key, unless that may be there under a
// key that was refused.
func (n node) without(f field, refused bool) {
	if f.example != "" && !refused {
		n.errorf("%s is missing; write for example %s", f.name, f.example)
	}
	if f.example != "" || refused {
		n.doc.lost[slot{n.Node, f.name}] = true
	}
}

// lacks reports whether a mapping has none of the keys, not even misspelt.
func (n node) lacks(keys ...string) bool {
	return n.Kind == yaml.MappingNode && !slices.ContainsFunc(keys, func(key string) bool {
		return n.has(key) || n.doc.lost[slot{n.Node, key}]
	})
}

// refuseUnknown notes an error at every key that is not a field's, and reports
// whether there is one.
func (n node) refuseUnknown(entries []entry, fields []field) (unknown bool) {
	var known []string
	for _, f := range fields {
		known = append(known, f.name)
	}
	for _, e := range entries {
		if !slices.Contains(known, e.key.name) {
			e.key.fail(policy.UnknownError{What: "key", Name: e.key.name, Known: known})
			unknown = true
		}
	}
	return unknown
}

// keys are the keys of a mapping.
func (n node) keys() []node {
	if n.Kind != yaml.MappingNode {
		return nil
	}
	var keys []node
	for i := 0; i+1 < len(n.Content); i += 2 {
		keys = append(keys, n.of(n.Content[i], n.Content[i].Value))
	}
	return keys
}

// has reports whether a mapping has the key.
func (n node) has(key string) bool { return n.child(key) != nil }

// child is the value of a mapping's key; nil when there is none.
func (n node) child(key string) *yaml.Node {
	if n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Kind == yaml.ScalarNode && n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}

// value is the text of a mapping's key; "" when there is none.
func (n node) value(key string) string {
	if value := n.child(key); value != nil {
		return value.Value
	}
	return ""
}

// choice is one of a few names.
func choice[T any](what string, names []string, parse func(string) (T, bool)) func(node) T {
	return func(n node) T {
		text := n.text("one of " + nameList(names))
		value, ok := parse(text)
		if !ok && text != "" {
			n.fail(policy.UnknownError{What: what, Name: text, Known: names})
		}
		return value
	}
}

// nameList spells names that there is a choice of.
func nameList(names []string) string { return strings.Join(names, ", ") }

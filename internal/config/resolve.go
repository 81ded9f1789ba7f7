package config

import (
	"slices"

	"gopkg.in/yaml.v3"

	"github.com/audit-milter/audit-milter/policy"
)

// check notes what [policy.Policy.Check] finds wrong, at the nodes that it is
// about. What may only be the echo of a mistake already noted is left out: it
// is wrong or right when that one has been mended.
func (d *decoder) check(root node) {
	for _, e := range d.policy.Check() {
		if d.echo(root, e.Path) {
			continue
		}
		n := root.at(e.Path)
		if name, ok := e.Path[1].(string); ok && len(e.Path) == 2 {
			n = root.at(e.Path[:1]).key(name)
		}
		n.about(d.subject(e.Path)).failAt(d.offset(n, e), e.Err)
	}
}

// at is the node of a path, or the deepest one above it that there is. Where
// the file has a single value instead of a list of one, it is its item 0.
func (n node) at(path []any) node {
	for _, step := range path {
		var next *yaml.Node
		switch step := step.(type) {
		case string:
			next = n.child(step)
		case int:
			if n.Kind != yaml.SequenceNode {
				continue
			}
			if step < len(n.Content) {
				next = n.Content[step]
			}
		}
		if next == nil {
			break
		}
		n = n.of(next, "")
	}
	return n
}

// subject is the series or rule that a path is in.
func (d *decoder) subject(path []any) string {
	switch at := path[1].(type) {
	case string:
		return seriesSubject(at)
	case int:
		return ruleSubject(at, d.policy.Rules[at].Name)
	}
	return ""
}

// offset is where in the node's text an error is. A header's value is behind
// its name.
func (d *decoder) offset(n node, e *policy.FieldError) int {
	if len(e.Path) == 4 && e.Path[2] == "header" {
		value := d.policy.Rules[e.Path[1].(int)].Headers[e.Path[3].(int)].Value
		return len(n.line()) - len(value.String()) + e.Offset
	}
	return e.Offset
}

// echo reports whether an error at the path may only follow from one that is
// already noted.
func (d *decoder) echo(root node, path []any) bool {
	thing := root.at(path[:2])
	switch {
	case !thing.has("type") && !thing.has("at"), thing.isBad("type", "at", "then"):
		return true // on these the meaning of all other fields rests
	case len(path) == 2:
		return thing.hasBadKey() || thing.isBad("header", "delay") // one of which a rule without then needs
	}
	unit := root.at(path[:min(len(path), 4)]) // a field, an add or a condition
	return unit.containsBad() || d.readsBadSeries(root, path)
}

// hasBadKey reports whether the mapping lacks a key or has one that is not
// understood.
func (n node) hasBadKey() bool {
	return n.doc.bad[n.Node] || slices.ContainsFunc(n.keys(), func(key node) bool { return n.doc.bad[key.Node] })
}

// isBad reports whether a mistake was noted at one of the keys' values.
func (n node) isBad(keys ...string) bool {
	return slices.ContainsFunc(keys, func(key string) bool {
		value := n.child(key)
		return value != nil && n.of(value, key).containsBad()
	})
}

// containsBad reports whether a mistake was noted at the node or below it.
func (n node) containsBad() bool {
	return n.doc.bad[n.Node] || slices.ContainsFunc(n.Content, func(c *yaml.Node) bool {
		return n.of(c, "").containsBad()
	})
}

// readsBadSeries reports whether the path is in a condition whose series is
// not known well enough to say what fits it.
func (d *decoder) readsBadSeries(root node, path []any) bool {
	if len(path) < 4 || path[0] != "rules" {
		return false
	}
	name := root.at(path[:4]).child("series")
	if name == nil {
		return false
	}
	if d.find(name.Value) == nil {
		return len(d.policy.Series) == 0 && len(d.errs) > 0
	}
	s := root.at([]any{"series", name.Value})
	return s.hasBadKey() || s.isBad("type", "windows", "add")
}

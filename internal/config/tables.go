package config

import (
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/audit-milter/audit-milter/policy"
)

// decodeTables decodes the mapping of names to tables, in which a threshold can
// be looked up by its key, as in above: {table: user_limits, default: 200}.
func (d *decoder) decodeTables(n node) {
	for _, e := range n.entries("a mapping of names to tables, such as user_limits: {file: user-limits.yaml}") {
		subject := fmt.Sprintf("table %q", e.key.Value)
		name := e.key.about(subject).printable(e.key.Value)
		d.tables[name] = d.table(e.value.about(subject), name)
	}
}

// table decodes a table.
//
//	key     default    what, and what follows
//	file    required   a YAML file, one mapping of keys to whole numbers; a key is a network or an address, a text, or
//	                   @example.com for all that ends in it; a change of the file takes effect by itself
func (d *decoder) table(n node, name string) *policy.Table {
	table := policy.NewTable(name)
	n.name = "a table"
	n.mapping("a mapping such as {file: user-limits.yaml}",
		required("file", "file: user-limits.yaml", func(n node) {
			d.readFile(n, func(path string, data []byte) Errors {
				next := policy.NewTable(name)
				errs := fillTable(next, n.subject, path, data)
				if len(errs) == 0 {
					table.Replace(next)
				}
				return errs
			})
		}))
	return table
}

// fillTable adds the keys and numbers of a file. One without any is right.
func fillTable(table *policy.Table, subject, path string, data []byte) Errors {
	doc := newDocument(path, data)
	root := doc.root(data, "")
	if root == nil {
		return doc.errs
	}
	n := node{Node: root, doc: doc, subject: subject, name: "a table"}
	for _, e := range n.entries("keys and numbers, such as alice@example.com: 500") {
		number := e.value.integer(0, math.MaxInt64) // -1, which may be meant as no limit, would refuse all
		if e.key.name == "default" {
			e.key.errorf("the default stands in the rule, beside the table's name: {table: %s, default: 200}", table.Name())
			continue
		}
		if err := table.Add(e.key.name, number); err != nil {
			e.key.fail(err)
		}
	}
	return doc.errs
}

// tableThreshold decodes a threshold that is looked up.
//
//	key       default    what, and what follows
//	table     required   the name of a table
//	default   required   the number of the keys that the table does not have
func (d *decoder) tableThreshold(n node, c *policy.Condition) {
	n.mapping("a mapping such as {table: user_limits, default: 200}",
		required("table", "table: user_limits", func(n node) { c.Table = d.tableNamed(n) }),
		required("default", "default: 200", func(n node) { c.Threshold.N = n.integer(math.MinInt64, math.MaxInt64) }),
	)
}

// tableNamed is the table that the node names; nil when there is none.
func (d *decoder) tableNamed(n node) *policy.Table {
	name := n.text("the name of a table")
	table := d.tables[name]
	if table == nil && name != "" && !d.lostSection("tables") {
		n.fail(policy.UnknownError{What: "table", Name: name, Known: slices.Sorted(maps.Keys(d.tables))})
	}
	return table
}

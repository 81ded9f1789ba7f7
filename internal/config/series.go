package config

import (
	"fmt"
	"math"
	"slices"

	"gopkg.in/yaml.v3"

	"github.com/audit-milter/audit-milter/policy"
	"github.com/audit-milter/audit-milter/series"
)

// decodeSeries decodes the mapping of names to series. A name has no slash.
func (d *decoder) decodeSeries(n node) {
	for _, e := range n.entries("a mapping of names to series, such as connections: {…}") {
		s := &policy.Series{Definition: series.Definition{Name: e.key.Value}}
		d.policy.Series = append(d.policy.Series, s)
		key := e.key.about(seriesSubject(s.Name))
		if err := policy.CheckName(key.printable(s.Name)); err != nil {
			key.fail(err)
		}
		d.decodeOneSeries(e.value.about(seriesSubject(s.Name)), s)
	}
}

func seriesSubject(name string) string { return fmt.Sprintf("series %q", name) }

// decodeOneSeries decodes a series.
//
//	key       default   what, and what follows
//	type      required  cidr (IPv4), cidr_ipv6, ip (both families): keyed by an address, counted by any mask;
//	                    string: keyed by any text
//	interval  required  what one window covers, 1s to 31d; windows begin at multiples of it since the Unix epoch
//	windows   required  how many there are, 1 to 1024; what is older than interval × windows is forgotten
//	add       required  what is counted: one mapping or a list of them
//	distinct  events    an attribute, or a mapping (distinct): its different values are counted
//	max_keys  1000000   how many keys are kept at a time, which bounds the memory; beyond it the smallest and oldest
//	                    leave, and go on to count in their networks; with distinct 20000, and none go on to count
//	persist   false     true: what it counts is there again after a restart; needs state_dir
//	serialize false     true: its windows are written to the history when they end; needs history, and with distinct 2 windows
//	replicate none      cluster: the nodes of the cluster count as one; manager: only managers have the counts of all,
//	                    the others their own; needs cluster
func (d *decoder) decodeOneSeries(n node, s *policy.Series) {
	n.name = "a series"
	fields := []field{required("type", "type: ip", set(&s.Type, choice("type", series.TypeNames(), series.ParseType)))}
	fields = append(fields, d.extent(s)...)
	n.mapping("a mapping with type, interval and windows", append(fields,
		optional("distinct", func(n node) { s.Distinct = distinct(n) }),
		required("add", "add: {at: connect}", func(n node) {
			for _, item := range n.items() {
				s.Adds = append(s.Adds, d.add(item, s))
			}
		}),
	)...)
	if s.Serialize && s.Distinct != nil && s.Windows == 1 {
		n.errorf("with serialize, different values need windows: 2 or more: a window is read when it has ended, and must still be there")
	}
	switch {
	case s.MaxKeys > 0:
	case s.Distinct != nil:
		s.MaxKeys = series.DefaultMaxDistinctKeys
	default:
		s.MaxKeys = series.DefaultMaxKeys
	}
}

// distinct decodes what different values are counted of: an attribute, or
//
//	key   default         what, and what follows
//	of    required        an attribute, or header["Name"]; an empty value is not counted
//	mask  whole addresses {ipv4: 24, ipv6: 64}: the values are networks of an address
func distinct(n node) *policy.Distinct {
	value := &policy.Distinct{Mask: series.Host}
	if n.Kind != yaml.MappingNode {
		value.Of = term(n)
		return value
	}
	n.mapping("an attribute, or a mapping such as {of: client_address, mask: {ipv4: 24, ipv6: 64}}",
		required("of", "of: client_address", set(&value.Of, term)),
		optional("mask", func(n node) {
			if n.Kind == yaml.ScalarNode {
				n.errorf("mask needs a number for each family; write {ipv4: 24, ipv6: 64}")
				return
			}
			n.maskByFamily(&value.Mask, series.IP)
		}),
	)
	return value
}

// extent are the keys of a series and of a monitor that say how much is kept, and
// where.
func (d *decoder) extent(s *policy.Series) []field {
	return []field{
		required("interval", "interval: 5m", set(&s.Interval, duration(series.MinInterval, series.MaxInterval))),
		required("windows", "windows: 6", func(n node) { s.Windows = int(n.integer(1, series.MaxWindows)) }),
		optional("max_keys", func(n node) { s.MaxKeys = int(n.integer(1, series.MaxMaxKeys)) }),
		optional("persist", func(n node) {
			s.Persist = n.boolean()
			if s.Persist && d.top.lacks("state_dir") {
				n.errorf("persist needs a directory to keep the counts in; write for example state_dir: ./state at the top")
			}
		}),
		optional("serialize", func(n node) {
			s.Serialize = n.boolean()
			if s.Serialize && d.top.lacks("history") {
				n.errorf("serialize needs a history to write to; write for example history: {dir: ./state/history} at the top")
			}
		}),
		optional("replicate", func(n node) {
			s.Replicate = choice("way to replicate", policy.ReplicateNames(), policy.ParseReplicate)(n)
			if s.Replicate != policy.None && d.top.lacks("cluster") {
				n.errorf("replicate needs a cluster to tell; write for example cluster: {node: mx1, valkey: {addresses: valkey.example.com:6379}} at the top")
			}
		}),
	}
}

// add decodes one way in which an event is counted.
//
//	key    default         what, and what follows
//	at     required        a stage or an outcome, or a list of them
//	when   always          an expression that must hold
//	key    client_address  an attribute, header["Name"], or a list that makes a composite key; a string series
//	                       has no default; an event whose key is empty is not counted
//	count  1               a number, which may be negative and is not 0, or a numeric attribute, such as size; not with distinct
//	leaky  false           true: taken back when this filter refuses at the same stage; not with distinct
func (d *decoder) add(n node, s *policy.Series) (add policy.Add) {
	if s.Distinct == nil {
		add.Amount.N = 1
	}
	n.mapping("a mapping such as {at: connect}",
		required("at", "at: connect", set(&add.At, stages(policy.StageNames()))),
		optional("when", set(&add.When, d.when)),
		optional("key", set(&add.Key, key)),
		optional("count", set(&add.Amount, amount)),
		optional("leaky", set(&add.Leaky, node.boolean)),
	)
	return add
}

// stages is the decode function of a stage or a list of stages out of those
// named.
func stages(names []string) func(node) policy.StageSet {
	parse := func(name string) (policy.Stage, bool) {
		s, ok := policy.ParseStage(name)
		return s, ok && slices.Contains(names, name)
	}
	one := choice("stage", names, parse)
	return func(n node) policy.StageSet {
		var set policy.StageSet
		for _, item := range n.items() {
			if s, ok := policy.ParseStage(item.Value); ok && s.IsOutcome() && !slices.Contains(names, item.Value) {
				item.errorf("%s is an outcome, at which a series can count but no rule can answer; a rule stands at %s", s, nameList(names))
				continue
			}
			if s := one(item); !item.doc.bad[item.Node] {
				set = set.With(s)
			}
		}
		return set
	}
}

// key is an attribute or a list of attributes.
func key(n node) policy.Key {
	var key policy.Key
	for _, item := range n.items() {
		key = append(key, term(item))
	}
	return key
}

// term is one attribute.
func term(n node) policy.Term {
	text := n.text("an attribute, such as client_address")
	term, err := policy.ParseTerm(text)
	if text != "" && err != nil {
		n.fail(err)
	}
	return term
}

// amount is a number, or an attribute that is one.
func amount(n node) policy.Amount {
	if n.Kind == yaml.ScalarNode {
		if a, ok := policy.ParseAttribute(n.Value); ok {
			if a.Kind() != policy.Number {
				n.errorf("%s is not a number; count takes a number or one of %s", a, nameList(numericAttributes()))
				return policy.Amount{}
			}
			return policy.Amount{Attr: a, From: true}
		}
		if n.Tag == "!!str" && n.Style == 0 {
			n.fail(policy.UnknownError{What: "numeric attribute", Name: n.Value, Known: numericAttributes()})
			return policy.Amount{}
		}
	}
	i := n.integer(math.MinInt64, math.MaxInt64)
	if i == 0 {
		n.errorf("a count of 0 counts nothing; leave count out to count 1, or leave out the add")
	}
	return policy.Amount{N: i}
}

func numericAttributes() []string {
	return slices.DeleteFunc(policy.AttributeNames(), func(name string) bool {
		a, _ := policy.ParseAttribute(name)
		return a.Kind() != policy.Number
	})
}

package config

import (
	"errors"
	"math"
	"slices"
	"strconv"

	"gopkg.in/yaml.v3"

	"github.com/audit-milter/audit-milter/policy"
	"github.com/audit-milter/audit-milter/series"
)

func (d *decoder) conditions(items []node) []policy.Condition {
	conditions := make([]policy.Condition, len(items))
	for i, item := range items {
		conditions[i] = d.condition(item)
	}
	return conditions
}

// condition decodes a condition: a count, and the threshold that it is compared
// with.
//
//	key        default           what, and what follows
//	series     required          the name of a series, also of a built-in one: open_sessions, connections/300
//	key        the series' own   an attribute, header["Name"], or a list of them
//	windows    0                 a window, or a range whose counts are summed, such as 0-5; 0 is the current one
//	mask       whole addresses   bits of a network that is counted as one: a number for a series of one family,
//	                             {ipv4: 24, ipv6: 64} for any address series
//	scope      cluster           of a series that replicates: cluster, or node: what this node alone has counted
//	sliding    false             true: the last window weighs as much as the current one has still to come; only
//	                             where the threshold is a number
//	above, at_least, below, at_most
//	           one is required   a whole number; {table: user_limits, default: 200}: the number that a table has
//	                             for the key; a share of another count, such as 50%, or a multiple of a mean,
//	                             such as 5x, with at most three decimals
//	of         with a share      {series, windows, mask, scope}: the other count, of the same key
//	baseline   with a multiple   {windows: 1-5}: the earlier windows whose mean it is of
//	min        1                 with a share: below this in `of` the condition does not hold; with a multiple
//	                             it is required: below this in the count itself
func (d *decoder) condition(n node) policy.Condition {
	c := policy.Condition{Reading: policy.Reading{Mask: series.Host}}
	n.name = "a condition"
	fields := append(d.reading(&c.Reading),
		optional("key", set(&c.Key, key)),
		optional("sliding", set(&c.Sliding, node.boolean)),
		d.threshold(&c, policy.Above),
		d.threshold(&c, policy.AtLeast),
		d.threshold(&c, policy.Below),
		d.threshold(&c, policy.AtMost),
		optional("of", func(n node) { c.Of = d.of(n) }),
		optional("baseline", set(&c.Baseline, baseline)),
		optional("min", func(n node) { c.Min = n.integer(1, math.MaxInt64) }),
	)
	n.mapping("a mapping such as {series: connections, above: 100}", fields...)
	n.oneThreshold()
	n.companions(c.Threshold.Unit)
	return c
}

// reading are the keys of a count that is read.
func (d *decoder) reading(r *policy.Reading) []field {
	return []field{
		required("series", "series: connections", func(n node) { r.Series = n.text("the name of a series") }),
		optional("windows", func(n node) { r.From, r.To = windows(n) }),
		optional("mask", func(n node) { r.Mask, r.Masked = d.mask(n, r.Series), true }),
		optional("scope", func(n node) {
			r.Scope = choice("scope", policy.ScopeNames(), policy.ParseScope)(n)
			if d.top.lacks("cluster") {
				n.errorf("scope needs a cluster: without one every node counts by itself; leave it out")
			}
		}),
	}
}

// of is the count that a share is of.
func (d *decoder) of(n node) *policy.Reading {
	of := &policy.Reading{Mask: series.Host}
	n.mapping("a mapping such as {series: recipients, windows: 0-3}", d.reading(of)...)
	return of
}

// baseline is the range of windows that a multiple is of.
func baseline(n node) (b policy.Baseline) {
	n.mapping("a mapping such as {windows: 1-5}",
		required("windows", "windows: 1-5", func(n node) { b.From, b.To = windows(n) }))
	return b
}

// thresholds are the keys of which a condition has one.
var thresholds = []string{policy.Above.String(), policy.AtLeast.String(), policy.Below.String(), policy.AtMost.String()}

func (d *decoder) threshold(c *policy.Condition, op policy.Op) field {
	return optional(op.String(), func(n node) {
		c.Op = op
		if n.Kind == yaml.MappingNode {
			d.tableThreshold(n, c)
			return
		}
		if c.Threshold = n.threshold(); c.Threshold.Unit != policy.Plain {
			c.Min = 1
		}
	})
}

// threshold is a number, a share or a multiple.
func (n node) threshold() policy.Threshold {
	t, unit, err := policy.ParseThreshold(n.line())
	_, numErr := strconv.ParseInt(n.line(), 10, 64)
	switch {
	case !unit && n.Kind == yaml.ScalarNode && n.Value != "" && errors.Is(numErr, strconv.ErrSyntax):
		n.errorf("%s needs a whole number, a share such as 50%%, or a multiple such as 5x, not %q", n.name, n.Value)
	case !unit:
		t.N = n.integer(math.MinInt64, math.MaxInt64)
	case err != nil:
		n.errorf("%s: %w", n.name, err)
	}
	return t
}

// oneThreshold notes an error at a condition without a threshold, and at
// every one after the first.
func (n node) oneThreshold() {
	first := ""
	for _, key := range n.keys() {
		switch {
		case !slices.Contains(thresholds, key.Value):
		case first == "":
			first = key.Value
		case first != key.Value:
			key.errorf("%s stands beside %s; a condition has one threshold, so keep one of them", key.Value, first)
		}
	}
	if n.lacks(thresholds...) {
		n.errorf("the threshold is missing; write one of %s, for example above: 100", nameList(thresholds))
	}
}

// companions are the keys that a threshold which is not a number needs.
var companions = []struct {
	key              string
	belongs, needing []policy.Unit
	to, example      string
}{
	{"of", []policy.Unit{policy.Percent}, []policy.Unit{policy.Percent},
		"a share, such as above: 50%", "a share is of another count, for example of: {series: recipients, windows: 0-3}"},
	{"baseline", []policy.Unit{policy.Times}, []policy.Unit{policy.Times},
		"a multiple, such as above: 5x", "a multiple is of the mean of earlier windows, for example baseline: {windows: 1-5}"},
	{"min", []policy.Unit{policy.Percent, policy.Times}, []policy.Unit{policy.Times},
		"a share or a multiple, such as above: 50% or above: 5x", "without it the first event of a key that was never seen is a burst; write for example min: 100"},
}

// companions notes an error where a key is missing that the threshold needs,
// and at one that belongs to another kind of threshold.
func (n node) companions(unit policy.Unit) {
	if n.lacks(thresholds...) || n.unsure(thresholds...) {
		return
	}
	for _, c := range companions {
		switch value := n.child(c.key); {
		case value != nil && !slices.Contains(c.belongs, unit):
			n.of(value, c.key).errorf("%s belongs to %s", c.key, c.to)
		case slices.Contains(c.needing, unit) && n.lacks(c.key):
			n.errorf("%s is missing; %s", c.key, c.example)
			n.doc.lost[slot{n.Node, c.key}] = true
		}
	}
}

// windows is a window's number, or a range from the newest to the oldest.
func windows(n node) (from, to int) {
	text := n.text("a window, such as 0, or a range, such as 0-5")
	if text == "" {
		return 0, 0
	}
	from, to, err := policy.ParseWindows(text)
	if err != nil {
		n.fail(err)
	}
	return from, to
}

// mask is a number of bits for a series of one family, and one number for
// each family of the others. Which it is, the named series says.
func (d *decoder) mask(n node, name string) series.Mask {
	t := series.String // also for a series that there is not, or whose type is wrong
	if s := d.policy.Find(name); s != nil && !d.seriesAt(name).unsure("type") {
		t = s.Type
	}
	mask := series.Host
	switch {
	case n.Kind == yaml.MappingNode:
		n.maskByFamily(&mask, t)
	case t == series.IP && n.Kind == yaml.ScalarNode:
		n.errorf("mask needs a number for each family, since series %q holds both; write {ipv4: 24, ipv6: 64}", name)
	case t == series.CIDR:
		mask.IPv4 = uint8(n.integer(0, 32))
	default:
		mask.IPv6 = uint8(n.integer(0, 128))
	}
	return mask
}

func (n node) maskByFamily(mask *series.Mask, t series.Type) {
	ipv4 := optional("ipv4", func(n node) { mask.IPv4 = uint8(n.integer(0, 32)) })
	ipv6 := optional("ipv6", func(n node) { mask.IPv6 = uint8(n.integer(0, 128)) })
	if t == series.CIDR || t == series.IP {
		ipv4.example = "ipv4: 24"
	}
	if t == series.CIDR6 || t == series.IP {
		ipv6.example = "ipv6: 64"
	}
	n.mapping("a number of bits, or {ipv4: 24, ipv6: 64}", ipv4, ipv6)
}

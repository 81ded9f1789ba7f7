package config

import (
	"math"
	"slices"
	"strconv"
	"strings"

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
//	series     required          the name of a series
//	key        the series' own   an attribute, header["Name"], or a list of them
//	windows    0                 a window, or a range whose counts are summed, such as 0-5; 0 is the current one
//	mask       whole addresses   bits of a network that is counted as one: a number for a series of one family,
//	                             {ipv4: 24, ipv6: 64} for any address series
//	sliding    false             true: the last window weighs as much as the current one has still to come
//	above, at_least, below, at_most
//	           one is required   a whole number
func (d *decoder) condition(n node) policy.Condition {
	c := policy.Condition{Mask: series.Host}
	n.name = "a condition"
	n.mapping("a mapping such as {series: connections, above: 100}",
		required("series", "series: connections", set(&c.Series, conditionSeries)),
		optional("key", set(&c.Key, key)),
		optional("windows", func(n node) { c.From, c.To = windows(n) }),
		optional("mask", func(n node) { c.Mask, c.Masked = d.mask(n, c.Series), true }),
		optional("sliding", set(&c.Sliding, node.boolean)),
		threshold(&c, policy.Above),
		threshold(&c, policy.AtLeast),
		threshold(&c, policy.Below),
		threshold(&c, policy.AtMost),
		unbuilt("of", "a threshold is a number, not a share"),
		unbuilt("min", "it belongs to shares and baselines"),
		unbuilt("baseline", "a threshold is a number"),
		unbuilt("scope", "every node counts by itself"),
	)
	n.oneThreshold()
	return c
}

// conditionSeries is a series' name; whether there is one, the policy says.
func conditionSeries(n node) string {
	name := n.text("the name of a series")
	if name == "open_sessions" {
		n.errorf("open_sessions is not built yet; count connections in a series of your own")
	}
	return name
}

// thresholds are the keys of which a condition has one.
var thresholds = []string{policy.Above.String(), policy.AtLeast.String(), policy.Below.String(), policy.AtMost.String()}

func threshold(c *policy.Condition, op policy.Op) field {
	return optional(op.String(), func(n node) {
		c.Op = op
		switch {
		case n.Kind == yaml.MappingNode && n.has("table"):
			n.errorf("a table of thresholds is not built yet; write a number")
		case n.Kind == yaml.ScalarNode && isNumber(strings.CutSuffix(n.Value, "%")):
			n.errorf("%s: %s, a share of another count, is not built yet; write a number", n.name, n.Value)
		case n.Kind == yaml.ScalarNode && isNumber(strings.CutSuffix(n.Value, "x")):
			n.errorf("%s: %s, a multiple of a baseline, is not built yet; write a number", n.name, n.Value)
		default:
			c.Threshold = n.integer(math.MinInt64, math.MaxInt64)
		}
	})
}

// isNumber takes the results of strings.CutSuffix.
func isNumber(text string, found bool) bool {
	_, err := strconv.ParseFloat(text, 64)
	return found && err == nil
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

// windows is a window's number, or a range from the newest to the oldest.
func windows(n node) (from, to int) {
	text := n.text("a window, such as 0, or a range, such as 0-5")
	if text == "" {
		return 0, 0
	}
	first, last, isRange := strings.Cut(text, "-")
	if !isRange {
		last = first
	}
	from, ok1 := windowNumber(first)
	to, ok2 := windowNumber(last)
	switch {
	case !ok1 || !ok2:
		n.errorf("windows needs a window, such as 0, or a range, such as 0-5, not %q; window 0 is the current one, %d the oldest there can be", text, series.MaxWindows-1)
	case from > to:
		n.errorf("windows begins with the newest one; write %d-%d", to, from)
	default:
		return from, to
	}
	return 0, 0
}

func windowNumber(text string) (int, bool) {
	i, err := strconv.ParseUint(text, 10, 16)
	return int(i), err == nil && i < series.MaxWindows
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

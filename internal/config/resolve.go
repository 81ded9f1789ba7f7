package config

import (
	"errors"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/audit-milter/audit-milter/policy"
)

// check notes what [policy.Policy.Check] finds wrong, at the nodes that it is
// about. What may only be the echo of a mistake already noted is left out: it
// is wrong or right when that one has been mended.
func (d *decoder) check() {
	errs := d.policy.Check()
	for _, section := range []string{"series", "rules"} { // rules may echo what is wrong with their series
		var own []*policy.FieldError
		for _, e := range errs {
			if e.Path[0] == section && !d.echo(e.Path) && !d.lostRule(e) {
				own = append(own, e)
			}
		}
		for _, e := range own { // now, since none of them is an echo of another
			d.note(e)
		}
	}
}

// note notes an error at its node.
func (d *decoder) note(e *policy.FieldError) {
	n := d.top.at(e.Path)
	n.about(d.subject(e.Path)).failAt(d.offset(n, e), e.Err)
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

// seriesAt is the node of that series.
func (d *decoder) seriesAt(name string) node { return d.top.at([]any{"series", name}) }

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
// already noted: in the field itself, or in one that says what fits there.
func (d *decoder) echo(path []any) bool {
	thing := d.top.at(path[:2])
	switch field := path[2].(string); field {
	case "add":
		return d.echoInAdd(path)
	case "if", "any":
		return d.echoInCondition(path)
	case "reply":
		return thing.unsure(field, "then") || d.lostConditions(path)
	case "penalty":
		return thing.unsure(field) || d.lostConditions(path)
	case "header":
		return len(path) == 4 && (d.top.at(path).containsBad() || d.lostConditions(path))
	default:
		return thing.unsure(field)
	}
}

// echoInAdd is echo for `add`. An error at a whole add is that it has no key.
func (d *decoder) echoInAdd(path []any) bool {
	series, add := d.top.at(path[:2]), d.top.at(path[:4])
	if len(path) == 4 {
		return add.unsure("key") || series.unsure("type")
	}
	field := path[4].(string)
	return add.unsure(field) || field == "key" && series.unsure("type")
}

// echoInCondition is echo for `if` and `any`. An error at a whole condition is
// in the key that it has from its series.
func (d *decoder) echoInCondition(path []any) bool {
	condition := d.top.at(path[:4])
	series := d.seriesAt(condition.value("series"))
	if len(path) == 4 {
		return condition.unsure("key") || series.unsure("type") || d.unsureKeys(condition.value("series"))
	}
	switch field := path[4].(string); field {
	case "sliding":
		return condition.unsure(field, "windows")
	case "of":
		of := d.top.at(path[:5])
		return d.echoInReading(of, path[5].(string)) || series.unsure("type") || d.seriesAt(of.value("series")).unsure("type")
	case "baseline":
		return condition.unsure(field, "windows") || series.unsure("windows")
	default: // series, windows, mask, key
		return d.echoInReading(condition, field)
	}
}

// echoInReading is echo for what a condition or its `of` reads.
func (d *decoder) echoInReading(reading node, field string) bool {
	series := d.seriesAt(reading.value("series"))
	switch field {
	case "series":
		return reading.unsure(field) || d.lostSeries(reading.value("series"))
	case "windows":
		return reading.unsure(field) || series.unsure("windows")
	case "scope":
		return reading.unsure(field) || series.unsure("replicate")
	default: // mask, key
		return reading.unsure(field) || series.unsure("type")
	}
}

// unsureKeys reports whether a key by which the series is counted is in doubt.
func (d *decoder) unsureKeys(name string) bool {
	for i := range d.policy.Find(name).Adds {
		if d.top.at([]any{"series", name, "add", i}).unsure("key") {
			return true
		}
	}
	return false
}

// lostConditions reports whether the rule that the path is in has no
// conditions only because they were not understood.
func (d *decoder) lostConditions(path []any) bool {
	r := d.policy.Rules[path[1].(int)]
	return len(r.If)+len(r.Any) == 0 && d.top.at(path[:2]).unsure("if", "any")
}

// lostSection reports whether what stands under a key at the top, such as
// series, was not understood as a whole.
func (d *decoder) lostSection(key string) bool {
	section := d.top.child(key)
	return d.lost[slot{d.top.Node, key}] || section != nil && d.bad[section]
}

// lostList reports whether a list that is unknown may be there, but was not understood.
func (d *decoder) lostList(name string) bool {
	lists := d.top.child("lists")
	return d.lostSection("lists") || lists != nil && d.top.of(lists, "").child(name) != nil
}

// lostSeries reports whether the file's series were not understood as a whole, or,
// for a name like theirs, its monitors.
func (d *decoder) lostSeries(name string) bool {
	if strings.Contains(name, "/") {
		return d.top.unsure("monitors")
	}
	return d.lostSection("series")
}

// lostRule reports whether an error is about a rule that is unknown, and may be there
// under a name that was not understood.
func (d *decoder) lostRule(e *policy.FieldError) bool {
	unknown, ok := errors.AsType[policy.UnknownError](e.Err)
	if !ok || unknown.What != "rule" {
		return false
	}
	rules := d.top.child("rules")
	return d.lostSection("rules") || rules != nil && slices.ContainsFunc(rules.Content, func(r *yaml.Node) bool {
		return d.top.of(r, "").unsure("name")
	})
}

// unsure reports whether what one of a mapping's keys says is in doubt: a
// mistake was noted there, or the key was missed.
func (n node) unsure(keys ...string) bool {
	return n.Kind != yaml.MappingNode || slices.ContainsFunc(keys, func(key string) bool {
		value := n.child(key)
		return n.doc.lost[slot{n.Node, key}] || value != nil && n.of(value, key).containsBad()
	})
}

// containsBad reports whether a mistake was noted at the node or below it.
func (n node) containsBad() bool {
	return n.doc.bad[n.Node] || slices.ContainsFunc(n.Content, func(c *yaml.Node) bool {
		return n.of(c, "").containsBad()
	})
}

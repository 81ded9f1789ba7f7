package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/audit-milter/audit-milter/policy"
)

// decodeRules decodes the list of rules. It keeps a broken one too, so that a
// rule's number is its place in the file.
func (d *decoder) decodeRules(n node) {
	for i, item := range n.list("a list of rules") {
		r := &policy.Rule{}
		d.policy.Rules = append(d.policy.Rules, r)
		d.rule(item.about(ruleSubject(i, item.value("name"))), r)
	}
}

// ruleSubject names a rule in messages: by its name, else by its number from 1.
func ruleSubject(i int, name string) string {
	if name == "" {
		return fmt.Sprintf("rule %d", i+1)
	}
	return fmt.Sprintf("rule %q", name)
}

// rule decodes a rule.
//
//	key               default   what, and what follows
//	name              required  its own among the rules; in every line of the log
//	at                required  a stage, or a list of stages
//	when              always    an expression over attributes and lists that must hold
//	if                none      a condition, or a list that must hold as a whole
//	any               none      a list of conditions of which at least one must hold
//	then              none      accept, tempfail, reject, disconnect, discard, quarantine; without it the rule
//	                            only marks or tells, by delay, header or notify, and the next one is asked
//	reply             a sentence of the verdict's own
//	                            the text of a refusal with {placeholders}; a code in front must fit the verdict
//	header            none      `Name: value` with {placeholders}, or a list, put at the top of the message;
//	                            received fields of that name are removed
//	delay             none      how long the answer waits, 1s to 8s
//	penalty           none      once the conditions have fired, the rule goes on firing for their key for that long,
//	                            1s to 31d
//	notify            none      a name in notify, or a list of them: who is told when it fires
//	mode              enforce   shadow: judged and logged, and the next rule is asked
//	allow_shared_key  false     true: conditions hold for loopback, this host's own addresses and <> too
func (d *decoder) rule(n node, r *policy.Rule) {
	n.name = "a rule"
	n.mapping("a mapping with name, at and then",
		required("name", "name: connection-flood", func(n node) { r.Name = n.printable(n.text("a name")) }),
		required("at", "at: connect", set(&r.At, stages(ruleStages()))),
		optional("when", set(&r.When, d.when)),
		optional("if", func(n node) { r.If = d.conditions(n.items()) }),
		optional("any", func(n node) { r.Any = d.conditions(n.some("a list of conditions, such as [{…}, {…}]")) }),
		optional("then", set(&r.Then, choice("verdict", policy.ActionNames(), policy.ParseAction))),
		optional("reply", set(&r.Reply, reply)),
		optional("header", func(n node) { r.Headers = headers(n.items()) }),
		optional("delay", set(&r.Delay, duration(time.Second, policy.MaxDelay))),
		optional("penalty", set(&r.Penalty, duration(time.Second, policy.MaxPenalty))),
		optional("notify", set(&r.Notify, d.told)),
		optional("mode", set(&r.Shadow, shadow)),
		optional("allow_shared_key", set(&r.AllowSharedKey, node.boolean)),
	)
	if n.lacks("then", "delay", "header", "notify") {
		n.errorf("a rule needs then: %s; or delay, header or notify", nameList(policy.ActionNames()))
	}
}

// ruleStages are the names of the stages at which a rule may stand.
func ruleStages() []string {
	var names []string
	for _, name := range policy.StageNames() {
		if s, _ := policy.ParseStage(name); !s.IsOutcome() {
			names = append(names, name)
		}
	}
	return names
}

// when is an expression.
func (d *decoder) when(n node) *policy.When {
	text := n.text(`an expression, such as sasl_username != ""`)
	if text == "" {
		return nil
	}
	when, err := policy.CompileWhen(text, d.lists)
	if unknown, ok := errors.AsType[policy.UnknownError](err); ok && unknown.What == "list" && d.lostList(unknown.Name) {
		d.bad[n.Node] = true
		return nil
	}
	if err != nil {
		n.fail(fmt.Errorf("when: %w", err))
		return nil
	}
	return when
}

// shadow reads mode.
func shadow(n node) bool {
	return choice("mode", []string{"enforce", "shadow"}, func(name string) (bool, bool) {
		return name == "shadow", name == "shadow" || name == "enforce"
	})(n)
}

func reply(n node) *policy.Template {
	return template(n, n.text("a text, such as 450 4.7.1 Try again in {retry_after}"))
}

// template is a text with placeholders, the end of the node's; an empty one
// after an error.
func template(n node, text string) *policy.Template {
	t, err := policy.ParseTemplate(text)
	if err == nil {
		return t
	}
	offset := len(n.line()) - len(text)
	var syntax *policy.SyntaxError
	if errors.As(err, &syntax) {
		offset += syntax.Offset
	}
	n.failAt(offset, err)
	return new(policy.Template)
}

// headers are header lines to insert; a broken one is kept as an empty one.
func headers(items []node) []policy.HeaderTemplate {
	all := make([]policy.HeaderTemplate, len(items))
	for i, n := range items {
		all[i] = header(n)
	}
	return all
}

// traceFields are what a message's way is told by. A header of a rule replaces
// those that came with the message.
var traceFields = []string{"Received", "Return-Path", "Delivered-To"}

func header(n node) policy.HeaderTemplate {
	text := n.text("a header, such as X-Audit: {count}")
	name, value, _ := strings.Cut(text, ":")
	value = strings.TrimLeft(value, " ")
	field, err := policy.ParseTerm(fmt.Sprintf("header[%q]", name))
	switch {
	case text == "":
	case err != nil || value == "":
		n.errorf("%q is not a header; write Name: value", text)
	case slices.Contains(traceFields, field.Header):
		n.errorf("a header %s would remove those that came with the message, by which mail servers notice loops; choose another name", field.Header)
	}
	return policy.HeaderTemplate{Name: field.Header, Value: template(n, value)}
}

package policy

import (
	"fmt"
	"slices"
	"strings"
)

// What is right, and yet in vain: rules that are never asked, thresholds that nothing
// meets, entries that nothing finds. They are no mistakes, since a rule may be put in
// front for a day, a count be made negative by hand, and a file change.

func (p *Policy) vainNotes() []string {
	return slices.Concat(p.unreachedNotes(), p.keyNotes(), p.thresholdNotes(), p.spellingNotes(), p.entryNotes())
}

// unreachedNotes name the rules that are never asked, since one that nothing restricts
// decides before them.
func (p *Policy) unreachedNotes() (notes []string) {
	told := make(map[*Rule]StageSet)
	for i, r := range p.Rules {
		if !r.decidesAll() {
			continue
		}
		var never []string
		exempts := p.exempts(i)
		for j, other := range p.Rules {
			missed := other.At & exempts
			if j > i {
				missed |= other.At & r.At
			}
			if missed &^= told[other]; missed == 0 || j == i {
				continue
			}
			told[other] |= missed
			name := other.Name
			if missed != other.At {
				name += fmt.Sprintf(" (at %s)", missed)
			}
			never = append(never, name)
		}
		if never != nil {
			notes = append(notes, fmt.Sprintf("rule %s: it has neither when, if nor any and decides at %s, so never asked are %s", r.Name, r.At, strings.Join(never, ", ")))
		}
	}
	return notes
}

// decidesAll reports whether the rule decides whatever it is asked.
func (r *Rule) decidesAll() bool {
	return r.When == nil && len(r.If)+len(r.Any) == 0 && r.Then != Continue && !r.Shadow
}

// exempts are the later stages at which no rule is asked, since the one of that number
// has accepted the connection or the message. No greeting, and no DATA of old mail
// servers, need come. Where a rule before it decides otherwise, it may not be asked
// itself.
func (p *Policy) exempts(i int) (later StageSet) {
	if p.Rules[i].Then != Accept {
		return 0
	}
	for _, s := range []Stage{Connect, Mail} {
		otherwise := func(r *Rule) bool { return r.At.Has(s) && r.Then != Continue && r.Then != Accept && !r.Shadow }
		if p.Rules[i].At.Has(s) && !slices.ContainsFunc(p.Rules[:i], otherwise) {
			later |= StageSet(1<<numStages-1) &^ (1<<(s+1) - 1)
		}
	}
	return later
}

// keyNotes name the conditions that ask for another key than is counted, such as the
// domain where the address is.
func (p *Policy) keyNotes() (notes []string) {
	for _, r := range p.Rules {
		for c := range r.conditions() {
			s := p.Find(c.Series)
			if s == nil || s.Type.IsAddress() || len(c.Key) == 0 || slices.ContainsFunc(s.Adds, func(a Add) bool { return a.Key.mayBe(c.Key) }) {
				continue
			}
			var counted []string
			for _, a := range s.Adds {
				if key := a.Key.String(); !slices.Contains(counted, key) {
					counted = append(counted, key)
				}
			}
			notes = append(notes, fmt.Sprintf("rule %s: %s is counted for %s, so what it asks for %s is never there", r.Name, s.Name, strings.Join(counted, " and "), c.Key))
		}
	}
	return notes
}

// mayBe reports whether the other key may have the same values.
func (k Key) mayBe(other Key) bool {
	mailbox := func(a Attribute) bool { return a == Sender || a == Recipient }
	for i := range k {
		if len(k) != len(other) || mailbox(k[i].Attribute) && other[i].Attribute.isDomain() || k[i].Attribute.isDomain() && mailbox(other[i].Attribute) {
			return false
		}
	}
	return true
}

// thresholdNotes name the conditions that nothing meets, or everything.
func (p *Policy) thresholdNotes() (notes []string) {
	for _, r := range p.Rules {
		for c := range r.conditions() {
			if note := p.extreme(r, c); note != "" {
				notes = append(notes, fmt.Sprintf("rule %s: %s", r.Name, note))
			}
		}
	}
	return notes
}

// extreme is what there is to say of a condition whose threshold no count, or every
// count, is beyond: of series that count nothing below 0. With a table that holds for
// the keys that it does not have. A rule that only marks may want every count, to show
// it.
func (p *Policy) extreme(r *Rule, c *Condition) string {
	if p.countsDown(c.Series) || c.Of != nil && p.countsDown(c.Of.Series) {
		return ""
	}
	whose := ""
	if c.Table != nil {
		whose = ", of keys that table " + c.Table.Name() + " does not have"
	}
	n, least := c.Threshold.N, int64(0)
	if c.Threshold.Unit == Times {
		least = 1 // a count below min does not hold, and min is at least 1
	}
	switch {
	case c.Op == Below && n <= 0, c.Op == AtMost && n < least:
		return fmt.Sprintf("no count of %s is %s %s%s, so it holds for none", c.Series, c.Op.Words(), c.Threshold, whose)
	case c.Threshold.Unit == Plain && r.Then != Continue && (c.Op == Above && n < 0 || c.Op == AtLeast && n <= 0):
		return fmt.Sprintf("every count of %s is %s %s%s, so it holds for every key that there is", c.Series, c.Op.Words(), c.Threshold, whose)
	case c.Threshold.Unit == Percent && c.isPart() && (c.Op == Above && n >= c.Threshold.all() || c.Op == AtLeast && n > c.Threshold.all()):
		return fmt.Sprintf("windows %s of %s are a part of what they are compared with, and never %s %s of it", windowsText(c.From, c.To), c.Series, c.Op.Words(), c.Threshold)
	}
	return ""
}

// all is 100 % in units of the threshold.
func (t Threshold) all() int64 { return 100 * int64(powerOfTen(int(t.Decimals))) }

// isPart reports whether a share is of a count that holds the whole of its own.
func (c *Condition) isPart() bool {
	return c.Series == c.Of.Series && c.Of.From <= c.From && c.To <= c.Of.To &&
		c.Of.Mask.IPv4 <= c.Mask.IPv4 && c.Of.Mask.IPv6 <= c.Mask.IPv6 &&
		(c.Of.Scope != NodeScope || c.Scope == NodeScope)
}

// countsDown reports whether a series has an add of less than 0.
func (p *Policy) countsDown(name string) bool {
	s := p.Find(name)
	return s == nil || slices.ContainsFunc(s.Adds, func(a Add) bool { return a.Amount.N < 0 })
}

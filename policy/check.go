package policy

import (
	"errors"
	"fmt"
	"slices"
)

// Check finds what is wrong between the parts of a policy: what contradicts
// itself, and what refers to something that is not there. That each part is
// there and within its bounds is for the one who decodes it.
func (p *Policy) Check() []*FieldError {
	c := &checker{policy: p}
	for _, s := range p.Series {
		c.distinct(at{"series", s.Name, "distinct"}, s)
		for i := range s.Adds {
			c.add(at{"series", s.Name, "add", i}, s, &s.Adds[i])
		}
	}
	for i, r := range p.Rules {
		c.rule(i, r)
	}
	return c.errors
}

// checker collects mistakes with their places.
type checker struct {
	policy *Policy
	errors []*FieldError
}

// at is a place in the policy.
type at []any

func (a at) in(path ...any) at { return slices.Concat(a, path) }

func (c *checker) fail(place at, format string, args ...any) {
	c.failErr(place, fmt.Errorf(format, args...))
}

func (c *checker) failErr(place at, err error) {
	if err != nil {
		c.errors = append(c.errors, &FieldError{Path: place, Err: err})
	}
}

func (c *checker) add(place at, s *Series, a *Add) {
	c.key(place.in("key"), s, a.Key, a.At)
	c.when(place.in("when"), a.When, a.At)
	if a.Amount.From {
		c.known(place.in("count"), []placed{{Term: Term{Attribute: a.Amount.Attr}}}, a.At)
	}
	if s.Distinct != nil {
		c.addOfValue(place, s, a)
		return
	}
	if !a.Leaky {
		return
	}
	for stage := range a.At.All {
		if stage.IsOutcome() {
			c.fail(place.in("leaky"), "leaky takes back what this filter refuses at the same stage; nothing is refused at %s", stage)
		}
	}
}

// distinct checks the value of which different ones are counted.
func (c *checker) distinct(place at, s *Series) {
	if s.Distinct == nil {
		return
	}
	var stages StageSet
	for _, a := range s.Adds {
		stages |= a.At
	}
	of := s.Distinct.Of
	c.known(place.in("of"), []placed{{Term: of}}, stages)
	if s.Distinct.masked() && of.Attribute.Kind() != Address {
		c.fail(place.in("mask"), "the mask makes networks of addresses, client_address or server_address; %s is none", of)
	}
}

// addOfValue checks what an add cannot say of a value.
func (c *checker) addOfValue(place at, s *Series, a *Add) {
	if a.Amount != (Amount{}) {
		c.fail(place.in("count"), "series %q counts different values, each once; leave count out", s.Name)
	}
	if a.Leaky {
		c.fail(place.in("leaky"), "series %q counts different values, which cannot be taken back, since others may have shown the same; leave leaky out", s.Name)
	}
}

// key checks a key against the series that it is for.
func (c *checker) key(place at, s *Series, key Key, stages StageSet) {
	switch {
	case len(key) == 0 && !s.Type.IsAddress():
		c.fail(place[:len(place)-1], "series %q is of type string and needs a key, such as key: sasl_username", s.Name)
		return
	case s.Type.IsAddress() && (len(key) > 1 || len(key) == 1 && key[0].Attribute.Kind() != Address):
		c.fail(place, "series %q is of type %s, whose key is one address, client_address or server_address, not %s; a series of type string takes any key", s.Name, s.Type, key)
		return
	}
	c.keyKnown(place, key.orClient(s.Type), stages)
}

func (c *checker) keyKnown(place at, key Key, stages StageSet) {
	terms := make([]placed, len(key))
	for i, t := range key {
		terms[i] = placed{Term: t}
	}
	c.known(place, terms, stages)
}

// known checks that the terms have a value at all the stages.
func (c *checker) known(place at, terms []placed, stages StageSet) {
	for _, t := range terms {
		known := t.Attribute.KnownAt()
		if missing := stages &^ known; missing != 0 {
			err := fmt.Errorf("%s is not known at %s; it is known at %s", t, missing, known)
			c.errors = append(c.errors, &FieldError{place, err, t.offset})
		}
	}
}

// when checks what an expression reads, and the rules that it names. A sender is empty
// only where the refusal was before mail.
func (c *checker) when(place at, w *When, stages StageSet) {
	c.known(place, w.terms(), stages)
	if w == nil {
		return
	}
	for _, r := range w.rules {
		if names := c.policy.ruleNames(); !slices.Contains(names, r.name) {
			err := fmt.Errorf("when: %w", UnknownError{"rule", r.name, names})
			c.errors = append(c.errors, &FieldError{place, err, r.offset})
		}
	}
	if stages.Has(Refused) {
		return
	}
	for _, offset := range w.unset {
		err := errors.New(`sender is "<>", not "", where there is none; write that`)
		c.errors = append(c.errors, &FieldError{place, err, offset})
	}
}

func (c *checker) rule(i int, r *Rule) {
	place := at{"rules", i}
	for _, other := range c.policy.Rules[:i] {
		if r.Name != "" && other.Name == r.Name {
			c.fail(place.in("name"), "there are two rules %q; a rule's name is its own", r.Name)
			break
		}
	}
	c.action(place, r)
	c.when(place.in("when"), r.When, r.At)
	c.texts(place, r)
	if r.Penalty > 0 && len(r.If)+len(r.Any) == 0 {
		c.fail(place.in("penalty"), "a penalty is for the key of a condition, and the rule has neither if nor any")
	}
	for j := range r.If {
		c.condition(place.in("if", j), r, &r.If[j])
	}
	for j := range r.Any {
		c.condition(place.in("any", j), r, &r.Any[j])
	}
}

// action checks `then` and `header` against the rule's stages.
func (c *checker) action(place at, r *Rule) {
	early := r.At & Stages(Connect, Helo)
	if (r.Then == Discard || r.Then == Quarantine) && early != 0 {
		c.fail(place.in("then"), "there is no message to %s at %s; it can be done from mail on", r.Then, early)
	}
	if len(r.Headers) > 0 && early != 0 {
		c.fail(place.in("header"), "there is no message to put a header into at %s; it can be done from mail on", early)
	}
}

// texts checks the reply and the headers.
func (c *checker) texts(place at, r *Rule) {
	if r.Reply != nil {
		if _, err := newReply(r.Reply, r.Then); err != nil {
			c.failErr(place.in("reply"), err)
		}
		c.template(place.in("reply"), r, r.Reply)
	}
	for j, h := range r.Headers {
		c.template(place.in("header", j), r, h.Value)
	}
}

func (c *checker) template(place at, r *Rule, t *Template) {
	c.known(place, t.terms(), r.At)
	conditions := slices.Collect(r.conditions())
	for _, part := range t.parts {
		if part.kind != numberPart {
			continue
		}
		var err error
		switch {
		case len(conditions) == 0:
			err = fmt.Errorf("{%s} is a condition's, and the rule has neither if nor any", part.number)
		case part.number == networkPlaceholder && !c.anyAddress(conditions):
			err = errors.New("{network} is an address series', and the rule's conditions read none; {client_address} is always there")
		}
		if err != nil {
			c.errors = append(c.errors, &FieldError{place, err, part.offset})
		}
	}
}

func (c *checker) anyAddress(conditions []*Condition) bool {
	return slices.ContainsFunc(conditions, func(cond *Condition) bool {
		s := c.policy.Find(cond.Series)
		return s == nil || s.Type.IsAddress()
	})
}

func (c *checker) condition(place at, r *Rule, cond *Condition) {
	s := c.reading(place, &cond.Reading)
	if cond.Of != nil {
		c.share(place.in("of"), cond.Of, s)
	}
	if s == nil {
		return
	}
	switch {
	case cond.Sliding && s.Distinct != nil:
		c.fail(place.in("sliding"), "series %q counts different values, and a part of them has no weight; leave sliding out", s.Name)
	case cond.Sliding && cond.Threshold.Unit != Plain:
		c.fail(place.in("sliding"), "sliding weights a count that is compared with a number, not with a share or a multiple; leave it out")
	case cond.Sliding && (cond.From != 0 || cond.To == 0):
		c.fail(place.in("sliding"), "sliding weights the last window of a range that begins at 0, such as windows: 0-1, not %s", windowsText(cond.From, cond.To))
	}
	if cond.Threshold.Unit == Times {
		c.baseline(place.in("baseline", "windows"), cond, s)
	}
	c.conditionKey(place, r, cond, s)
}

// reading checks a count that is read, and returns its series if there is one.
func (c *checker) reading(place at, r *Reading) *Series {
	s := c.policy.Find(r.Series)
	if s == nil {
		c.failErr(place.in("series"), UnknownError{"series", r.Series, c.policy.seriesNames()})
		return nil
	}
	if r.To >= s.Windows {
		c.fail(place.in("windows"), "the series has windows 0-%d; %d is beyond", s.Windows-1, r.To)
	}
	if r.Scope != WholeScope && s.Replicate == None && s != openSessions {
		c.fail(place.in("scope"), "series %q does not replicate, so every node has its own counts; leave scope out, or write replicate: cluster at the series", s.Name)
	}
	if r.Masked && !s.Type.IsAddress() {
		c.fail(place.in("mask"), "series %q is of type string and has no masks", s.Name)
	}
	return s
}

// share checks what a share is of. Its key is that of the other count.
func (c *checker) share(place at, r *Reading, other *Series) {
	s := c.reading(place, r)
	if s != nil && other != nil && s.Type.IsAddress() != other.Type.IsAddress() {
		c.fail(place.in("series"), "series %q is of type %s and series %q of type %s; a share compares two counts of one key", s.Name, s.Type, other.Name, other.Type)
	}
}

// baseline checks the windows that a multiple is of.
func (c *checker) baseline(place at, cond *Condition, s *Series) {
	switch b := cond.Baseline; {
	case b.From <= cond.To:
		c.fail(place, "a baseline is earlier than what is compared with it; behind windows: %s it begins at %d", windowsText(cond.From, cond.To), cond.To+1)
	case b.To >= s.Windows:
		c.fail(place, "the series has windows 0-%d; %d is beyond", s.Windows-1, b.To)
	}
}

func (c *checker) conditionKey(place at, r *Rule, cond *Condition, s *Series) {
	if len(cond.Key) > 0 {
		c.key(place.in("key"), s, cond.Key, r.At)
		return
	}
	for _, a := range s.Adds {
		if !a.Key.orClient(s.Type).equal(s.Adds[0].Key.orClient(s.Type)) {
			c.fail(place, "series %q is counted under several keys; name the condition's key", s.Name)
			return
		}
	}
	c.keyKnown(place, c.policy.key(cond), r.At)
}

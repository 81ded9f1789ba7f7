package policy

import (
	"maps"
	"slices"
)

// Uses is what a policy needs of the MTA; the milter room asks for nothing
// else.
type Uses struct {
	Shown    StageSet // stages to be shown, RcptRefused among them when refused recipients are
	Answered StageSet // stages whose answer the MTA must wait for; EOM always

	Headers    []string // canonical names of the headers that are read
	Replaced   []string // canonical names of the headers that rules insert
	Body       bool     // the whole message, for message_size
	Quarantine bool     // a rule may quarantine

	Attributes AttributeSet // those that anything reads
}

// logged are the attributes in every verdict's log line.
var logged = []Attribute{Session, ClientAddress, Sender, Recipient, QueueID}

// uses collects what the policy reads. A stage is shown when a rule or an add
// stands there, or when an attribute that comes from it is read later.
func (p *Policy) uses() Uses {
	u := Uses{Shown: Stages(EOM), Answered: Stages(EOM)} // no MTA can switch eom off
	headers, replaced := map[string]bool{}, map[string]bool{}
	read := func(terms []Term) {
		for _, t := range terms {
			u.read(t, headers)
		}
	}
	for _, s := range p.Series {
		for _, a := range s.Adds {
			u.show(a.At)
			read(s.terms(&a))
		}
	}
	for _, r := range p.Rules {
		u.show(r.At)
		read(p.terms(r))
		u.log(r)
		if p.Shadow || r.Shadow {
			continue // nothing that it decides goes out
		}
		u.answer(r)
		for _, h := range r.Headers {
			replaced[h.Name] = true
		}
	}
	u.Headers = slices.Sorted(maps.Keys(headers))
	u.Replaced = slices.Sorted(maps.Keys(replaced))
	return u
}

// read notes a term and the stages that it comes from.
func (u *Uses) read(t Term, headers map[string]bool) {
	u.Attributes = u.Attributes.With(t.Attribute)
	u.Shown |= attributes[t.Attribute].source
	switch t.Attribute {
	case Header:
		headers[t.Header] = true
	case FromDomain:
		headers["From"] = true
	case MessageSize:
		u.Body = true
	}
}

// show notes the stages at which something stands, and those from which the
// session knows the outcomes.
func (u *Uses) show(at StageSet) {
	for s := range at.All {
		switch s {
		case Accepted, Refused, End: // the session knows these by itself; EOM is always shown
		case Abort:
			u.Shown = u.Shown.With(Mail)
		default:
			u.Shown = u.Shown.With(s)
		}
	}
}

// log notes what a rule's log line shows, as far as its stages know it.
func (u *Uses) log(r *Rule) {
	for _, a := range logged {
		if a.KnownAt()&r.At != 0 {
			u.read(Term{Attribute: a}, nil)
		}
	}
}

// answer notes where a rule may answer otherwise than continue. Accept,
// discard, quarantine and header say continue until eom.
func (u *Uses) answer(r *Rule) {
	u.Quarantine = u.Quarantine || r.Then == Quarantine
	switch r.Then {
	case Tempfail, Reject, Disconnect:
		u.Answered |= r.At
	default:
		if r.Delay > 0 {
			u.Answered |= r.At
		}
	}
}

// terms are what an add to the series reads.
func (s *Series) terms(a *Add) []Term {
	terms := slices.Concat(unplaced(a.When.terms()), a.Key.orClient(s.Type))
	if s.Distinct != nil {
		terms = append(terms, s.Distinct.Of)
	}
	if a.Amount.From {
		terms = append(terms, Term{Attribute: a.Amount.Attr})
	}
	return terms
}

// terms are what a rule reads.
func (p *Policy) terms(r *Rule) []Term {
	terms := slices.Concat(unplaced(r.When.terms()), unplaced(r.Reply.terms()))
	for _, h := range r.Headers {
		terms = append(terms, unplaced(h.Value.terms())...)
	}
	for c := range r.conditions() {
		terms = append(terms, p.key(c)...)
	}
	return terms
}

func unplaced(list []placed) []Term {
	terms := make([]Term, len(list))
	for i, p := range list {
		terms[i] = p.Term
	}
	return terms
}

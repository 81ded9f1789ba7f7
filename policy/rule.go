package policy

import (
	"iter"
	"time"

	"github.com/audit-milter/audit-milter/series"
)

// Policy is what a configuration declares, ready for [NewEngine]. It is not
// changed after that.
type Policy struct {
	Shadow     bool   // judge and log every rule, enforce none
	OnError    Action // Accept or Tempfail: what the MTA is told when the daemon itself fails
	LogRepeats bool   // log every refusal, also the repeated ones

	Series []*Series
	Rules  []*Rule
}

// Series is an audit series and what is added to it.
type Series struct {
	series.Definition
	Distinct  *Distinct // what is counted are different values; nil: events or amounts
	Adds      []Add
	Persist   bool // its counts survive a restart
	Serialize bool // its windows go to the history
	Replicate Replicate
}

// Add is one way in which an event is counted.
type Add struct {
	At     StageSet
	When   *When  // nil: always
	Key    Key    // empty: client_address
	Amount Amount // the zero Amount in a distinct series
	Leaky  bool   // taken back when this filter refuses at the same stage
}

// Amount is how much an add counts: a number, or a numeric attribute.
type Amount struct {
	N    int64
	Attr Attribute
	From bool // take Attr, not N
}

// Key names the values that together make a key.
type Key []Term

// Rule is one named entry of the policy.
type Rule struct {
	Name string
	At   StageSet
	When *When       // nil: always
	If   []Condition // all must hold
	Any  []Condition // at least one must hold

	Then    Action    // Continue: the rule only marks, with Delay or Headers, or tells, with Notify
	Reply   *Template // nil: the verdict's own sentence
	Headers []HeaderTemplate
	Delay   time.Duration // at most MaxDelay
	Shadow  bool          // judged and logged, not enforced
	Penalty time.Duration // for how long the rule goes on firing for a key, at most MaxPenalty; 0 for no longer than its conditions hold
	Notify  []string      // who is told when it fires

	AllowSharedKey bool
}

// conditions yields those of `if`, then those of `any`.
func (r *Rule) conditions() iter.Seq[*Condition] {
	return func(yield func(*Condition) bool) {
		for i := range r.If {
			if !yield(&r.If[i]) {
				return
			}
		}
		for i := range r.Any {
			if !yield(&r.Any[i]) {
				return
			}
		}
	}
}

// Find is the series of that name, also a built-in one; nil when there is none.
func (p *Policy) Find(name string) *Series {
	if name == OpenSessions {
		return openSessions
	}
	for _, s := range p.Series {
		if s.Name == name {
			return s
		}
	}
	return nil
}

func (p *Policy) seriesNames() []string {
	names := make([]string, 0, len(p.Series)+1)
	for _, s := range p.Series {
		names = append(names, s.Name)
	}
	return append(names, OpenSessions)
}

func (p *Policy) ruleNames() []string {
	names := make([]string, len(p.Rules))
	for i, r := range p.Rules {
		names[i] = r.Name
	}
	return names
}

// key is a condition's key: its own, or the one that the series' adds share.
func (p *Policy) key(c *Condition) Key {
	s := p.Find(c.Series)
	if len(c.Key) > 0 || s == nil {
		return c.Key
	}
	if len(s.Adds) == 0 {
		return Key(nil).orClient(s.Type)
	}
	return s.Adds[0].Key.orClient(s.Type)
}

// MaxPenalty is the longest penalty.
const MaxPenalty = 31 * 24 * time.Hour

// MaxDelay is the longest delay of an answer: Sendmail gives a milter 10 s by
// default.
const MaxDelay = 8 * time.Second

// Condition compares one count with a threshold.
type Condition struct {
	Reading
	Key       Key // empty: the key of the series' adds
	Sliding   bool
	Op        Op
	Threshold Threshold // with a table, the number of keys that it does not have
	Table     *Table    // nil: one threshold for all keys

	Of       *Reading // of a share: the count that it is of, for the same key
	Baseline Baseline // of a multiple: the windows whose mean it is of
	Min      int64    // at least 1: how much Of must be, and with a baseline the count itself
}

// Reading is a count to read: of a series, over its windows, under a mask.
type Reading struct {
	Series   string
	From, To int // the windows, both included; 0 is the current one
	Mask     series.Mask
	Masked   bool // Mask was given
	Scope    Scope
}

// readings are all counts that the condition reads.
func (c *Condition) readings() []*Reading {
	if c.Of == nil {
		return []*Reading{&c.Reading}
	}
	return []*Reading{&c.Reading, c.Of}
}

// Baseline is a range of windows, both included, earlier than those that are
// compared with their mean.
type Baseline struct{ From, To int }

// windows is how many there are.
func (b Baseline) windows() int { return b.To - b.From + 1 }

// Op is how a condition compares.
type Op uint8

// The comparisons.
const (
	Above Op = iota
	AtLeast
	Below
	AtMost
)

var opNames = [...]string{"above", "at_least", "below", "at_most"}

func (o Op) String() string { return opNames[o] }

// Action is what a verdict answers.
type Action uint8

// The actions. Continue is no verdict: the dialogue goes on.
const (
	Continue Action = iota
	Accept
	Tempfail
	Reject
	Disconnect
	Discard
	Quarantine
)

var actionNames = [...]string{"continue", "accept", "tempfail", "reject", "disconnect", "discard", "quarantine"}

func (a Action) String() string { return actionNames[a] }

// ParseAction understands what a rule's `then` may say.
func ParseAction(name string) (Action, bool) {
	for a := Accept; int(a) < len(actionNames); a++ {
		if actionNames[a] == name {
			return a, true
		}
	}
	return 0, false
}

// ActionNames lists what a rule's `then` may say.
func ActionNames() []string { return actionNames[Accept:] }

// HeaderTemplate is a header that a rule inserts.
type HeaderTemplate struct {
	Name  string
	Value *Template
}

// FieldError is a mistake in a policy, at a field of it: a path of names as
// the configuration spells them and of list indexes, such as
// rules, 3, if, 0, windows.
type FieldError struct {
	Path []any // string or int
	Err  error
	// Offset is where in the field's text the mistake is, in bytes; 0 for the
	// whole field.
	Offset int
}

package admin

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/audit-milter/audit-milter/policy"
)

// Explained is the answer of /api/v1/explain for a key.
type Explained struct {
	Key    string      `json:"key"`
	At     time.Time   `json:"at"`
	Remote string      `json:"remote,omitempty"` // in a cluster: how much of it the counts have, in words
	Series []Held      `json:"series"`           // that hold it
	Rules  []RuleState `json:"rules"`            // that read it
}

// Held is what a series has of the key, or of a network that it is in.
type Held struct {
	Series          string  `json:"series"`
	Distinct        bool    `json:"distinct"`
	Key             string  `json:"key"`
	IntervalSeconds int64   `json:"interval_seconds"`
	Counts          []int64 `json:"counts"` // of each window, the current one first
	Total           int64   `json:"total"`
}

// RuleState is what a rule makes of the key. Of its `when` nobody knows without an
// event.
type RuleState struct {
	Rule         string           `json:"rule"`
	At           string           `json:"at"`
	Does         string           `json:"does"`
	Shadow       bool             `json:"shadow"`
	When         string           `json:"when,omitempty"`
	Fires        string           `json:"fires"` // yes, no, or depends: on what else an event has
	FiresUntil   *time.Time       `json:"fires_until,omitempty"`
	PenaltyUntil *time.Time       `json:"penalty_until,omitempty"`
	If           []ConditionState `json:"if,omitempty"`
	Any          []ConditionState `json:"any,omitempty"`
}

// ConditionState is what a condition says of the key.
type ConditionState struct {
	Condition  string     `json:"condition"`
	Holds      string     `json:"holds"`                // yes, no, or depends
	DependsOn  string     `json:"depends_on,omitempty"` // the attribute of an event that is the key
	Shared     bool       `json:"shared,omitempty"`     // it would hold, but not for a key that many share
	Reading    *Reading   `json:"reading,omitempty"`
	HoldsUntil *time.Time `json:"holds_until,omitempty"` // if nothing more arrives; missing where that is not known
}

// explain answers for a key, or with the decisions about a message or a session.
func explain(q *question) (any, error) {
	key, id, session := q.form.Get("key"), q.form.Get("queue_id"), q.form.Get("session")
	given := 0
	for _, text := range []string{key, id, session} {
		given += min(len(text), 1)
	}
	switch {
	case given != 1:
		return nil, errors.New("one of key, queue_id and session is needed")
	case key != "":
		return q.explainKey(key)
	case id != "":
		return q.decisions("queue id "+policy.Printable(id), policy.Query{QueueID: id})
	}
	return q.decisions("session "+policy.Printable(session), policy.Query{Session: session})
}

func (q *question) explainKey(key string) (*Explained, error) {
	all := q.form.Get("all")
	if all != "" && all != "true" {
		return nil, fmt.Errorf("all must be true, or be left out, not %q", all)
	}
	x, err := q.engine.Explain(key, all != "", q.now)
	if err != nil {
		return nil, err
	}
	if len(x.Held)+len(x.Rules) == 0 {
		return nil, fail(http.StatusNotFound, "no series holds "+policy.Printable(x.Key))
	}
	answer := &Explained{Key: x.Key, At: q.now.UTC(), Series: []Held{}, Rules: []RuleState{}}
	if q.Cluster != nil {
		answer.Remote = q.Cluster().Remote(q.now)
	}
	for _, h := range x.Held {
		s := describe(h.Counter)
		answer.Series = append(answer.Series, Held{s.Name, s.Distinct, h.Target.String(), s.IntervalSeconds, h.Counts, h.Total})
	}
	for _, r := range x.Rules {
		answer.Rules = append(answer.Rules, q.ruleState(r))
	}
	return answer, nil
}

func (q *question) ruleState(r policy.RuleState) RuleState {
	s := RuleState{
		Rule: r.Rule.Name, At: r.Rule.At.String(), Does: r.Rule.Does(), Shadow: r.Shadow,
		Fires: r.Fires.String(), If: q.conditionStates(r.If), Any: q.conditionStates(r.Any),
	}
	if r.Rule.When != nil {
		s.When = r.Rule.When.String()
	}
	if r.Fires == policy.Yes && r.Ends.Known {
		s.FiresUntil = later(q.now, r.Ends.After)
	}
	if r.Penalty > 0 {
		s.PenaltyUntil = later(q.now, r.Penalty)
	}
	return s
}

func (q *question) conditionStates(conditions []policy.ConditionState) (all []ConditionState) {
	for _, c := range conditions {
		s := ConditionState{Condition: c.Condition.String(), Holds: c.Holds.String(), Shared: c.Shared}
		if c.Holds == policy.Depends {
			s.DependsOn = c.Condition.Key.String()
		} else {
			s.Reading = readingOf(c.Measure)
		}
		if c.Holds == policy.Yes && c.Ends.Known {
			s.HoldsUntil = later(q.now, c.Ends.After)
		}
		all = append(all, s)
	}
	return all
}

package admin

import "time"

// RuleList is the answer of /api/v1/rules, in the order of the configuration.
type RuleList struct {
	Rules []Rule `json:"rules"`
}

// Rule is what there is to know of one rule.
type Rule struct {
	Name           string `json:"name"`
	At             string `json:"at"`
	Does           string `json:"does"`
	Shadow         bool   `json:"shadow"`          // by its own mode
	PenaltySeconds int64  `json:"penalty_seconds"` // 0 for none
}

func listRules(q *question) (RuleList, error) {
	list := RuleList{Rules: []Rule{}}
	for _, r := range q.engine.Rules() {
		list.Rules = append(list.Rules, Rule{r.Name, r.At.String(), r.Does(), r.Shadow, seconds(r.Penalty)})
	}
	return list, nil
}

// PenaltyList is the answer of /api/v1/penalties: those that run, by rule, the one that
// ends soonest first.
type PenaltyList struct {
	Penalties []Penalty `json:"penalties"`
}

// Penalty is one that runs.
type Penalty struct {
	Rule   string    `json:"rule"`
	Shadow bool      `json:"shadow"` // it does not enforce
	Key    string    `json:"key"`
	Until  time.Time `json:"until"`
}

func penalties(q *question) (PenaltyList, error) {
	list := PenaltyList{Penalties: []Penalty{}}
	for _, p := range q.engine.Penalties(q.now) {
		list.Penalties = append(list.Penalties, Penalty{p.Rule, p.Shadow, p.Subject.String(), *later(p.Until, 0)})
	}
	return list, nil
}

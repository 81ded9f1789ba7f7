package admin

import "net/http"

// Limits is the answer of /api/v1/limits: the keys nearest to a threshold.
type Limits struct {
	Limits []Near `json:"limits"` // the nearest first
}

// Near is a key near the threshold of a condition, or beyond it.
type Near struct {
	Percent int64    `json:"percent"` // of the threshold; of `min` where a mean is 0
	Holds   bool     `json:"holds"`   // the condition does; the rule may have others
	Rule    string   `json:"rule"`
	Reading *Reading `json:"reading"`
}

const defaultNear = 20

func limits(q *question) (Limits, error) {
	n, err := parseLimit(q.form.Get("limit"), defaultNear)
	if err != nil {
		return Limits{}, err
	}
	near, err := q.engine.Limits(q.form.Get("rule"), n, q.now)
	if err != nil {
		return Limits{}, failure{http.StatusNotFound, err}
	}
	answer := Limits{Limits: []Near{}}
	for _, k := range near {
		answer.Limits = append(answer.Limits, Near{k.Percent, k.Holds, k.Rule.Name, readingOf(k.Measure)})
	}
	return answer, nil
}

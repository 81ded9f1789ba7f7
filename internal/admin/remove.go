package admin

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/audit-milter/audit-milter/policy"
)

// Remove is what /api/v1/remove takes: a series or a rule, and the key.
type Remove struct {
	Series string `json:"series,omitempty"`
	Rule   string `json:"rule,omitempty"` // whose penalty ends
	Key    string `json:"key"`            // an address, a block or a text
}

// Removed is the answer of /api/v1/remove.
type Removed struct {
	Series  string `json:"series,omitempty"`
	Rule    string `json:"rule,omitempty"`
	Key     string `json:"key"`
	Removed int    `json:"removed"` // how many keys, or penalties

	// Penalties is how many run on for the key, or have addresses in common with it: after
	// a penalty was to end, those of its rule.
	Penalties int `json:"penalties,omitempty"`

	// Others is for whom those of the rule run on, the first ten.
	Others []string `json:"others,omitempty"`

	// Left is what other nodes of the cluster have counted, which they take back by
	// themselves as soon as they hear of it.
	Left []Left `json:"left,omitempty"`
}

// Left is what one node has still to take back.
type Left struct {
	Node  string `json:"node"`
	Count int64  `json:"count"` // over all windows
	Away  bool   `json:"away"`
}

func remove(q *question, r Remove) (Removed, error) {
	switch {
	case r.Series != "" && r.Rule != "":
		return Removed{}, errors.New("a series and a rule are named; what is removed belongs to one of them")
	case r.Rule != "":
		return q.removePenalty(r)
	}
	return q.removeKeys(r)
}

func (q *question) removePenalty(r Remove) (Removed, error) {
	ran, err := q.engine.RemovePenalty(r.Rule, r.Key, q.now)
	if err != nil {
		return Removed{}, failure{http.StatusNotFound, err}
	}
	done := Removed{Rule: r.Rule, Key: r.Key}
	if ran {
		done.Removed = 1
		q.Log.Info("penalty ended by hand", "rule", r.Rule, "key", r.Key)
	}
	t, err := policy.ParseBlock(r.Key)
	if err != nil { // a text has nothing in common with another one
		return done, nil
	}
	for _, p := range q.engine.Penalties(q.now) {
		if p.Rule != r.Rule || !p.Concerns(t) {
			continue
		}
		if done.Penalties++; len(done.Others) < 10 {
			done.Others = append(done.Others, p.Subject.String())
		}
	}
	return done, nil
}

func (q *question) removeKeys(r Remove) (done Removed, err error) {
	l, t, err := q.target(r.Series, r.Key)
	if err == nil {
		err = changeable(l.Counter)
	}
	if err != nil {
		return done, err
	}
	done = Removed{Series: r.Series, Key: t.String()}
	switch {
	case t.IsBlock() && l.Of != nil:
		return done, fmt.Errorf("the series %s counts different values, of which no block can be removed; name one address", r.Series)
	case t.IsBlock():
		done.Removed = l.RemoveBlock(t.Block(), q.now)
	case l.Remove(t.Key, q.now):
		done.Removed = 1
	}
	for _, p := range q.engine.Penalties(q.now) {
		if p.Concerns(t) {
			done.Penalties++
		}
	}
	done.Left = q.left(l, t)
	q.Log.Info("removed by hand", "series", r.Series, "key", t, "keys", done.Removed)
	return done, nil
}

// left is what other nodes have counted and have not taken back yet.
func (q *question) left(l *policy.Lasting, t policy.Target) (left []Left) {
	for _, node := range l.ShareNodes() {
		share := l.Share(node)
		if share == nil { // it has left just now
			continue
		}
		if n := share.Count(t.Key, t.Mask, 0, l.Definition.Windows-1, q.now); n != 0 {
			left = append(left, Left{node, n, q.isAway(node)})
		}
	}
	return left
}

// isAway reports whether nothing is heard of a node, also since it is unknown.
func (q *question) isAway(node string) bool {
	if q.Cluster == nil {
		return true
	}
	n, known := q.Cluster().Of(node)
	return !known || n.IsAway(q.now)
}

package admin

import (
	"errors"
	"fmt"

	"github.com/audit-milter/audit-milter/series"
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
	done := Removed{Rule: r.Rule, Key: r.Key}
	if ran {
		done.Removed = 1
		q.Log.Info("penalty ended by hand", "rule", r.Rule, "key", r.Key)
	}
	return done, err
}

func (q *question) removeKeys(r Remove) (done Removed, err error) {
	c, t, err := q.target(r.Series, r.Key)
	if err == nil {
		err = changeable(c)
	}
	if err != nil {
		return done, err
	}
	done = Removed{Series: r.Series, Key: t.String()}
	s, ok := c.(*series.Series)
	switch {
	case t.IsBlock() && !ok:
		err = fmt.Errorf("the series %s counts different values, of which no block can be removed; name one address", r.Series)
	case t.IsBlock():
		done.Removed = s.RemoveBlock(t.Block())
	case c.Remove(t.Key):
		done.Removed = 1
	}
	if err == nil {
		q.Log.Info("removed by hand", "series", r.Series, "key", t, "keys", done.Removed)
	}
	return done, err
}

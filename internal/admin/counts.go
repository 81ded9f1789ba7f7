package admin

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	"github.com/audit-milter/audit-milter/policy"
	"github.com/audit-milter/audit-milter/series"
)

// Series is what there is to know of one series.
type Series struct {
	Name            string `json:"name"`
	Type            string `json:"type"`
	Distinct        bool   `json:"distinct"`         // counts different values, not events
	IntervalSeconds int64  `json:"interval_seconds"` // 0 for what is open at present
	Windows         int    `json:"windows"`
	Keys            int    `json:"keys"` // held now
	MaxKeys         int    `json:"max_keys"`
}

// SeriesList is the answer of /api/v1/series, in the order of the configuration.
type SeriesList struct {
	Series []Series `json:"series"`
}

func listSeries(q *question) (SeriesList, error) {
	list := SeriesList{Series: []Series{}}
	for _, c := range q.engine.Counters() {
		list.Series = append(list.Series, describe(c))
	}
	return list, nil
}

func describe(c policy.Counter) Series {
	d := c.Definition()
	_, distinct := c.(*series.Distinct)
	return Series{d.Name, d.Type.String(), distinct, seconds(d.Interval), d.Windows, c.Len(), d.MaxKeys}
}

func seconds(d time.Duration) int64 { return int64(d / time.Second) }

// Count is the answer of /api/v1/count.
type Count struct {
	Series          string   `json:"series"`
	Node            string   `json:"node,omitempty"` // whose counts; missing: those of all
	Key             string   `json:"key"`            // as keys are spelt
	IntervalSeconds int64    `json:"interval_seconds"`
	From            int      `json:"from"` // the newest window of the range
	To              int      `json:"to"`   // its oldest window
	Count           int64    `json:"count"`
	Windows         []Window `json:"windows"` // from From to To
}

// Window is a key's count in one window.
type Window struct {
	Window int       `json:"window"`       // 0 is the current one
	Start  time.Time `json:"window_start"` // in UTC
	Count  int64     `json:"count"`
}

func count(q *question) (Count, error) {
	l, t, err := q.target(q.form.Get("series"), q.form.Get("key"))
	if err != nil {
		return Count{}, err
	}
	c, node, nodeErr := q.partOf(l)
	from, to, windowsErr := windows(q.form.Get("windows"), l.Counter)
	if err := cmp.Or(nodeErr, windowsErr); err != nil {
		return Count{}, err
	}
	d := l.Definition
	total := c.Count(t.Key, t.Mask, from, to, q.now)
	return Count{d.Name, node, t.String(), seconds(d.Interval), from, to, total, q.windows(c, t)[from : to+1]}, nil
}

// windows are the counts of every single window.
func (q *question) windows(c policy.Counter, t policy.Target) []Window {
	counts, _ := c.Counts(nil, t.Key, t.Mask, q.now)
	all := make([]Window, len(counts))
	for i, n := range counts {
		all[i] = Window{i, windowStart(c.Definition(), q.now, i), n}
	}
	return all
}

// windowStart is when the window of that number began; of a gauge it is the present.
func windowStart(d series.Definition, now time.Time, window int) time.Time {
	if d.IsGauge() {
		return now.UTC().Truncate(time.Second)
	}
	begin := windowAt(d.Interval, now) - int64(window)
	return time.Unix(begin*seconds(d.Interval), 0).UTC()
}

// windowAt is the number since 1970 of the window that a moment is in.
func windowAt(interval time.Duration, at time.Time) int64 {
	s := seconds(interval)
	n := at.Unix() / s
	if at.Unix()%s < 0 {
		n--
	}
	return n
}

// Add is what /api/v1/add takes.
type Add struct {
	Series string `json:"series"`
	Key    string `json:"key"`
	Count  *int64 `json:"count"` // 1 where it is not given; may be negative
}

// Added is the answer of /api/v1/add.
type Added struct {
	Series string `json:"series"`
	Key    string `json:"key"`
	Count  int64  `json:"count"` // of the current window, then
}

func add(q *question, a Add) (Added, error) {
	l, t, err := q.target(a.Series, a.Key)
	if err != nil {
		return Added{}, err
	}
	c := l.Counter
	s, err := addable(c)
	n := int64(1)
	if a.Count != nil {
		n = *a.Count
	}
	switch {
	case err != nil:
		return Added{}, err
	case t.IsBlock():
		return Added{}, fmt.Errorf("nothing can be added to the block %s; name one address", t)
	case n == 0:
		return Added{}, errors.New("a count of 0 changes nothing")
	}
	s.Add(t.Key, n, q.now)
	q.Log.Info("added by hand", "series", a.Series, "key", t, "amount", n)
	return Added{a.Series, t.String(), c.Count(t.Key, t.Mask, 0, 0, q.now)}, nil
}

// addable is a series that amounts can be added to by hand.
func addable(c policy.Counter) (*series.Series, error) {
	s, ok := c.(*series.Series)
	if !ok {
		return nil, fmt.Errorf("the series %s counts different values; no number can be added to that", c.Definition().Name)
	}
	return s, changeable(c)
}

// changeable says why a series cannot be changed by hand.
func changeable(c policy.Counter) error {
	if d := c.Definition(); d.IsGauge() {
		return fmt.Errorf("%s tells what is open at present, and cannot be changed by hand", d.Name)
	}
	return nil
}

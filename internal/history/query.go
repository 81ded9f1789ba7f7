package history

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/audit-milter/audit-milter/policy"
	"github.com/audit-milter/audit-milter/series"
)

// Query is a question to a history.
type Query struct {
	Series []string // a column each
	Union  bool     // one column, their sum

	Block       netip.Prefix // of series that are keyed by addresses; the zero one: all
	Key, Prefix string       // of series that are keyed by texts: only the key, only those that begin so; empty: all
	Sizes       Sizes        // a line for each block of these sizes; the zero one: one line for all addresses

	From, To time.Time // windows that begin at From or later and before To; zero: without this bound
	Node     string    // only what this node counted; empty: what all counted

	By       Period
	Location *time.Location // whose days there are

	ByCount   bool   // the largest count of the first column first, not the lowest key
	Limit     int    // how many lines there are of a period; 0: all
	Threshold *int64 // only lines with a count, in any column, that is not lower
}

// Period is what a line counts over.
type Period uint8

const (
	Whole   Period = iota // all the time that is asked for
	Days                  // a day each
	Windows               // a window each
)

// Answer is what the history says.
type Answer struct {
	Columns  []string
	Distinct bool    // a column has estimates of how many different values there were in each window and of each key, added up
	PerKey   bool    // a line for each key or block; else one for all addresses that were asked for
	Lines    []Line  // by Begin, then in the order that was asked for; those that count nothing are left out, except of the only one
	Total    []int64 // of all lines, also of those that the limit or the threshold leaves out
}

// Line is the counts of a key or block, in the order of the columns.
type Line struct {
	Begin  time.Time // of the day or window
	Of     Group
	Counts []int64
}

// maxLines bounds the memory of a query: a million lines take about 700 MB, all that
// is read meanwhile included.
const maxLines = 3_000_000

// Run puts the question to the history in a directory.
func (q Query) Run(dir string) (Answer, error) { return q.run(dir, maxLines) }

// run answers with at most so many lines.
func (q Query) run(dir string, most int) (Answer, error) {
	if err := q.check(); err != nil {
		return Answer{}, err
	}
	var views []*view
	defer func() {
		for _, v := range views {
			v.close()
		}
	}()
	for _, name := range q.Series {
		v, err := look(dir, name, overlapping(q.From, q.To, q.Node))
		if err == nil && len(v.files) == 0 {
			err = q.nothing(dir, name)
		}
		if err != nil {
			return Answer{}, err
		}
		views = append(views, v)
	}
	t, err := q.newTally(views, most)
	if err == nil {
		err = t.scan(views)
	}
	if err != nil {
		return Answer{}, err
	}
	return t.answer()
}

// check looks for what is wrong in any history.
func (q *Query) check() error {
	for i, name := range q.Series {
		if slices.Contains(q.Series[:i], name) {
			return fmt.Errorf("the series %s is named twice", name)
		}
	}
	switch {
	case len(q.Series) == 0:
		return errors.New("a series is missing")
	case !q.From.IsZero() && !q.To.IsZero() && !q.From.Before(q.To):
		return fmt.Errorf("the end, %s, is not after the begin, %s", q.To.Format(time.RFC3339), q.From.Format(time.RFC3339))
	}
	return nil
}

// nothing says why there is no file of a series for the question.
func (q *Query) nothing(dir, name string) error {
	files, err := list(seriesDir(dir, name))
	if err != nil {
		return err
	}
	var nodes []string
	var first, last time.Time
	for _, f := range files {
		if !slices.Contains(nodes, f.Node) {
			nodes = append(nodes, f.Node)
		}
		if q.Node != "" && f.Node != q.Node {
			continue
		}
		if first.IsZero() || f.First.Before(first) {
			first = f.First
		}
		if f.Last.After(last) {
			last = f.Last
		}
	}
	if q.Node != "" && !slices.Contains(nodes, q.Node) {
		slices.Sort(nodes)
		return policy.UnknownError{What: "node", Name: q.Node, Known: nodes}
	}
	return fmt.Errorf("the history of %s has nothing of that time; its first window begins at %s, its last one at %s",
		name, q.local(first), q.local(last))
}

func (q *Query) local(t time.Time) string {
	return t.In(q.location()).Format("2006-01-02T15:04:05Z07:00")
}

func (q *Query) location() *time.Location {
	if q.Location == nil {
		return time.UTC
	}
	return q.Location
}

// kind is what the files of all series must agree in.
type kind struct {
	addresses  bool
	ipv4, ipv6 bool // whether there can be such
}

// kindOf is that of the series whose newest files are given, and an error if the
// question does not fit to it.
func (q *Query) kindOf(newest []*file) (k kind, err error) {
	k.addresses = newest[0].Type.IsAddress()
	for _, f := range newest {
		ipv4, ipv6 := f.Type == series.CIDR || f.Type == series.IP, f.Type == series.CIDR6 || f.Type == series.IP
		k.ipv4, k.ipv6 = k.ipv4 || ipv4, k.ipv6 || ipv6
		switch is := f.Type.IsAddress(); {
		case is != k.addresses:
			return k, fmt.Errorf("%s is keyed by texts and %s by addresses, or the other way round, so that they have no line in common", newest[0].Series, f.Series)
		case !is && q.Block.IsValid():
			return k, fmt.Errorf("the series %s is keyed by texts, which are in no block such as %s; a key or a prefix can be asked for", f.Series, q.Block)
		case !is && q.Sizes.given():
			return k, fmt.Errorf("the series %s is keyed by texts, which have no cidrsize", f.Series)
		case is && (q.Key != "" || q.Prefix != ""):
			return k, fmt.Errorf("the series %s is keyed by addresses; name a block, such as 192.0.2.0/24, not a key or a prefix", f.Series)
		case q.Block.IsValid() && (q.Block.Addr().Is4() && !ipv4 || q.Block.Addr().Is6() && !ipv6):
			return k, fmt.Errorf("the series %s is of type %s, so that nothing of it is in %s", f.Series, f.Type, q.Block)
		}
	}
	if q.Block.IsValid() {
		k.ipv4, k.ipv6 = q.Block.Addr().Is4(), q.Block.Addr().Is6()
	}
	return k, nil
}

package history

import (
	"fmt"
	"math"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/audit-milter/audit-milter/series"
)

// tally adds up the rows that a question asks for. Blocks are counted in the smallest
// size that is asked for, of which the larger ones are the sums.
type tally struct {
	Query
	kind
	sizes  Sizes
	series []*file // the newest file of each, which tells what it is
	most   int     // groups, and counts in a column

	mu      sync.Mutex
	groups  groups
	columns []column
}

// column is the counts of a series.
type column struct {
	whole []int64 // by the number of the group, where there is only one period
	cells map[cell]int64
}

// cell is where a count stands in a column.
type cell struct {
	group int32
	begin int64 // of the period, in seconds since 1970; 0 where there is only one
}

func (c *column) add(at cell, n int64) {
	if at.begin != 0 {
		c.cells[at] = series.Plus(c.cells[at], n)
		return
	}
	if missing := int(at.group) + 1 - len(c.whole); missing > 0 {
		c.whole = append(c.whole, make([]int64, missing)...)
	}
	c.whole[at.group] = series.Plus(c.whole[at.group], n)
}

// all yields the counts, and zeros among them.
func (c *column) all(yield func(cell, int64) bool) {
	for i, n := range c.whole {
		if !yield(cell{group: int32(i)}, n) {
			return
		}
	}
	for at, n := range c.cells {
		if !yield(at, n) {
			return
		}
	}
}

func (q *Query) newTally(views []*view, most int) (t *tally, err error) {
	t = &tally{Query: *q, most: most, groups: newGroups()}
	for _, v := range views {
		f, err := v.newest()
		if err != nil {
			return nil, err
		}
		t.series = append(t.series, f)
	}
	if t.kind, err = q.kindOf(t.series); err != nil {
		return nil, err
	}
	if q.Sizes.given() {
		if t.sizes, err = q.Sizes.fit(t.kind, q.Block); err != nil {
			return nil, err
		}
	}
	t.columns = make([]column, len(q.Series))
	if q.Union {
		t.columns = t.columns[:1]
	}
	for i := range t.columns {
		t.columns[i].cells = make(map[cell]int64)
	}
	return t, nil
}

// scan reads the files, as many at a time as there are processors.
func (t *tally) scan(views []*view) error {
	type job struct {
		series int
		file   *file
	}
	var jobs []job
	for i, v := range views {
		for _, f := range v.files {
			jobs = append(jobs, job{i, f})
		}
	}
	var next atomic.Int64
	errs := make([]error, runtime.GOMAXPROCS(0))
	var wg sync.WaitGroup
	for worker := range errs {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(jobs)); i = next.Add(1) - 1 {
				if err := t.file(jobs[i].series, jobs[i].file); err != nil {
					errs[worker] = err
					next.Store(int64(len(jobs))) // the others end too
				}
			}
		})
	}
	wg.Wait()
	return firstOf(errs)
}

func firstOf(errs []error) error {
	i := slices.IndexFunc(errs, func(err error) bool { return err != nil })
	if i < 0 {
		return nil
	}
	return errs[i]
}

// file adds the rows of a file, and closes it.
func (t *tally) file(column int, f *file) error {
	if err := f.read(); err != nil {
		return err
	}
	defer f.Close()
	if is := t.series[column]; f.Type.IsAddress() != t.addresses || f.Distinct != is.Distinct {
		return fmt.Errorf("the series %s was another one before, of type %s, and counted otherwise; ask for the time after %s, or before", is.Series, f.Type, t.local(f.Last))
	}
	s := scanner{tally: t, file: f, column: &t.columns[min(column, len(t.columns)-1)]}
	inside := (t.From.IsZero() || !f.First.Before(t.From)) && (t.To.IsZero() || f.Last.Before(t.To))
	s.from, s.to = math.MinInt64, math.MaxInt64
	if !t.From.IsZero() {
		s.from = t.From.UnixMilli()
	}
	if !t.To.IsZero() {
		s.to = t.To.UnixMilli()
	}
	for b, err := range f.batches(!inside || t.By != Whole, s.wanted) {
		if err == nil {
			err = s.add(b)
		}
		if err != nil {
			return err
		}
	}
	return s.err
}

// scanner goes through the rows of a file.
type scanner struct {
	*tally
	file     *file
	column   *column
	from, to int64 // of the begin of windows, in milliseconds
	group    []int32
	runs     []run
	day      [2]int64 // the one that was met last, in milliseconds
	err      error
}

// run is the sum of rows that stand together.
type run struct {
	cell
	sum int64
}

// unwanted is the number of a group that is not asked for.
const unwanted = -1

// wanted numbers the groups of a row group's keys, and reports whether any is asked
// for.
func (s *scanner) wanted(keys []string) (any bool) {
	s.group = s.group[:0]
	groups := make([]Group, len(keys))
	for i, key := range keys {
		g, ok, err := s.groupOf(key)
		if err != nil {
			s.err = s.file.about(err)
			return false
		}
		groups[i] = g
		any = any || ok
		if ok {
			s.group = append(s.group, 0)
		} else {
			s.group = append(s.group, unwanted)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, g := range groups {
		if s.group[i] != unwanted {
			s.group[i] = s.groups.number(g)
		}
	}
	return any
}

// groupOf is the group of a key, and whether it is asked for.
func (s *scanner) groupOf(key string) (g Group, ok bool, err error) {
	switch {
	case !s.addresses:
		return Group{Text: key}, (s.Key == "" || key == s.Key) && strings.HasPrefix(key, s.Prefix), nil
	case !s.Block.IsValid() && !s.Sizes.given():
		return Group{}, true, nil
	case key == "":
		return Group{}, !s.Block.IsValid() || s.Block.Bits() == 0 && s.oneFamily(), nil
	}
	a, err := netip.ParseAddr(key)
	switch {
	case err != nil:
		return Group{}, false, fmt.Errorf("it has a key that is not an address: %q", key)
	case s.Block.IsValid() && !s.Block.Contains(a):
		return Group{}, false, nil
	case !s.Sizes.given():
		return Group{}, true, nil
	}
	g.Block, err = a.Prefix(s.sizes.of(a).to)
	return g, true, err
}

// oneFamily reports whether all addresses of the file are of one family: then those
// without rows of their own are in the block of all.
func (s *scanner) oneFamily() bool { return s.file.Type != series.IP }

// add adds the rows of a batch that are asked for.
func (s *scanner) add(b *batch) error {
	if s.err != nil {
		return s.err
	}
	last := cell{group: unwanted}
	for i, key := range b.key {
		c := cell{group: s.group[key]}
		if c.group == unwanted {
			continue
		}
		if len(b.start) > 0 {
			start := b.start[i]
			if start < s.from || start >= s.to {
				continue
			}
			c.begin = s.begin(start)
		}
		if c == last {
			r := &s.runs[len(s.runs)-1]
			r.sum = series.Plus(r.sum, b.count[i])
			continue
		}
		s.runs = append(s.runs, run{c, b.count[i]})
		last = c
	}
	return s.flush()
}

func (s *scanner) flush() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.runs {
		s.column.add(r.cell, r.sum)
	}
	s.runs = s.runs[:0]
	return s.bounded(max(len(s.column.cells), len(s.groups.list)))
}

// bounded is an error if there are more lines than may be.
func (t *tally) bounded(lines int) error {
	if lines <= t.most {
		return nil
	}
	return fmt.Errorf("the answer has more than %d lines, which is as much as is kept in memory; ask for a shorter time, a block or larger blocks", t.most)
}

// begin is when the period of a window begins that begins at a time in milliseconds.
func (s *scanner) begin(start int64) int64 {
	switch s.By {
	case Whole:
		return 0
	case Windows:
		return start / 1000
	}
	if start < s.day[0] || start >= s.day[1] {
		begin, end := dayOf(time.UnixMilli(start).In(s.location()), s.location())
		s.day = [2]int64{begin.UnixMilli(), end.UnixMilli()}
	}
	return s.day[0] / 1000
}

package history

import (
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/audit-milter/audit-milter/policy"
	"github.com/audit-milter/audit-milter/series"
)

// rowsOf is the rows of a window, sorted.
func rowsOf(counts map[series.Key]int64, start int64) []Row {
	rows := make([]Row, 0, len(counts))
	for k, n := range counts {
		if n != 0 {
			rows = append(rows, Row{k.String(), start, n})
		}
	}
	slices.SortFunc(rows, Row.Compare)
	return rows
}

// fold makes one row, with the empty key, of all rows of a window below minCount.
func fold(rows []Row, minCount int64) []Row {
	if minCount <= 1 {
		return rows
	}
	var small Row
	rows = slices.DeleteFunc(rows, func(r Row) bool {
		if r.Count >= minCount {
			return false
		}
		small.Start, small.Count = r.Start, series.Plus(small.Count, r.Count)
		return true
	})
	if small.Count != 0 {
		rows = slices.Insert(rows, 0, small)
	}
	return rows
}

// patience is how often a window is read anew because another one began meanwhile.
const patience = 10

// estimates reads from a series how many different values each key has shown in the
// window that begins at start.
func estimates(c policy.Counter, start int64, now func() time.Time) ([]Row, error) {
	def := c.Definition()
	for range patience {
		t := now()
		current := currentWindow(c, t)
		age := (current - start) / int64(def.Interval/time.Second)
		if age < 0 || age >= int64(def.Windows) {
			return nil, fmt.Errorf("the window has left the series, which has %d", def.Windows)
		}
		var rows []Row
		for k, counts := range c.All(t) {
			if n := counts[age]; n != 0 {
				rows = append(rows, Row{k.String(), start, n})
			}
		}
		if currentWindow(c, now()) == current {
			slices.SortFunc(rows, Row.Compare)
			return rows, nil
		}
	}
	return nil, fmt.Errorf("reading it takes longer than its windows of %v", def.Interval)
}

// currentWindow is when the series' current window begins. After a small step back of
// the clock that may be later than now.
func currentWindow(c policy.Counter, now time.Time) int64 {
	_, elapsed := c.Counts(nil, series.Key{}, series.Host, now)
	interval := int64(c.Definition().Interval)
	begin := now.UnixNano() - int64(elapsed)
	windows := begin / interval
	if windows*interval < begin {
		windows++
	}
	return windows * interval / int64(time.Second)
}

// merged yields the rows of several files in their order, those of the same key and
// window added up. What adds up to nothing is left out.
func merged(sources []iter.Seq2[Row, error]) iter.Seq2[Row, error] {
	return func(yield func(Row, error) bool) {
		m, err := newMerger(sources)
		defer m.stop()
		for err == nil && len(m.heads) > 0 {
			row := m.heads[0].row
			row.Count = 0
			for err == nil && len(m.heads) > 0 && m.heads[0].row.Compare(row) == 0 {
				row.Count = series.Plus(row.Count, m.heads[0].row.Count)
				err = m.advance()
			}
			if err == nil && row.Count != 0 && !yield(row, nil) {
				return
			}
		}
		if err != nil {
			yield(Row{}, err)
		}
	}
}

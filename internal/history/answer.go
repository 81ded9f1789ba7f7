package history

import (
	"cmp"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/audit-milter/audit-milter/series"
)

// answer makes lines of what was added up.
func (t *tally) answer() (Answer, error) {
	a := Answer{Columns: t.Series, PerKey: t.perKey(), Total: make([]int64, len(t.columns))}
	if t.Union {
		a.Columns = []string{strings.Join(t.Series, "+")}
	}
	a.Distinct = slices.ContainsFunc(t.series, func(f *file) bool { return f.Distinct })
	for i := range t.columns {
		for _, n := range t.columns[i].all {
			a.Total[i] = series.Plus(a.Total[i], n)
		}
	}
	var err error
	if a.Lines, err = t.lines(); err != nil {
		return a, err
	}
	a.Lines = slices.DeleteFunc(a.Lines, func(l Line) bool { return !t.shows(l) })
	slices.SortFunc(a.Lines, t.compare)
	if t.Limit > 0 {
		a.Lines = t.limited(a.Lines)
	}
	return a, nil
}

// lines are those of all groups, also of larger blocks, in no order.
func (t *tally) lines() ([]Line, error) {
	var lines []Line
	places := make(map[cell]int)
	at := func(c cell) *Line {
		i, ok := places[c]
		if !ok {
			i = len(lines)
			places[c] = i
			l := Line{Of: t.groups.list[c.group], Counts: make([]int64, len(t.columns))}
			if t.By != Whole {
				l.Begin = time.Unix(c.begin, 0).In(t.location())
			}
			lines = append(lines, l)
		}
		return &lines[i]
	}
	for i := range t.columns {
		for c, n := range t.columns[i].all {
			if n == 0 {
				continue
			}
			for g := range t.larger(c.group) {
				l := at(cell{g, c.begin})
				l.Counts[i] = series.Plus(l.Counts[i], n)
			}
			if err := t.bounded(len(lines)); err != nil {
				return nil, err
			}
		}
	}
	if t.one() && len(lines) == 0 {
		at(cell{group: t.groups.number(Group{})})
	}
	return lines, nil
}

// one reports whether the answer is one line whatever was counted.
func (t *tally) one() bool { return !t.perKey() && t.By == Whole }

// perKey reports whether there is a line for each key or block.
func (t *tally) perKey() bool { return !t.addresses || t.Sizes.given() }

// larger yields a group and the larger blocks that are asked for and hold it.
func (t *tally) larger(group int32) iter.Seq[int32] {
	return func(yield func(int32) bool) {
		block := t.groups.list[group].Block
		if !yield(group) || !block.IsValid() {
			return
		}
		for bits := t.sizes.of(block.Addr()).from; bits < block.Bits(); bits++ {
			larger, _ := block.Addr().Prefix(bits) // which is a size of its family
			if !yield(t.groups.number(Group{Block: larger})) {
				return
			}
		}
	}
}

// shows reports whether a line is told.
func (t *tally) shows(l Line) bool {
	if t.Threshold != nil && slices.Max(l.Counts) < *t.Threshold {
		return false
	}
	return t.one() || slices.ContainsFunc(l.Counts, func(n int64) bool { return n != 0 })
}

func (t *tally) compare(a, b Line) int {
	c := a.Begin.Compare(b.Begin)
	if c == 0 && t.ByCount {
		c = slices.Compare(b.Counts, a.Counts)
	}
	return cmp.Or(c, a.Of.compare(b.Of))
}

// limited is the first lines of each period.
func (t *tally) limited(lines []Line) []Line {
	var begin time.Time
	n := 0
	return slices.DeleteFunc(lines, func(l Line) bool {
		if !l.Begin.Equal(begin) {
			begin, n = l.Begin, 0
		}
		n++
		return n > t.Limit
	})
}

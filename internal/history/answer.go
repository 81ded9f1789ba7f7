package history

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

// answer makes lines of what was added up.
func (t *tally) answer() (Answer, error) {
	a := Answer{Columns: t.Series, PerKey: t.perKey(), Total: make([]int64, len(t.columns))}
	if t.Union {
		a.Columns = []string{strings.Join(t.Series, "+")}
	}
	a.Distinct = slices.ContainsFunc(t.series, func(f *file) bool { return f.Distinct })
	for i, column := range t.columns {
		for _, n := range column {
			a.Total[i] = plus(a.Total[i], n)
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
	type place struct {
		begin int64
		group Group
	}
	places := make(map[place]int)
	var lines []Line
	at := func(p place) *Line {
		i, ok := places[p]
		if !ok {
			i = len(lines)
			places[p] = i
			l := Line{Of: p.group, Counts: make([]int64, len(t.columns))}
			if t.By != Whole {
				l.Begin = time.Unix(p.begin, 0).In(t.location())
			}
			lines = append(lines, l)
		}
		return &lines[i]
	}
	for i, column := range t.columns {
		for c, n := range column {
			for _, g := range t.larger(t.groups[c.group]) {
				l := at(place{c.begin, g})
				l.Counts[i] = plus(l.Counts[i], n)
			}
			if len(lines) > maxLines {
				return nil, errTooManyLines
			}
		}
	}
	if t.one() && len(lines) == 0 {
		at(place{})
	}
	return lines, nil
}

// one reports whether the answer is one line whatever was counted.
func (t *tally) one() bool { return !t.perKey() && t.By == Whole }

// perKey reports whether there is a line for each key or block.
func (t *tally) perKey() bool { return !t.addresses || t.Sizes.given() }

// larger is a group and the larger blocks that are asked for and hold it.
func (t *tally) larger(g Group) []Group {
	groups := []Group{g}
	if g.Block.IsValid() {
		for bits := t.sizes.of(g.Block.Addr()).from; bits < g.Block.Bits(); bits++ {
			block, _ := g.Block.Addr().Prefix(bits) // which is a size of its family
			groups = append(groups, Group{Block: block})
		}
	}
	return groups
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

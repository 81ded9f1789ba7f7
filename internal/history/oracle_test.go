package history

import (
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/audit-milter/audit-milter/internal/short"
	"github.com/audit-milter/audit-milter/policy"
	"github.com/audit-milter/audit-milter/series"
)

// counted is what was counted at some time, as the oracle remembers it.
type counted struct {
	series, node string
	Row
}

// month is a history of a month, and everything that is in it.
type month struct {
	dir   string
	metas map[string]Meta
	all   []counted
}

// zone is one whose days are not those of UTC and, in this month, not all 24 hours
// long.
var zone = func() *time.Location {
	z, err := time.LoadLocation("America/New_York")
	if err != nil {
		panic(err)
	}
	return z
}()

var (
	monthBegins = time.Date(2026, 10, 20, 0, 0, 0, 0, time.UTC)
	monthEnds   = monthBegins.AddDate(0, 1, 0)
)

// aMonth counts at random. A writer on each node writes it, window by window, some of
// it late; estimates of different values, which it would ask a series for, are written
// in files of some hours.
func aMonth(t *testing.T, r *rand.Rand) *month {
	m := &month{dir: t.TempDir(), metas: map[string]Meta{
		"connections": {Type: series.IP, Interval: 5 * time.Minute},
		"rejections":  {Type: series.IP, Interval: time.Hour},
		"ipv4/300":    {Type: series.CIDR, Interval: 5 * time.Minute},
		"users":       {Type: series.String, Interval: 10 * time.Minute},
		"senders":     {Type: series.IP, Interval: time.Hour, Distinct: true},
	}}
	for _, node := range []string{"mx1", "mx-2"} {
		var all []shown
		for _, name := range slices.Sorted(maps.Keys(m.metas)) {
			meta := m.metas[name]
			meta.Series, meta.Node = name, node
			m.metas[name] = meta
			for begin := monthBegins; begin.Before(monthEnds); {
				end := begin.Add(meta.Interval * time.Duration(1+r.IntN(int(96*time.Hour/meta.Interval))))
				rows := m.count(r, meta, begin, end)
				if meta.Distinct {
					m.write(t, r, meta, begin, end, rows)
				}
				for _, row := range rows {
					if !meta.Distinct {
						all = append(all, show(r, meta, row))
					}
				}
				begin = end
			}
		}
		m.tell(t, node, all)
	}
	return m
}

// count counts in some windows.
func (m *month) count(r *rand.Rand, meta Meta, begin, end time.Time) (rows []Row) {
	windows := make([]int64, 1+r.IntN(5))
	for i := range windows {
		windows[i] = begin.Unix() + r.Int64N(int64(end.Sub(begin)/meta.Interval))*int64(meta.Interval/time.Second)
	}
	for range 1 + r.IntN(200) {
		row := Row{m.key(r, meta.Type), windows[r.IntN(len(windows))], int64(r.IntN(20) - 2)}
		if r.IntN(3) == 0 {
			rows = append(rows, Row{row.Key, row.Start, -row.Count})
		}
		rows = append(rows, row)
	}
	for _, row := range rows {
		m.all = append(m.all, counted{meta.Series, meta.Node, row})
	}
	return rows
}

// write writes rows in two parts.
func (m *month) write(t *testing.T, r *rand.Rand, meta Meta, begin, end time.Time, rows []Row) {
	late := r.IntN(len(rows) + 1)
	for part, rows := range [][]Row{rows[late:], rows[:late]} {
		if len(rows) == 0 {
			continue
		}
		slices.SortFunc(rows, Row.Compare)
		name := Name{First: begin, Last: end.Add(-meta.Interval), Through: uint64(end.UnixMilli()), Part: int64(part), Node: meta.Node}
		if err := write(m.dir, name, meta, each(rows)); err != nil {
			t.Fatal(err)
		}
	}
}

// shown is what a series shows at some time.
type shown struct {
	at    time.Time
	kept  policy.Kept
	delta series.Delta
}

// show shows a row in its window, or after it was written.
func show(r *rand.Rand, meta Meta, row Row) shown {
	start := time.Unix(row.Start, 0)
	kept := plain(meta.Series, meta.Interval)
	kept.Definition.Type = meta.Type
	at := start.Add(meta.Interval / 2)
	if r.IntN(10) == 0 {
		at = start.Add(meta.Interval + time.Minute)
	}
	return shown{at, kept, adds(row.Key, start, row.Count)}
}

// tell tells a writer in the order of time, and of the time between.
func (m *month) tell(t *testing.T, node string, all []shown) {
	slices.SortStableFunc(all, func(a, b shown) int { return a.at.Compare(b.at) })
	f := newTicks(t, Options{Dir: m.dir, Node: node})
	f.now = monthBegins
	for _, s := range all {
		if s.at.After(f.now) {
			f.w.Take(f.next(s.at.Sub(f.now) - time.Second))
			f.w.Take(f.next(time.Second))
		}
		f.take(0, s.kept, s.delta)
	}
	f.w.Close()
}

// maintain works as of some time on files that are not new, and tells how many it merged.
func (m *month) maintain(t *testing.T, now time.Time) uint64 {
	t.Helper()
	age(t, m.dir, monthBegins)
	maintainer, _ := maintainer(m.dir)
	maintainer.must(t, now)
	return maintainer.Stats().Merged
}

func (m *month) key(r *rand.Rand, of series.Type) string {
	ipv4 := of == series.CIDR || of == series.IP && r.IntN(2) == 0
	switch {
	case r.IntN(20) == 0:
		return ""
	case of == series.String:
		return fmt.Sprintf("user%d@example.%d", r.IntN(12), r.IntN(2))
	case ipv4:
		return netip.AddrFrom4([4]byte{byte(10 + r.IntN(2)), byte(r.IntN(2)), byte(r.IntN(3)), byte(r.IntN(4))}).String()
	}
	return netip.AddrFrom16([16]byte{0x20, 1, 0x0d, 0xb8, byte(r.IntN(2)), 7: byte(r.IntN(2)), 15: byte(r.IntN(3))}).String()
}

// merge makes one file of some of a series and node, as maintenance does, and deletes
// some of those that it replaces.
func (m *month) merge(t *testing.T, r *rand.Rand, of Meta) {
	dir := seriesDir(m.dir, of.Series)
	v, err := look(m.dir, of.Series, overlapping(time.Time{}, time.Time{}, of.Node))
	if err != nil {
		t.Fatal(err)
	}
	defer v.close()
	from := r.IntN(len(v.files))
	files := v.files[from:min(from+2+r.IntN(40), len(v.files))]
	name := files[0].Name
	of.Replaces = nil
	sums := make(map[Row]int64)
	for _, f := range files {
		if err := f.read(); err != nil {
			t.Fatal(err)
		}
		of.Replaces = append(append(of.Replaces, f.Name.String()), f.Replaces...)
		if f.Last.After(name.Last) {
			name.Last = f.Last
		}
		name.Level = max(name.Level, f.Level)
		name.Through = max(name.Through, f.Through)
		for row, err := range f.rows() {
			if err != nil {
				t.Fatal(err)
			}
			sums[Row{row.Key, row.Start, 0}] += row.Count
		}
	}
	name.Level++
	var rows []Row
	for row, n := range sums {
		if n != 0 {
			rows = append(rows, Row{row.Key, row.Start, n})
		}
	}
	slices.SortFunc(rows, Row.Compare)
	if err := write(m.dir, name, of, each(rows)); err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if r.IntN(2) == 0 {
			if err := os.Remove(filepath.Join(dir, f.Name.String())); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// naive answers a question by going through all that was ever counted, and every
// size, one after the other.
func (m *month) naive(q Query, sizes [2][2]int) map[string][]int64 {
	columns := len(q.Series)
	if q.Union {
		columns = 1
	}
	lines := make(map[string][]int64)
	for _, c := range m.all {
		column := slices.Index(q.Series, c.series)
		start := time.Unix(c.Start, 0)
		if column < 0 || q.Node != "" && c.node != q.Node || start.Before(q.From) || !q.To.IsZero() && !start.Before(q.To) {
			continue
		}
		for _, label := range naiveLabels(q, sizes, m.metas[c.series].Type, c.Key) {
			switch q.By {
			case Days:
				label = start.In(q.Location).Format(time.DateOnly) + " " + label
			case Windows:
				label = start.UTC().Format(time.DateTime) + " " + label
			}
			if lines[label] == nil {
				lines[label] = make([]int64, columns)
			}
			lines[label][min(column, columns-1)] += c.Count
		}
	}
	for label, counts := range lines {
		none := !slices.ContainsFunc(counts, func(n int64) bool { return n != 0 })
		if none && label != "all" || q.Threshold != nil && slices.Max(counts) < *q.Threshold {
			delete(lines, label)
		}
	}
	return lines
}

func naiveLabels(q Query, sizes [2][2]int, of series.Type, key string) (labels []string) {
	if of == series.String {
		if q.Key != "" && key != q.Key || !strings.HasPrefix(key, q.Prefix) {
			return nil
		}
		return []string{key}
	}
	if key == "" {
		everything := !q.Block.IsValid() || q.Block.String() == "0.0.0.0/0" && of == series.CIDR
		switch {
		case !everything:
			return nil
		case q.Sizes.given():
			return []string{""}
		}
		return []string{"all"}
	}
	a := netip.MustParseAddr(key)
	if q.Block.IsValid() && !q.Block.Contains(a) {
		return nil
	}
	if !q.Sizes.given() {
		return []string{"all"}
	}
	size := sizes[0]
	if a.Is6() {
		size = sizes[1]
	}
	for bits := size[0]; bits <= size[1]; bits++ {
		labels = append(labels, netip.PrefixFrom(a, bits).Masked().String())
	}
	return labels
}

// label is a line's, as the naive answer has it.
func label(q Query, perKey bool, l Line) string {
	text := l.Of.Text
	if l.Of.Block.IsValid() {
		text = l.Of.Block.String()
	} else if !perKey {
		text = "all"
	}
	switch q.By {
	case Days:
		return l.Begin.In(q.Location).Format(time.DateOnly) + " " + text
	case Windows:
		return l.Begin.UTC().Format(time.DateTime) + " " + text
	}
	return text
}

// questions are of every form.
func questions(t *testing.T, r *rand.Rand) iter.Seq2[Query, [2][2]int] {
	return func(yield func(Query, [2][2]int) bool) {
		for range 30 {
			q := Query{Location: zone, By: Period(r.IntN(3)), ByCount: r.IntN(2) == 0, Union: r.IntN(3) == 0, Node: []string{"", "", "mx1", "mx-2"}[r.IntN(4)]}
			at := func() time.Time {
				return monthBegins.Add(time.Duration(r.Int64N(int64(monthEnds.Sub(monthBegins))))).Truncate([]time.Duration{1, time.Hour}[r.IntN(2)])
			}
			if r.IntN(2) == 0 {
				q.From = at()
			}
			if r.IntN(2) == 0 {
				q.To = at()
			}
			if !q.To.IsZero() && !q.From.Before(q.To) {
				q.To = time.Time{}
			}
			if r.IntN(4) == 0 {
				q.Threshold = new(int64)
				*q.Threshold = int64(r.IntN(200) - 20)
			}
			var sizes [2][2]int
			switch r.IntN(3) {
			case 0:
				q.Series = []string{"users"}
				q.Key = []string{"", "", "user3@example.1", "nobody"}[r.IntN(4)]
				if q.Key == "" {
					q.Prefix = []string{"", "user1", "user3@", "u", "x"}[r.IntN(5)]
				}
			case 1:
				q.Series = []string{"ipv4/300"}
				q.Block = netip.MustParsePrefix([]string{"0.0.0.0/0", "10.0.0.0/8", "11.1.0.0/16", "10.0.2.3/32", "192.0.2.0/24"}[r.IntN(5)])
				if r.IntN(2) == 0 {
					from := q.Block.Bits() + r.IntN(2)*r.IntN(33-q.Block.Bits())
					sizes[0] = [2]int{from, from + r.IntN(2)*r.IntN(33-from)}
					q.Sizes = parsedSizes(t, fmt.Sprintf("%d-%d", sizes[0][0], sizes[0][1]))
				}
			default:
				q.Series = []string{"connections", "rejections", "senders"}[r.IntN(3):]
				if r.IntN(2) == 0 {
					q.Block = netip.MustParsePrefix([]string{"0.0.0.0/0", "::/0", "2001:db8::/33", "10.1.0.0/16"}[r.IntN(4)])
				}
				sizes = [2][2]int{{16 + r.IntN(4), 20 + r.IntN(13)}, {33 + r.IntN(20), 64}}
				switch r.IntN(3) {
				case 0:
					q.Sizes = parsedSizes(t, fmt.Sprintf("%d-%d,%d-%d", sizes[0][0], sizes[0][1], sizes[1][0], sizes[1][1]))
				case 1:
					if !q.Block.IsValid() {
						sizes = [2][2]int{{24, 24}, {64, 64}}
						q.Sizes = parsedSizes(t, "24")
					}
				}
			}
			if !yield(q, sizes) {
				return
			}
		}
	}
}

func parsedSizes(t *testing.T, text string) Sizes {
	t.Helper()
	s, err := ParseSizes(text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (m *month) verify(t *testing.T, r *rand.Rand) {
	t.Helper()
	found := 0
	for q, sizes := range questions(t, r) {
		want := m.naive(q, sizes)
		got, err := q.Run(m.dir)
		if err != nil {
			t.Fatalf("%+v: %v", q, err)
		}
		lines := make(map[string][]int64)
		for i, l := range got.Lines {
			lines[label(q, got.PerKey, l)] = l.Counts
			if i > 0 {
				verifyOrder(t, q, got.Lines[i-1], l)
			}
		}
		if len(lines) != len(got.Lines) {
			t.Errorf("%+v: a line comes twice", q)
		}
		if len(want) == 0 && slices.Contains([]string{"connections", "ipv4/300"}, q.Series[0]) && !q.Sizes.given() && q.By == Whole && q.Threshold == nil {
			want["all"] = make([]int64, len(got.Columns))
		}
		for label, counts := range want {
			if !slices.Equal(counts, lines[label]) {
				t.Fatalf("%+v: %s is %v, not %v", q, label, lines[label], counts)
			}
		}
		if len(lines) != len(want) {
			t.Fatalf("%+v: %d lines, not %d", q, len(lines), len(want))
		}
		verifyTotal(t, q, got, m)
		if r.IntN(4) == 0 {
			verifyLimit(t, q, got, m.dir)
		}
		found += len(want)
	}
	if found < 200 {
		t.Errorf("all questions together found %d lines", found)
	}
}

func verifyOrder(t *testing.T, q Query, a, b Line) {
	t.Helper()
	c := a.Begin.Compare(b.Begin)
	if c == 0 && q.ByCount {
		c = slices.Compare(b.Counts, a.Counts)
	}
	smaller := func(l Line) bool { return l.Of == Group{} }
	if c == 0 && smaller(a) != smaller(b) {
		c = map[bool]int{true: 1, false: -1}[smaller(a)]
	}
	if c == 0 && a.Of.Block.IsValid() {
		c = a.Of.Block.Addr().Compare(b.Of.Block.Addr())
		if c == 0 {
			c = a.Of.Block.Bits() - b.Of.Block.Bits()
		}
	} else if c == 0 {
		c = strings.Compare(a.Of.Text, b.Of.Text)
	}
	if c >= 0 {
		t.Errorf("%+v: %+v comes before %+v", q, a, b)
	}
}

// verifyTotal compares the total with that of a question for one line.
func verifyTotal(t *testing.T, q Query, got Answer, m *month) {
	t.Helper()
	one := q
	one.Threshold, one.By = nil, Whole
	if q.Sizes.given() {
		one.Sizes = Sizes{}
	}
	want := make([]int64, len(got.Columns))
	for _, counts := range m.naive(one, [2][2]int{}) {
		for i, n := range counts {
			want[i] += n
		}
	}
	if !slices.Equal(got.Total, want) {
		t.Fatalf("%+v: the total is %v, not %v", q, got.Total, want)
	}
}

// verifyLimit compares a limited answer with the one that has all lines.
func verifyLimit(t *testing.T, q Query, all Answer, dir string) {
	t.Helper()
	q.Limit = 3
	limited, err := q.Run(dir)
	if err != nil {
		t.Fatal(err)
	}
	var want []Line
	n := 0
	for i, l := range all.Lines {
		if i > 0 && !l.Begin.Equal(all.Lines[i-1].Begin) {
			n = 0
		}
		if n++; n <= 3 {
			want = append(want, l)
		}
	}
	same := func(a, b Line) bool {
		return a.Begin.Equal(b.Begin) && a.Of == b.Of && slices.Equal(a.Counts, b.Counts)
	}
	if !slices.EqualFunc(limited.Lines, want, same) {
		t.Fatalf("%+v: %d lines, not the %d first ones of each period", q, len(limited.Lines), len(want))
	}
}

func TestEveryFormOfQuestionIsAnsweredAsByANaiveSum(t *testing.T) {
	short.Skip(t)
	r := rand.New(rand.NewPCG(5, 11))
	m := aMonth(t, r)
	m.verify(t, r)
	var merged uint64
	for range 2 { // the second time, what was replaced is deleted
		merged += m.maintain(t, monthBegins.AddDate(0, 0, 12))
		m.verify(t, r)
	}
	if merged < 100 {
		t.Errorf("%d files were merged", merged)
	}
	for range 2 { // also as somebody else might merge
		for _, name := range slices.Sorted(maps.Keys(m.metas)) {
			meta := m.metas[name]
			for _, meta.Node = range []string{"mx1", "mx-2"} {
				for range 10 {
					m.merge(t, r, meta)
				}
			}
		}
		m.verify(t, r)
	}
	m.maintain(t, monthEnds.AddDate(0, 0, 7))
	m.verify(t, r)
}

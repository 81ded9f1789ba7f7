package history

import (
	"errors"
	"io/fs"
	"iter"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/audit-milter/audit-milter/series"
)

func export(t *testing.T, dir, name string, from, to time.Time) map[Record]int64 {
	t.Helper()
	sums := make(map[Record]int64)
	for r, err := range Export(dir, name, from, to, "") {
		if err != nil {
			t.Fatal(err)
		}
		n := r.Count
		r.Count = 0
		sums[r] += n
	}
	return sums
}

func records(list []Record, err error) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		for _, r := range list {
			if !yield(r, nil) {
				return
			}
		}
		if err != nil {
			yield(Record{}, err)
		}
	}
}

func TestWhatIsExportedAndLoadedIsTheSameAgain(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	var all []Record
	start := someDay.Unix()
	for i := range int64(5000) {
		interval := 300 + i%2*300
		all = append(all, Record{Row{[]string{"", "a", "ü|\n\"", "b"}[i%4], start + i/7%500*600, i - 100}, interval})
	}
	meta := Meta{Series: "users", Type: series.String, Node: "mx1"}
	l, err := NewLoader(from, meta, false)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Load(records(all, nil)); err != nil {
		t.Fatal(err)
	}
	want := make(map[Record]int64)
	for _, r := range all {
		if err := l.Check(r); err != nil {
			t.Fatal(err)
		}
		n := r.Count
		r.Count = 0
		want[r] += n
	}
	if got := export(t, from, "users", time.Time{}, time.Time{}); !maps.Equal(got, want) {
		t.Fatalf("%d rows were loaded, not %d", len(got), len(want))
	}
	if l, err = NewLoader(to, meta, false); err != nil {
		t.Fatal(err)
	}
	for range 2 { // what is loaded twice counts twice
		if err := l.Load(Export(from, "users", someDay.Add(time.Hour), someDay.Add(2*time.Hour), "mx1")); err != nil {
			t.Fatal(err)
		}
	}
	maps.DeleteFunc(want, func(r Record, _ int64) bool { return r.Start < start+3600 || r.Start >= start+7200 })
	for r := range want {
		want[r] *= 2
	}
	if got := export(t, to, "users", time.Time{}, time.Time{}); !maps.Equal(got, want) || len(want) == 0 {
		t.Errorf("%d rows came back, not the %d of an hour", len(got), len(want))
	}
}

// load loads a record, as a command of its own does.
func load(t *testing.T, dir string, meta Meta, r Record) {
	t.Helper()
	l, err := NewLoader(dir, meta, false)
	if err == nil {
		err = l.Load(records([]Record{r}, nil))
	}
	if err != nil {
		t.Error(err)
	}
}

func TestWhatIsLoadedAfterAMergeCounts(t *testing.T) {
	dir := t.TempDir()
	m, _ := maintainer(dir)
	now := someDay.Add(3 * day)
	for loaded := int64(0); loaded < 8; {
		for range 2 {
			load(t, dir, Meta{Series: "users", Type: series.String, Node: "mx1"}, Record{Row{"a", someDay.Unix(), 1}, 300})
			loaded++
			readTotals(t, dir).want(t, totals{`users "a" 1795910400`: loaded})
		}
		for range 3 {
			age(t, dir, now)
			now = now.Add(pass)
			m.must(t, now)
			readTotals(t, dir).want(t, totals{`users "a" 1795910400`: loaded})
		}
	}
	if n := len(fileNames(t, dir, "users")); n != 1 {
		t.Errorf("there are %d files, want 1", n)
	}
}

func TestTwoMayLoadAtTheSameTime(t *testing.T) {
	bubble(t, func(t *testing.T) { // in the same nanosecond
		dir := t.TempDir()
		var loading sync.WaitGroup
		const many = 20
		for range many {
			loading.Go(func() {
				load(t, dir, Meta{Series: "users", Type: series.String, Node: "mx1"}, Record{Row{"a", someDay.Unix(), 1}, 300})
			})
		}
		loading.Wait()
		readTotals(t, dir).want(t, totals{`users "a" 1795910400`: many})
	})
}

func TestALoadThatFailsLeavesNothing(t *testing.T) {
	broken := errors.New("broken")
	for what, end := range map[string]func(staged []*staged) error{
		"a record":      func([]*staged) error { return broken },
		"a file's name": func(staged []*staged) error { return os.Remove(staged[1].file) },
	} {
		dir := t.TempDir()
		l, err := NewLoader(dir, Meta{Series: "users", Type: series.String, Node: "mx1"}, false)
		if err != nil {
			t.Fatal(err)
		}
		l.most = 1 // so that some are on the disk
		many := slices.Repeat([]Record{{Row{"a", 300, 1}, 300}}, 3)
		err = l.Load(func(yield func(Record, error) bool) {
			for r := range records(many, nil) {
				yield(r, nil)
			}
			if n := len(fileNames(t, dir, "users")); n > 0 || len(l.staged) != 3 {
				t.Errorf("%d files are on the disk, and %d count before all were written", len(l.staged), n)
			}
			if err := end(l.staged); err != nil {
				yield(Record{}, err)
			}
		})
		if !errors.Is(err, broken) && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: the error is %v", what, err)
		}
		if entries, err := os.ReadDir(seriesDir(dir, "users")); err != nil || len(entries) > 0 {
			t.Errorf("%s: %v is left, %v", what, entries, err)
		}
	}
}

func TestARecordThatDoesNotFitIsRefused(t *testing.T) {
	for _, c := range []struct {
		of     series.Type
		record Record
		says   string
	}{
		{series.CIDR, Record{Row{"192.0.2.1", 300, 1}, 0}, "it has 1 to"},
		{series.CIDR, Record{Row{"192.0.2.1", 300, 1}, 1 << 62}, "it has 1 to"},
		{series.CIDR, Record{Row{"192.0.2.1", 301, 1}, 300}, "no window of 300 seconds begins at 1970-01-01T00:05:01Z"},
		{series.CIDR, Record{Row{"192.0.2.1", -300, 1}, 300}, "no window"},
		{series.CIDR, Record{Row{"2001:db8::1", 300, 1}, 300}, "does not take 2001:db8::1"},
		{series.CIDR6, Record{Row{"192.0.2.1", 300, 1}, 300}, "does not take 192.0.2.1"},
		{series.IP, Record{Row{"2001:DB8::1", 300, 1}, 300}, "not an address as an export spells it"},
		{series.IP, Record{Row{"::ffff:192.0.2.1", 300, 1}, 300}, "not an address as an export spells it"},
		{series.IP, Record{Row{"192.0.2.0/24", 300, 1}, 300}, "not an address"},
		{series.String, Record{Row{strings.Repeat("x", 256), 300, 1}, 300}, "256 bytes"},
	} {
		l := Loader{meta: Meta{Series: "s", Type: c.of}}
		if err := l.Check(c.record); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%v: %v, which should say %q", c.record, err, c.says)
		}
	}
	for _, key := range []string{"", "192.0.2.1", "2001:db8::1"} {
		l := Loader{meta: Meta{Series: "s", Type: series.IP}}
		if err := l.Check(Record{Row{key, 300, 1}, 300}); err != nil {
			t.Errorf("%q: %v", key, err)
		}
	}
}

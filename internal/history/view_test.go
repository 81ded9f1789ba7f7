package history

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/audit-milter/audit-milter/internal/short"
	"github.com/audit-milter/audit-milter/policy"
	"github.com/audit-milter/audit-milter/series"
)

// Files come, are merged, and those that were replaced go, a step after the other, as
// fast as they can, while questions are asked. Each of the windows counts one.
func TestNothingIsMissedOrCountedTwiceWhileFilesAreMerged(t *testing.T) {
	windows := short.Part(400, 100)
	dir := t.TempDir()
	meta := Meta{Series: "connections", Type: series.CIDR, Interval: time.Minute, Node: "mx1"}
	window := func(i int) time.Time { return someDay.Add(time.Duration(i) * time.Minute) }
	rows := func(from, to int) (rows []Row) {
		for i := from; i < to; i++ {
			rows = append(rows, Row{"192.0.2.1", window(i).Unix(), 1})
		}
		return rows
	}
	add := func(level, from, to int, replaces []string) string {
		meta.Replaces = replaces
		name := Name{First: window(from), Last: window(to - 1), Level: level, Node: "mx1"}
		if err := write(dir, name, meta, each(rows(from, to))); err != nil {
			t.Error(err)
		}
		return name.String()
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		r := rand.New(rand.NewPCG(1, 2))
		var files []string // of all windows, or of as many as there are
		for level, last := 1, 0; last < windows; level++ {
			next := min(last+1+r.IntN(5), windows)
			files = append(files, add(0, last, next, nil))
			last = next
			if r.IntN(3) > 0 {
				continue
			}
			merged := add(level, 0, last, files)
			for _, i := range r.Perm(len(files)) {
				if err := os.Remove(filepath.Join(seriesDir(dir, "connections"), files[i])); err != nil {
					t.Error(err)
				}
			}
			files = []string{merged}
		}
	}()
	asked, before := 0, int64(0)
	for running := true; running; asked++ {
		select {
		case <-done:
			running = false
		default:
		}
		q := Query{Series: []string{"connections"}}
		a, err := q.Run(dir)
		if errors.As(err, new(policy.UnknownError)) && before == 0 {
			continue // nothing is there yet
		}
		if err != nil {
			t.Fatal(err)
		}
		// It is what there was at some moment while it was asked.
		if n := a.Total[0]; n < before || n > int64(windows) {
			t.Fatalf("%d windows are counted, and %d were before", n, before)
		} else {
			before = n
		}
	}
	if before != int64(windows) {
		t.Errorf("%d windows are counted in the end, not %d", before, windows)
	}
	t.Logf("asked %d times", asked)
}

func TestAFileThatWasReplacedIsNotCountedWhileItIsThere(t *testing.T) {
	dir := t.TempDir()
	meta := Meta{Series: "connections", Type: series.CIDR, Interval: time.Minute, Node: "mx1"}
	var names []Name
	for level, replaces := range [][]int{{}, {0}, {0, 1}} {
		meta.Replaces = nil
		for _, i := range replaces {
			meta.Replaces = append(meta.Replaces, names[i].String())
		}
		name := Name{First: someDay, Last: someDay, Level: level, Node: "mx1"}
		names = append(names, name)
		if err := write(dir, name, meta, each([]Row{{"192.0.2.1", someDay.Unix(), 7}})); err != nil {
			t.Fatal(err)
		}
		a, err := Query{Series: []string{"connections"}}.Run(dir)
		if err != nil || a.Total[0] != 7 {
			t.Errorf("with %d files: %v, %v", len(names), a.Total, err)
		}
	}
}

func TestADirectoryThatSomethingMergedInIsNotSteady(t *testing.T) {
	counted, another, merged := Name{Node: "a"}, Name{Node: "b"}, Name{Level: 1}
	for _, c := range []struct {
		before, after []Name
		steady        bool
	}{
		{[]Name{counted}, []Name{counted}, true},
		{[]Name{counted}, []Name{counted, another}, true}, // what was counted since need not be in the answer
		{[]Name{counted}, []Name{counted, merged}, false},
		{[]Name{counted, merged}, []Name{counted, merged}, true},
		{[]Name{counted, merged}, []Name{merged}, false},
		{nil, []Name{merged}, false},
	} {
		if got := steady(c.before, c.after); got != c.steady {
			t.Errorf("%v, then %v: %t", c.before, c.after, got)
		}
	}
}

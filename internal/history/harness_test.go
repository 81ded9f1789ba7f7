package history

import (
	"bytes"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/audit-milter/audit-milter/internal/deltas"
	"github.com/audit-milter/audit-milter/policy"
	"github.com/audit-milter/audit-milter/series"
)

// recordedLog is what a logger wrote.
type recordedLog struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *recordedLog) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *recordedLog) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// count is how many lines have a text.
func (l *recordedLog) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), text)
}

// totals is what a naive reader finds: the sum of all rows of a series, key and window
// in files that are not replaced.
type totals map[string]int64

func (sums totals) add(series, key string, start, n int64) {
	id := fmt.Sprintf("%s %q %d", series, key, start)
	if sums[id] += n; sums[id] == 0 {
		delete(sums, id)
	}
}

func readTotals(t testing.TB, dir string) totals {
	t.Helper()
	sums := make(totals)
	all, err := seriesIn(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range all {
		names, err := list(seriesDir(dir, s))
		if err != nil {
			t.Fatal(err)
		}
		replaced := make(map[string]bool)
		for _, n := range names {
			meta, _ := readFile(t, dir, s, n)
			for _, r := range meta.Replaces {
				replaced[r] = true
			}
		}
		for _, n := range names {
			if replaced[n.String()] {
				continue
			}
			_, rows := readFile(t, dir, s, n)
			for _, r := range rows {
				sums.add(s, r.Key, r.Start, r.Count)
			}
		}
	}
	return sums
}

func readFile(t testing.TB, dir, series string, n Name) (Meta, []Row) {
	t.Helper()
	return readAll(t, seriesDir(dir, series), n)
}

func (sums totals) want(t testing.TB, want totals) {
	t.Helper()
	if maps.Equal(sums, want) {
		return
	}
	shown := 0
	for _, id := range slices.Sorted(maps.Keys(want)) {
		if sums[id] != want[id] && shown < 10 {
			t.Errorf("%s counts %d, want %d", id, sums[id], want[id])
			shown++
		}
	}
	for _, id := range slices.Sorted(maps.Keys(sums)) {
		if _, ok := want[id]; !ok && shown < 10 {
			t.Errorf("%s counts %d, want nothing", id, sums[id])
			shown++
		}
	}
}

// fileNames is the files of a series.
func fileNames(t testing.TB, dir, series string) []Name {
	t.Helper()
	names, err := list(seriesDir(dir, series))
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// plain is a series of events.
func plain(name string, interval time.Duration) policy.Kept {
	return policy.Kept{Serialize: true, Lasting: &policy.Lasting{
		Definition: series.Definition{Name: name, Type: series.IP, Interval: interval, Windows: 4, MaxKeys: 1000},
	}}
}

// ticks feeds a writer.
type ticks struct {
	t      *testing.T
	w      *Writer
	now    time.Time
	number uint64
}

func newTicks(t *testing.T, o Options) *ticks {
	t.Helper()
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Node == "" {
		o.Node = "mx1"
	}
	w, err := NewWriter(o)
	if err != nil {
		t.Fatal(err)
	}
	return &ticks{t: t, w: w, now: someDay, number: 1000}
}

// take lets some time pass and tells what a series shows then.
func (f *ticks) take(after time.Duration, kept policy.Kept, list ...series.Delta) *deltas.Batch {
	b := f.next(after)
	b.Series = []deltas.Series{{Kept: kept, Deltas: list}}
	f.w.Take(b)
	return b
}

func (f *ticks) next(after time.Duration) *deltas.Batch {
	f.now = f.now.Add(after)
	f.number++
	return &deltas.Batch{Number: f.number, Now: f.now}
}

// begin lets the journal begin anew.
func (f *ticks) begin(kept ...policy.Kept) {
	b := f.next(100 * time.Millisecond)
	b.Begin = true
	for _, k := range kept {
		b.Series = append(b.Series, deltas.Series{Kept: k})
	}
	f.w.Take(b)
}

// settle waits until nothing waits to be written.
func (f *ticks) settle() {
	f.t.Helper()
	for end := time.Now().Add(10 * time.Second); f.w.Stats().Waiting > 0; {
		if time.Now().After(end) {
			f.t.Fatal("something still waits to be written")
		}
		time.Sleep(time.Millisecond)
	}
}

// adds is an amount of a text or an address in the window that begins at start.
func adds(key string, start time.Time, n int64) series.Delta {
	k, bits := keyOf(key)
	return series.Delta{Key: k, Bits: bits, Start: start.Unix(), Amount: n}
}

// age lets all files have been written then.
func age(t testing.TB, dir string, to time.Time) {
	t.Helper()
	all, err := seriesIn(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range all {
		entries, err := os.ReadDir(seriesDir(dir, s))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if err := os.Chtimes(seriesDir(dir, s)+"/"+e.Name(), to, to); err != nil && e.Type().IsRegular() {
				t.Fatal(err)
			}
		}
	}
}

// TestMain lets garbage be collected less often: to write a file takes megabytes for a
// moment, which the race detector makes eight times as many.
func TestMain(m *testing.M) {
	debug.SetGCPercent(400)
	os.Exit(m.Run())
}

// bubble is synctest.Test. The decoders that parquet keeps for the next file belong to
// the bubble they were made in: two collections let it forget them.
func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, f)
	runtime.GC()
	runtime.GC()
}

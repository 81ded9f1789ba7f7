package history

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/audit-milter/audit-milter/internal/deltas"
	"github.com/audit-milter/audit-milter/internal/short"
	"github.com/audit-milter/audit-milter/series"
)

// written writes a file of one window, as a writer does.
func written(t testing.TB, dir, of, node string, start time.Time, interval time.Duration, through uint64, rows []Row) {
	t.Helper()
	rows = slices.Clone(rows)
	for i := range rows {
		rows[i].Start = start.Unix()
	}
	slices.SortFunc(rows, Row.Compare)
	meta := Meta{Series: of, Type: series.IP, Interval: interval, Node: node}
	if err := write(dir, Name{First: start, Last: start, Through: through, Node: node}, meta, eachOf(rows)); err != nil {
		t.Fatal(err)
	}
}

// fewDays writes random windows of three days, some in several pieces.
func fewDays(t testing.TB, dir string, r *rand.Rand, perDay int) totals {
	t.Helper()
	want := make(totals)
	var through uint64
	for _, of := range []string{"a", "b/300"} {
		for _, node := range []string{"mx1", "mx2"} {
			for i := range 3 * perDay {
				interval := day / time.Duration(perDay)
				start := someDay.Add(time.Duration(i) * interval)
				for range 1 + r.IntN(2) {
					through++
					rows := someRows(r)
					written(t, dir, of, node, start, interval, through, rows)
					for _, row := range rows {
						want.add(of, row.Key, start.Unix(), row.Count)
					}
				}
			}
		}
	}
	age(t, dir, someDay)
	return want
}

func someRows(r *rand.Rand) (rows []Row) {
	for k := range 20 {
		if r.IntN(2) == 0 {
			rows = append(rows, Row{Key: fmt.Sprintf("192.0.2.%d", k), Count: r.Int64N(9) - 2})
		}
	}
	return rows
}

func maintainer(dir string) (*Maintainer, *recordedLog) {
	log := new(recordedLog)
	return &Maintainer{Dir: dir, Log: log.logger()}, log
}

func (m *Maintainer) must(t testing.TB, now time.Time) {
	t.Helper()
	if err := m.Once(context.Background(), now); err != nil {
		t.Fatal(err)
	}
}

func TestAllOfADayBecomesOneFileAndNothingChanges(t *testing.T) {
	short.Skip(t)
	dir := t.TempDir()
	want := fewDays(t, dir, rand.New(rand.NewPCG(1, 2)), 12)
	m, _ := maintainer(dir)
	now := someDay.Add(2*day + 12*time.Hour) // in the last day, of which it is the middle
	for range 3 {
		m.must(t, now)
		readTotals(t, dir).want(t, want)
		age(t, dir, now)
		now = now.Add(pass)
	}
	levels := func(of string) (list []string) {
		for _, n := range fileNames(t, dir, of) {
			if n.Node == "mx1" {
				list = append(list, fmt.Sprintf("%s-%s/%d", n.First.Format("02T15"), n.Last.Format("02T15"), n.Level))
			}
		}
		return list
	}
	if got, want := fmt.Sprint(levels("b/300")), "[29T00-29T22/1 30T00-30T22/1 01T00-01T22/1]"; got != want {
		t.Errorf("the files are %v, want %v", got, want)
	}
	if s := m.Stats(); s.Files != 12 || s.Bytes == 0 || s.Merged < 3*12*2*2 || s.Failing {
		t.Errorf("stats are %+v", s)
	}
	written(t, dir, "a", "mx1", someDay.Add(2*time.Hour), 2*time.Hour, 9999, []Row{{Key: "late", Count: 1}})
	want.add("a", "late", someDay.Add(2*time.Hour).Unix(), 1)
	age(t, dir, now)
	for range 3 {
		now = now.Add(pass)
		m.must(t, now)
		readTotals(t, dir).want(t, want)
		age(t, dir, now)
	}
	if got, want := fmt.Sprint(levels("a")), "[29T00-29T22/2 30T00-30T22/1 01T00-01T22/1]"; got != want {
		t.Errorf("the files are %v, want %v", got, want)
	}
	if !slices.ContainsFunc(fileNames(t, dir, "a"), func(n Name) bool { return n.Level == 2 && n.Through == 9999 }) {
		t.Error("the merged file is not through the newest piece")
	}
}

func TestFewFilesOfADayThatGoesOnAreLeftAlone(t *testing.T) {
	dir := t.TempDir()
	m, _ := maintainer(dir)
	for i := range few {
		written(t, dir, "a", "mx1", someDay.Add(time.Duration(i)*time.Minute), time.Minute, 1, []Row{{Key: "k", Count: 1}})
	}
	age(t, dir, someDay)
	m.must(t, someDay.Add(time.Hour))
	if n := len(fileNames(t, dir, "a")); n != few {
		t.Errorf("there are %d files, want %d", n, few)
	}
	written(t, dir, "a", "mx1", someDay.Add(few*time.Minute), time.Minute, 1, []Row{{Key: "k", Count: 1}})
	newest := filepath.Join(seriesDir(dir, "a"), fileNames(t, dir, "a")[few].String())
	if err := os.Chtimes(newest, someDay.Add(time.Hour), someDay.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	m.must(t, someDay.Add(time.Hour))
	if n := len(fileNames(t, dir, "a")); n != few+1 {
		t.Errorf("there are %d files, want %d: the newest is too young", n, few+1)
	}
	age(t, dir, someDay)
	m.must(t, someDay.Add(time.Hour))
	if n := len(fileNames(t, dir, "a")); n != few+2 {
		t.Fatalf("there are %d files, want the %d and a merged one", n, few+1)
	}
	age(t, dir, someDay.Add(time.Hour))
	m.must(t, someDay.Add(time.Hour+settled-time.Second))
	if n := len(fileNames(t, dir, "a")); n != few+2 {
		t.Errorf("%d files are left: who looks for them just now may miss them", n)
	}
	m.must(t, someDay.Add(time.Hour+settled))
	if n := len(fileNames(t, dir, "a")); n != 1 {
		t.Errorf("there are %d files, want 1", n)
	}
}

func TestWhatIsOlderThanTheRetentionGoes(t *testing.T) {
	dir := t.TempDir()
	fewDays(t, dir, rand.New(rand.NewPCG(3, 4)), 6)
	m, _ := maintainer(dir)
	m.Retention = 24 * time.Hour
	now := someDay.Add(3*day + 2*time.Hour)
	m.must(t, now) // deletes the windows before the third day's third hour
	for s := range readTotals(t, dir) {
		start, err := strconv.ParseInt(s[strings.LastIndex(s, " ")+1:], 10, 64)
		if err != nil || now.Sub(time.Unix(start, 0)) > m.Retention {
			t.Errorf("%s is still there, %v", s, err)
		}
	}
	if m.Stats().Expired == 0 || len(readTotals(t, dir)) == 0 {
		t.Errorf("stats are %+v", m.Stats())
	}
	// The merged ones go when all their windows are over, and what they replaced does not count again.
	m.must(t, now.Add(2*day))
	readTotals(t, dir).want(t, totals{})
}

func TestTheOldestGoesWhereThereIsTooMuch(t *testing.T) {
	dir := t.TempDir()
	fewDays(t, dir, rand.New(rand.NewPCG(5, 6)), 6)
	m, log := maintainer(dir)
	now := someDay.Add(4 * day)
	m.must(t, now)
	age(t, dir, now)
	now = now.Add(pass)
	m.must(t, now)
	m.MaxSize = m.Stats().Bytes * 2 / 3
	m.must(t, now)
	if s := m.Stats(); s.Bytes > m.MaxSize || s.Oversize == 0 || s.Files == 0 {
		t.Errorf("stats are %+v", s)
	}
	for _, n := range fileNames(t, dir, "a") {
		if n.First.Before(someDay.Add(day)) {
			t.Errorf("%v is older than others that are gone", n)
		}
	}
	if log.count(`msg="the oldest of the history is deleted, since it is larger than max_size"`) != 1 {
		t.Errorf("logged %s", log.text.String())
	}
}

func TestPiecesOfAWindowAreFoldedWhenTheirDayIsOver(t *testing.T) {
	dir := t.TempDir()
	m, _ := maintainer(dir)
	m.MinCount = 5
	for i, rows := range [][]Row{
		{{Key: "a", Count: 3}, {Key: "b", Count: 4}, {Key: "", Count: 2}},
		{{Key: "a", Count: 2}, {Key: "c", Count: 1}},
	} {
		written(t, dir, "s", "mx1", someDay, time.Hour, uint64(i+1), rows)
		written(t, dir, "s", "mx1", someDay.Add(time.Hour), time.Hour, uint64(i+1), rows)
	}
	age(t, dir, someDay)
	m.must(t, someDay.Add(day+late))
	readTotals(t, dir).want(t, totals{
		`s "a" 1795910400`: 5, `s "" 1795910400`: 7, `s "a" 1795914000`: 5, `s "" 1795914000`: 7,
	})
}

func TestADayThatBecameOneFileBeforeItWasOverIsFoldedOnce(t *testing.T) {
	dir := t.TempDir()
	m, _ := maintainer(dir)
	m.MinCount = 5
	for i := range few + 1 {
		written(t, dir, "s", "mx1", someDay.Add(time.Duration(i)*time.Hour), time.Hour, uint64(i+1), []Row{{Key: "a", Count: 5}, {Key: "b", Count: 4}})
	}
	age(t, dir, someDay)
	now := someDay.Add(day)
	m.must(t, now)
	for range 24 {
		age(t, dir, now)
		now = now.Add(pass)
		m.must(t, now)
	}
	want := make(totals)
	for i := range few + 1 {
		start := someDay.Unix() + int64(i)*3600
		want.add("s", "a", start, 5)
		want.add("s", "", start, 4)
	}
	readTotals(t, dir).want(t, want)
	if n := m.Stats().Merged; n != few+2 {
		t.Errorf("%d files were merged, want the %d and then the one", n, few+1)
	}
}

// What is loaded came in no batch, so that the number of one cannot say that a window
// in the same file has nothing left to write.
func TestWhatWasLoadedIsNotMergedWithWhatWasCounted(t *testing.T) {
	dir := t.TempDir()
	c := plain("c", time.Hour)
	c.Persist = true
	f := newTicks(t, Options{Dir: dir})
	want := make(totals)
	for i := range few + 1 {
		start := someDay.Add(time.Duration(i) * time.Hour)
		f.take(start.Sub(f.now), c, adds("192.0.2.1", start, 1))
		want.add("c", "192.0.2.1", start.Unix(), 1)
	}
	open := f.now.Add(time.Hour)
	journal := []*deltas.Batch{f.take(time.Hour, c, adds("192.0.2.7", open, 5))}
	f.take(10*time.Second, c)
	f.settle()
	want.add("c", "192.0.2.7", open.Unix(), 5)

	load(t, dir, Meta{Series: "c", Type: series.IP, Node: "mx1"}, Record{Row{"192.0.2.9", open.Unix(), 1}, 3600})
	want.add("c", "192.0.2.9", open.Unix(), 1)
	m, _ := maintainer(dir)
	age(t, dir, open)
	m.must(t, open.Add(pass))
	if m.Stats().Merged == 0 {
		t.Error("nothing was merged")
	}

	f = newTicks(t, Options{Dir: dir}) // after a kill
	for _, b := range journal {
		f.w.Replayed(b)
	}
	if err := f.w.Recover(); err != nil {
		t.Fatal(err)
	}
	readTotals(t, dir).want(t, want)
}

func TestFilesOfTwoIntervalsStayApart(t *testing.T) {
	dir := t.TempDir()
	m, _ := maintainer(dir)
	for i, interval := range []time.Duration{time.Minute, time.Hour, time.Minute, time.Hour} {
		written(t, dir, "s", "mx1", someDay, interval, uint64(i+1), []Row{{Key: "a", Count: 1}})
	}
	age(t, dir, someDay)
	for i := range 2 {
		m.must(t, someDay.Add(2*day+time.Duration(i)*pass))
		age(t, dir, someDay)
	}
	var intervals []time.Duration
	for _, n := range fileNames(t, dir, "s") {
		meta, rows := readFile(t, dir, "s", n)
		intervals = append(intervals, meta.Interval)
		if len(rows) != 1 || rows[0].Count != 2 {
			t.Errorf("%v has %v", n, rows)
		}
	}
	slices.Sort(intervals)
	if !slices.Equal(intervals, []time.Duration{time.Minute, time.Hour}) {
		t.Errorf("the files are of %v", intervals)
	}
}

func TestOnlyHalfWrittenFilesThatNobodyWritesAreSwept(t *testing.T) {
	dir := t.TempDir()
	m, _ := maintainer(dir)
	written(t, dir, "s", "mx1", someDay, time.Hour, 1, []Row{{Key: "a", Count: 1}})
	name := fileNames(t, dir, "s")[0].String()
	half, other := filepath.Join(seriesDir(dir, "s"), name+temporary+"123"), filepath.Join(seriesDir(dir, "s"), "notes.tmp")
	for _, path := range []string{half, other} {
		if err := os.WriteFile(path, []byte("PAR1"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	age(t, dir, someDay)
	m.must(t, someDay.Add(leftover-time.Second))
	if _, err := os.Stat(half); err != nil {
		t.Errorf("somebody may still write it: %v", err)
	}
	m.must(t, someDay.Add(leftover))
	if _, err := os.Stat(half); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it is still there: %v", err)
	}
	if _, err := os.Stat(other); err != nil {
		t.Errorf("it is somebody else's: %v", err)
	}
}

func TestOnlyOneMaintainsAHistory(t *testing.T) {
	dir := t.TempDir()
	m, _ := maintainer(dir)
	l, err := lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Once(context.Background(), someDay); !errors.Is(err, ErrBusy) {
		t.Errorf("the second one: %v", err)
	}
	l.Close()
	m.must(t, someDay)
}

// Root may maintain what another user owns: a link of his makes no file elsewhere.
func TestALinkInThePlaceOfTheLockIsNotFollowed(t *testing.T) {
	dir, elsewhere := t.TempDir(), filepath.Join(t.TempDir(), "elsewhere")
	if err := os.Symlink(elsewhere, filepath.Join(dir, ".lock")); err != nil {
		t.Fatal(err)
	}
	m, _ := maintainer(dir)
	if err := m.Once(t.Context(), someDay); err == nil {
		t.Error("it is maintained")
	}
	if _, err := os.Lstat(elsewhere); err == nil {
		t.Error("the link was followed")
	}
}

func TestAFileThatCannotBeReadIsNamedAndKeepsNothingElseBack(t *testing.T) {
	dir := t.TempDir()
	want := fewDays(t, dir, rand.New(rand.NewPCG(7, 8)), 4)
	m, _ := maintainer(dir)
	broken := filepath.Join(seriesDir(dir, "c"), Name{First: someDay, Last: someDay, Level: 1, Node: "mx1"}.String())
	if err := os.Mkdir(filepath.Dir(broken), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(broken, []byte("PAR1PAR1"), 0o600); err != nil {
		t.Fatal(err)
	}
	now := someDay.Add(5 * day)
	if err := m.Once(context.Background(), now); err == nil || !strings.Contains(err.Error(), broken) || !m.Stats().Failing {
		t.Errorf("the error is %v, stats %+v", err, m.Stats())
	}
	if err := os.Remove(broken); err != nil {
		t.Fatal(err)
	}
	readTotals(t, dir).want(t, want)
	if m.Stats().Merged == 0 {
		t.Error("the other series were not merged")
	}
}

// What still names a file that was replaced keeps it from being counted twice.
func TestAFileThatCannotBeDeletedStaysReplaced(t *testing.T) {
	name := func(level int) Name { return Name{First: someDay, Last: someDay, Level: level, Node: "mx1"} }
	old := &stored{Name: name(0), dir: t.TempDir(), replaced: true}
	if err := os.MkdirAll(filepath.Join(old.path(), "in the way"), 0o755); err != nil {
		t.Fatal(err)
	}
	merged := &stored{Name: name(1), dir: old.dir, written: someDay, replaces: []*stored{old}}
	left, err := deleteReplaced([]*stored{old, merged}, someDay.Add(settled))
	if err == nil || !slices.Contains(left, old) || !slices.Contains(merged.replaces, old) {
		t.Errorf("%d files are left, %d of them replaced, and the error is %v", len(left), len(merged.replaces), err)
	}
	if err := os.RemoveAll(old.path()); err != nil {
		t.Fatal(err)
	}
	left, err = deleteReplaced(left, someDay.Add(settled)) // somebody else has deleted it
	if err != nil || slices.Contains(left, old) || len(merged.replaces) > 0 {
		t.Errorf("%d files are left, %d of them replaced, and the error is %v", len(left), len(merged.replaces), err)
	}
}

func TestAnEndedContextLeavesEverythingAsItIs(t *testing.T) {
	dir := t.TempDir()
	want := fewDays(t, dir, rand.New(rand.NewPCG(9, 10)), 4)
	m, _ := maintainer(dir)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := m.Once(ctx, someDay.Add(5*day)); !errors.Is(err, context.Canceled) {
		t.Errorf("the error is %v", err)
	}
	if m.Stats().Merged != 0 {
		t.Errorf("stats are %+v", m.Stats())
	}
	readTotals(t, dir).want(t, want)
}

func TestRunWorksEveryFiveMinutesUntilItsContextEnds(t *testing.T) {
	dir := t.TempDir()
	bubble(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		m, log := maintainer(dir)
		var passes atomic.Int32
		m.Now = func() time.Time { passes.Add(1); return someDay }
		l, err := lock(dir) // before the first pass, which takes it for a while
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan struct{})
		go func() {
			m.Run(ctx)
			close(ended)
		}()
		time.Sleep(pass - time.Second)
		synctest.Wait()
		if n := passes.Load(); n != 1 {
			t.Errorf("%d passes, want 1", n)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if n := passes.Load(); n != 2 || log.count(ErrBusy.Error()) == 0 {
			t.Errorf("%d passes, want 2; logged %s", n, log.text.String())
		}
		l.Close()
		cancel()
		<-ended
	})
}

// TestNothingIsMissingOrDoubledByAKillWhileFilesAreMerged kills a maintainer at random
// moments, while new files come, and looks what there is after each.
func TestNothingIsMissingOrDoubledByAKillWhileFilesAreMerged(t *testing.T) {
	if dir := os.Getenv("HISTORY_TEST_MAINTAINER"); dir != "" {
		m, _ := maintainer(dir)
		for now := someDay.Add(10 * day); ; now = now.Add(time.Hour) {
			fmt.Println("a pass")
			if err := m.Once(context.Background(), time.Now().Add(now.Sub(someDay))); err != nil {
				panic(err)
			}
		}
	}
	kills := short.Part(*kills, 6)
	r := rand.New(rand.NewPCG(11, 12))
	dir := t.TempDir()
	want := make(totals)
	through, begin := uint64(0), time.Now().Add(-100*day).Truncate(day)
	halfDone := 0
	done := 0
	for ; done < kills || halfDone == 0 && done < 100; done++ {
		for range 8 {
			through++
			start := begin.Add(time.Duration(r.IntN(3*24)) * time.Hour)
			rows := someRows(r)
			written(t, dir, "s", "mx1", start, time.Hour, through, rows)
			for _, row := range rows {
				want.add("s", row.Key, start.Unix(), row.Count)
			}
		}
		killedMaintainer(t, dir, rand.N(40*time.Millisecond))
		readTotals(t, dir).want(t, want)
		if t.Failed() {
			t.FailNow()
		}
		halfDone += leftBehind(t, dir)
	}
	t.Logf("%d of %d kills left something half done; there are %d files of %d", halfDone, done, len(fileNames(t, dir, "s")), through)
	if halfDone == 0 {
		t.Error("no kill came while something was done")
	}
	m, _ := maintainer(dir)
	for i := range 4 {
		m.must(t, time.Now().Add(time.Duration(i+1)*24*time.Hour))
	}
	readTotals(t, dir).want(t, want)
	if n := len(fileNames(t, dir, "s")); n != 3 || leftBehind(t, dir) != 0 {
		t.Errorf("there are %d files, want one for each of the 3 days and nothing else", n)
	}
}

// killedMaintainer lets a maintainer work for some time.
func killedMaintainer(t *testing.T, dir string, after time.Duration) {
	t.Helper()
	child := exec.Command(os.Args[0], "-test.run=^TestNothingIsMissingOrDoubledByAKillWhileFilesAreMerged$")
	child.Env = append(os.Environ(), "HISTORY_TEST_MAINTAINER="+dir)
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	if !lines.Scan() || lines.Text() != "a pass" {
		t.Fatalf("the child says %q", lines.Text())
	}
	time.AfterFunc(after, func() { child.Process.Kill() })
	for lines.Scan() {
	}
	if err := child.Wait(); child.ProcessState.ExitCode() != -1 {
		t.Fatalf("the child was not killed: %v", err)
	}
}

// leftBehind is 1 if there is a half written file, or one that is replaced.
func leftBehind(t *testing.T, dir string) int {
	t.Helper()
	files, err := storedIn(seriesDir(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	half, err := filepath.Glob(filepath.Join(seriesDir(dir, "s"), "*"+temporary+"*"))
	if err != nil {
		t.Fatal(err)
	}
	if len(half) > 0 || slices.ContainsFunc(files, func(s *stored) bool { return s.replaced }) {
		return 1
	}
	return 0
}

// BenchmarkCondenseADay makes one file of the 288 of a day, of 10,000 keys each, in two
// passes.
func BenchmarkCondenseADay(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		dir := b.TempDir()
		r := rand.New(rand.NewPCG(13, 14))
		for w := range 288 {
			rows := make([]Row, 10_000)
			for i := range rows {
				rows[i] = Row{Key: fmt.Sprintf("192.%d.%d.%d", i>>16&255, i>>8&255, i&255), Count: 1 + r.Int64N(50)}
			}
			written(b, dir, "s", "mx1", someDay.Add(time.Duration(w)*5*time.Minute), 5*time.Minute, uint64(w), rows)
		}
		age(b, dir, someDay)
		m, _ := maintainer(dir)
		runtime.GC()
		var before runtime.MemStats
		runtime.ReadMemStats(&before)
		stop := make(chan struct{})
		var peak atomic.Uint64
		go func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(10 * time.Millisecond):
					var now runtime.MemStats
					runtime.ReadMemStats(&now)
					peak.Store(max(peak.Load(), now.HeapInuse))
				}
			}
		}()
		b.StartTimer()
		for range 2 {
			m.must(b, someDay.Add(2*day))
			b.StopTimer()
			age(b, dir, someDay)
			b.StartTimer()
		}
		b.StopTimer()
		close(stop)
		m.must(b, someDay.Add(2*day))
		names := fileNames(b, dir, "s")
		if len(names) != 1 {
			b.Fatalf("there are %d files", len(names))
		}
		b.ReportMetric(float64(peak.Load()-before.HeapInuse)/1e6, "peak-MB")
		b.ReportMetric(float64(m.Stats().Bytes)/(288*10_000), "bytes/row")
		b.StartTimer()
	}
}

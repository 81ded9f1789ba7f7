package history

import (
	"bufio"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/audit-milter/audit-milter/internal/deltas"
	"github.com/audit-milter/audit-milter/internal/short"
	"github.com/audit-milter/audit-milter/policy"
	"github.com/audit-milter/audit-milter/series"
)

func keyOf(text string) (series.Key, uint8) {
	addr, err := netip.ParseAddr(text)
	if err != nil {
		return series.TextKey(text), 0
	}
	return series.AddrKey(addr), uint8(addr.BitLen())
}

func TestAWindowIsWrittenSomeSecondsAfterItsEnd(t *testing.T) {
	dir := t.TempDir()
	f := newTicks(t, Options{Dir: dir})
	c := plain("connections", 5*time.Minute)
	f.take(0, c, adds("192.0.2.1", someDay, 2), adds("192.0.2.2", someDay, 1))
	f.take(time.Minute, c, adds("192.0.2.1", someDay, 3))
	f.take(4*time.Minute+9*time.Second, c, adds("192.0.2.9", someDay.Add(5*time.Minute), 1), adds("192.0.2.1", someDay, 1))
	f.settle()
	readTotals(t, dir).want(t, totals{})
	f.take(time.Second, c)
	f.settle()
	readTotals(t, dir).want(t, totals{`connections "192.0.2.1" 1795910400`: 6, `connections "192.0.2.2" 1795910400`: 1})
	names := fileNames(t, dir, "connections")
	if want := (Name{First: someDay, Last: someDay, Through: f.number, Node: "mx1"}); len(names) != 1 || names[0] != want {
		t.Errorf("the files are %v, want %v", names, want)
	}
	meta, _ := readFile(t, dir, "connections", names[0])
	if meta.Interval != 5*time.Minute || meta.Type != series.IP || meta.Distinct || meta.Node != "mx1" {
		t.Errorf("the file is of %+v", meta)
	}
	if s := f.w.Stats(); s.Files != 1 || s.Rows != 2 || s.Bytes == 0 || s.Failing || s.Dropped != 0 {
		t.Errorf("stats are %+v", s)
	}
	f.w.Close()
}

func TestCloseWritesTheOpenWindows(t *testing.T) {
	dir := t.TempDir()
	f := newTicks(t, Options{Dir: dir})
	f.take(0, plain("a", time.Hour), adds("192.0.2.1", someDay, 2))
	f.take(0, plain("b", time.Hour), adds("192.0.2.1", someDay, 3))
	f.w.Close()
	readTotals(t, dir).want(t, totals{`a "192.0.2.1" 1795910400`: 2, `b "192.0.2.1" 1795910400`: 3})
}

func TestOnlyWhatIsSerializedAndTakenIsWritten(t *testing.T) {
	dir := t.TempDir()
	f := newTicks(t, Options{Dir: dir, Takes: func(name string) bool { return name != "b" }})
	a, b, c := plain("a", time.Hour), plain("b", time.Hour), plain("c", time.Hour)
	c.Serialize = false
	f.take(0, a, adds("192.0.2.1", someDay, 2))
	f.take(0, b, adds("192.0.2.1", someDay, 2))
	f.take(0, c, adds("192.0.2.1", someDay, 2))
	f.w.Close()
	readTotals(t, dir).want(t, totals{`a "192.0.2.1" 1795910400`: 2})
}

func TestWhatComesLateIsAFurtherRow(t *testing.T) {
	dir := t.TempDir()
	f := newTicks(t, Options{Dir: dir, MinCount: 5})
	c := plain("c", time.Minute)
	f.take(0, c, adds("192.0.2.1", someDay, 7))
	f.take(75*time.Second, c)
	f.take(time.Second, c, adds("192.0.2.1", someDay, 1), adds("192.0.2.2", someDay, 1))
	f.take(5*time.Second, c, adds("192.0.2.1", someDay, 1))
	f.take(10*time.Second, c)
	f.settle()
	// Also though it is little: what there is else of the key is not known any more.
	readTotals(t, dir).want(t, totals{`c "192.0.2.1" 1795910400`: 9, `c "192.0.2.2" 1795910400`: 1})
	if n := len(fileNames(t, dir, "c")); n != 2 {
		t.Errorf("there are %d files, want 2", n)
	}
	f.w.Close()
}

func TestSmallKeysAreOneRowSoThatTotalsStayRight(t *testing.T) {
	dir := t.TempDir()
	f := newTicks(t, Options{Dir: dir, MinCount: 3})
	c := plain("c", time.Minute)
	for i := range int64(10) {
		f.take(0, c, adds(fmt.Sprintf("192.0.2.%d", i), someDay, i))
	}
	f.take(0, c, adds("192.0.2.99", someDay, -4))
	f.take(2*time.Minute, c)
	f.settle()
	want := totals{`c "" 1795910400`: 0 + 1 + 2 - 4}
	for i := range int64(7) {
		want.add("c", fmt.Sprintf("192.0.2.%d", i+3), someDay.Unix(), i+3)
	}
	readTotals(t, dir).want(t, want)
	f.w.Close()
}

// A window that a step back of the clock holds is open to its end: what comes then is
// added to what came before, and a key that is small until then is not.
func TestAWindowThatIsHeldIsOpenToItsEnd(t *testing.T) {
	dir := t.TempDir()
	f := newTicks(t, Options{Dir: dir, MinCount: 3})
	c, held := plain("c", time.Minute), someDay.Add(time.Minute)
	f.take(10*time.Second, c, adds("192.0.2.1", held, 2))
	f.pass(80 * time.Second)
	f.take(20*time.Second, c, adds("192.0.2.1", held, 2))
	f.pass(time.Minute)
	want := make(totals)
	want.add("c", "192.0.2.1", held.Unix(), 4)
	readTotals(t, dir).want(t, want)
	f.w.Close()
}

func TestRemovedKeysAreForgottenWhereTheyAreNotWritten(t *testing.T) {
	dir := t.TempDir()
	f := newTicks(t, Options{Dir: dir})
	c := plain("c", time.Minute)
	removed := func(key string, bits uint8) series.Delta {
		d := adds(key, someDay, -1)
		d.Bits, d.Removed = bits, true
		return d
	}
	f.take(0, c, adds("192.0.2.1", someDay, 1), adds("192.0.2.2", someDay, 2), adds("198.51.100.1", someDay, 3), adds("198.51.101.1", someDay, 4))
	f.take(time.Second, c, removed("192.0.2.1", 32), adds("192.0.2.1", someDay, 10), removed("198.51.100.0", 24), removed("198.51.100.1", 32))
	f.w.Close()
	readTotals(t, dir).want(t, totals{
		`c "192.0.2.1" 1795910400`: 10, `c "192.0.2.2" 1795910400`: 2, `c "198.51.101.1" 1795910400`: 4,
	})
}

func TestPartsOfASnapshotCountNothing(t *testing.T) {
	dir := t.TempDir()
	f := newTicks(t, Options{Dir: dir})
	d, older := adds("192.0.2.1", someDay, 100), adds("192.0.2.1", someDay, 1)
	d.For, older.For = series.Newer, series.Older
	f.take(0, plain("c", time.Minute), d, older)
	f.w.Close()
	readTotals(t, dir).want(t, totals{`c "192.0.2.1" 1795910400`: 1})
}

func TestTheClockMayJump(t *testing.T) {
	dir := t.TempDir()
	f := newTicks(t, Options{Dir: dir})
	c := plain("c", time.Minute)
	f.take(0, c, adds("192.0.2.1", someDay, 1))
	f.take(30*24*time.Hour, c) // forward: the window is over
	f.settle()
	readTotals(t, dir).want(t, totals{`c "192.0.2.1" 1795910400`: 1})

	then := f.now.Truncate(time.Minute)
	f.take(0, c, adds("192.0.2.1", then, 2))
	f.take(-30*24*time.Hour, c) // back: it cannot be the current one any more
	f.settle()
	want := totals{`c "192.0.2.1" 1795910400`: 1}
	want.add("c", "192.0.2.1", then.Unix(), 2)
	readTotals(t, dir).want(t, want)

	f.take(time.Second, c, adds("192.0.2.1", someDay, 4)) // the same minute again
	f.take(time.Hour, c)
	f.settle()
	want.add("c", "192.0.2.1", someDay.Unix(), 4)
	readTotals(t, dir).want(t, want)

	f.take(-30*time.Second, c, adds("192.0.2.1", f.now.Truncate(time.Minute), 8)) // held: it stays open
	f.settle()
	readTotals(t, dir).want(t, want)
	f.w.Close()
}

func TestAWindowHoldsAsManyKeysAsTheSeries(t *testing.T) {
	dir := t.TempDir()
	f := newTicks(t, Options{Dir: dir, MinCount: 100})
	c := plain("c", time.Hour)
	c.Definition.MaxKeys = 10
	want := make(totals)
	for i := range int64(300) {
		key := fmt.Sprintf("192.0.2.%d", i%200)
		f.take(time.Millisecond, c, adds(key, someDay, i))
		want.add("c", key, someDay.Unix(), i)
		for _, a := range f.w.open {
			if n := len(a.windows[someDay.Unix()].counts); n > 10 {
				t.Fatalf("the window holds %d keys", n)
			}
		}
	}
	f.take(2*time.Hour, c)
	f.w.Close()
	readTotals(t, dir).want(t, want)
}

// A stop and a start inside a window: what was written at the stop is not counted
// again, and nothing is called little that may only be the rest.
func TestAWindowGoesOnAfterAStopAndAStart(t *testing.T) {
	dir := t.TempDir()
	o := Options{Dir: dir, MinCount: 5}
	c := plain("c", time.Hour)
	c.Persist = true
	f := newTicks(t, o)
	journal := []*deltas.Batch{f.take(0, c, adds("192.0.2.1", someDay, 3)), f.take(time.Second, c, adds("192.0.2.2", someDay, 9))}
	f.w.Close()
	last := *f

	f = newTicks(t, o)
	f.now, f.number = last.now, last.number
	for _, b := range journal {
		f.w.Replayed(b)
	}
	if err := f.w.Recover(); err != nil {
		t.Fatal(err)
	}
	f.begin(c)
	f.take(time.Minute, c, adds("192.0.2.1", someDay, 4))
	f.take(2*time.Hour, c)
	f.w.Close()
	readTotals(t, dir).want(t, totals{`c "192.0.2.1" 1795910400`: 7, `c "192.0.2.2" 1795910400`: 9})
}

// After a reload there may be files of two kinds of the same series.
func TestAnotherIntervalIsAnotherFile(t *testing.T) {
	dir := t.TempDir()
	f := newTicks(t, Options{Dir: dir})
	f.take(0, plain("c", time.Minute), adds("192.0.2.1", someDay, 1))
	f.take(0, plain("c", time.Hour), adds("192.0.2.1", someDay, 2))
	f.w.Close()
	readTotals(t, dir).want(t, totals{`c "192.0.2.1" 1795910400`: 3})
	if n := len(fileNames(t, dir, "c")); n != 2 {
		t.Errorf("there are %d files, want 2", n)
	}
}

// A kill after a reload: the files of the shape from before do not have what came after.
func TestAnotherIntervalGoesOnAfterAKill(t *testing.T) {
	dir := t.TempDir()
	before, after := plain("c", 5*time.Minute), plain("c", 10*time.Minute)
	before.Persist, after.Persist = true, true
	f := newTicks(t, Options{Dir: dir})
	f.take(0, before, adds("192.0.2.1", someDay, 3))
	journal := []*deltas.Batch{
		f.take(3*time.Minute, after, adds("192.0.2.1", someDay, 5)),
		f.take(2*time.Minute+11*time.Second, after, adds("192.0.2.1", someDay, 1)),
	}
	f.settle() // the window of 5 minutes is written
	replay(t, Options{Dir: dir}, journal)
	readTotals(t, dir).want(t, totals{`c "192.0.2.1" 1795910400`: 9})
}

// replay starts a writer anew, with what the journal has.
func replay(t *testing.T, o Options, journal []*deltas.Batch) {
	t.Helper()
	f := newTicks(t, o)
	for _, b := range journal {
		f.w.Replayed(b)
	}
	if err := f.w.Recover(); err != nil {
		t.Error(err)
	}
}

// A host has another name at every start, and is killed each time.
func TestAnotherNameOfTheNodeCountsNothingAgain(t *testing.T) {
	dir := t.TempDir()
	c := plain("c", time.Hour)
	c.Persist = true
	f := newTicks(t, Options{Dir: dir, Node: "mx0"})
	journal := []*deltas.Batch{f.take(0, c, adds("192.0.2.1", someDay, 3))}
	f.begin(c) // writes it
	f.settle()
	for i := range namesKept - 1 {
		replay(t, Options{Dir: dir, Node: fmt.Sprintf("mx%d", i+1)}, journal)
		readTotals(t, dir).want(t, totals{`c "192.0.2.1" 1795910400`: 3})
	}
	for i := range 3 {
		replay(t, Options{Dir: dir, Node: fmt.Sprintf("mx%d", i)}, nil)
	}
	if names, err := ownNames(dir, "mx2"); err != nil || len(names) != namesKept || !slices.Equal(names[namesKept-4:], []string{"mx15", "mx0", "mx1", "mx2"}) {
		t.Errorf("the names are %v, %v", names, err)
	}
}

func TestNothingIsLostWhereTheClockWasSetBackBeforeAStart(t *testing.T) {
	dir := t.TempDir()
	c := plain("c", 5*time.Minute)
	f := newTicks(t, Options{Dir: dir})
	f.number = uint64(someDay.Add(2 * time.Minute).UnixMilli())
	f.take(0, c, adds("192.0.2.1", someDay, 3))
	f.w.Close()
	load(t, dir, Meta{Series: "c", Type: series.IP, Node: "mx1"}, Record{Row{"192.0.2.1", someDay.Unix(), 1}, 300})

	last := f.number
	f = newTicks(t, Options{Dir: dir})
	if f.w.Last() != last {
		t.Errorf("the last batch is %d, want %d", f.w.Last(), last)
	}
	f.number = f.w.Last() // as the collector goes on
	f.take(0, c, adds("192.0.2.1", someDay, 5))
	f.w.Close()
	readTotals(t, dir).want(t, totals{`c "192.0.2.1" 1795910400`: 9})
}

func TestAnotherNodesFilesDoNotHideWhatIsCountedHere(t *testing.T) {
	dir := t.TempDir()
	c := plain("c", time.Hour)
	c.Persist = true
	written(t, dir, "c", "mx2", someDay, time.Hour, 9_000_000, []Row{{Key: "192.0.2.1", Count: 1}})
	f := newTicks(t, Options{Dir: dir})
	replay(t, Options{Dir: dir}, []*deltas.Batch{f.take(0, c, adds("192.0.2.1", someDay, 3))})
	readTotals(t, dir).want(t, totals{`c "192.0.2.1" 1795910400`: 4})
}

// distinctSeries is a series of different values, with a clock of its own.
type distinctSeries struct {
	policy.Kept
	counter *series.Distinct
}

func aDistinct(t *testing.T) distinctSeries {
	t.Helper()
	d, err := series.DefineDistinct(series.Definition{Name: "d", Type: series.IP, Interval: time.Minute, Windows: 3, MaxKeys: 100}, []series.Mask{{IPv4: 24, IPv6: 64}})
	if err != nil {
		t.Fatal(err)
	}
	return distinctSeries{policy.Kept{Persist: true, Serialize: true, Lasting: &policy.Lasting{Definition: d.Definition(), Of: new(policy.Distinct), Counter: d}}, d}
}

// show lets a key show different values, and is what is told of that.
func (d distinctSeries) show(key string, values int, now time.Time) (told []series.Delta) {
	k, bits := keyOf(key)
	for i := range values {
		d.counter.Add(k, strconv.Itoa(i), now)
	}
	start := now.Truncate(time.Minute).Unix()
	return []series.Delta{
		{Key: k, Bits: bits, Start: start, Values: []uint64{1}},
		{Key: k, Bits: 24, Start: start, Values: []uint64{1}},
	}
}

func TestDifferentValuesAreWrittenOnceAsEstimates(t *testing.T) {
	dir := t.TempDir()
	d := aDistinct(t)
	now := someDay
	o := Options{Dir: dir, Now: func() time.Time { return now }}
	f := newTicks(t, o)
	f.take(0, d.Kept, d.show("192.0.2.1", 7, now)...)
	f.take(time.Second, d.Kept, d.show("192.0.2.2", 3000, now)...)
	f.begin(d.Kept)
	now = someDay.Add(75 * time.Second)
	next := d.show("192.0.2.1", 2, now)
	f.take(now.Sub(f.now), d.Kept, next...)
	f.settle()
	k, _ := keyOf("192.0.2.2")
	many := d.counter.Count(k, series.Host, 1, 1, now)
	if many < 2800 || many > 3200 {
		t.Fatalf("the series itself says %d", many)
	}
	want := totals{`d "192.0.2.1" 1795910400`: 7, `d "192.0.2.2" 1795910400`: many}
	readTotals(t, dir).want(t, want)

	f.take(time.Second, d.Kept, adds("192.0.2.2", someDay, 0)) // late: no second estimate
	f.take(20*time.Second, d.Kept)
	f.w.Close() // the open window is only written when it closes, since it persists
	readTotals(t, dir).want(t, want)

	// The journal has all of it still.
	f = newTicks(t, o)
	for _, told := range [][]series.Delta{{adds("192.0.2.2", someDay, 0)}, next} {
		for i := range told {
			told[i].For = series.Newer
		}
		b := f.next(0)
		b.Series = []deltas.Series{{Kept: d.Kept, Deltas: told}}
		f.w.Replayed(b)
	}
	now = someDay.Add(135 * time.Second)
	f.take(now.Sub(f.now), d.Kept)
	f.w.Close()
	want.add("d", "192.0.2.1", someDay.Unix()+60, 2)
	readTotals(t, dir).want(t, want)
}

func TestAnEstimateThatCannotBeReadAnyMoreIsSaid(t *testing.T) {
	var log recordedLog
	d := aDistinct(t)
	now := someDay
	f := newTicks(t, Options{Dir: t.TempDir(), Log: log.logger(), Now: func() time.Time { return now }})
	f.take(0, d.Kept, d.show("192.0.2.1", 7, now)...)
	now = now.Add(time.Hour)
	f.take(time.Hour, d.Kept)
	f.settle()
	if log.count(`msg="a window is missing in the history" series=d`) != 1 {
		t.Errorf("logged %s", log.text.String())
	}
	f.w.Close()
}

func TestCloseWritesAnEstimateThatWillNotComeAgain(t *testing.T) {
	dir := t.TempDir()
	d := aDistinct(t)
	d.Persist = false
	f := newTicks(t, Options{Dir: dir, Now: func() time.Time { return someDay }})
	f.take(0, d.Kept, d.show("192.0.2.1", 7, someDay)...)
	f.w.Close()
	readTotals(t, dir).want(t, totals{`d "192.0.2.1" 1795910400`: 7})
}

func TestAClockThatIsHeldIsFollowed(t *testing.T) {
	d := aDistinct(t)
	d.show("192.0.2.1", 7, someDay)
	later := someDay.Add(61 * time.Second)
	d.show("192.0.2.1", 2, later)
	now := func() time.Time { return later.Add(-2 * time.Second) } // in the first minute again
	rows, err := estimates(d.counter, someDay.Unix(), now)
	if err != nil || !slices.Equal(rows, []Row{{"192.0.2.1", someDay.Unix(), 7}}) {
		t.Errorf("read %v, %v", rows, err)
	}
}

func TestADiskThatFailsIsTriedAgainAndSaidOnceAMinute(t *testing.T) {
	dir := t.TempDir()
	obstacle := seriesDir(dir, "c")
	bubble(t, func(t *testing.T) {
		var log recordedLog
		f := newTicks(t, Options{Dir: dir, Log: log.logger()})
		if err := os.WriteFile(obstacle, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		c := plain("c", time.Minute)
		want := make(totals)
		const failing = `msg="the history cannot be written, and is tried again"`
		for i := range int64(3) {
			f.take(0, c, adds("192.0.2.1", f.now.Truncate(time.Minute), i+1))
			want.add("c", "192.0.2.1", f.now.Truncate(time.Minute).Unix(), i+1)
			f.take(75*time.Second, c)
		}
		time.Sleep(61 * time.Second)
		synctest.Wait()
		if n := log.count(failing); n != 2 || !f.w.Stats().Failing || f.w.Stats().Waiting != 3 {
			t.Errorf("said %d times, %+v", n, f.w.Stats())
		}
		if err := os.Remove(obstacle); err != nil {
			t.Fatal(err)
		}
		time.Sleep(retryAfter)
		synctest.Wait()
		if n := log.count(`msg="the history is written again"`); n != 1 || f.w.Stats().Failing || f.w.Stats().Waiting != 0 {
			t.Errorf("said %d times that it works again, %+v", n, f.w.Stats())
		}
		f.w.Close()
		readTotals(t, dir).want(t, want)
	})
}

func TestWhatWaitsForADiskIsBounded(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(seriesDir(dir, "c"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var log recordedLog
	q := newQueue(dir, log.logger())
	for i := range 4 {
		q.put(&job{
			name: Name{First: someDay.Add(time.Duration(i) * time.Minute), Last: someDay.Add(time.Hour), Node: "mx1"},
			meta: Meta{Series: "c", Interval: time.Minute},
			size: maxWaiting / 2,
			rows: func() ([]Row, error) { return []Row{{"a", int64(i), 1}}, nil },
		})
	}
	if s := q.Stats(); s.Waiting != maxWaiting || s.Dropped != maxWaiting {
		t.Errorf("stats are %+v", s)
	}
	if log.count(`msg="rows of the history are lost: more would wait than are kept in memory" series=c window=2026-11-29T00:00:00.000Z`) != 1 {
		t.Errorf("logged %s", log.text.String())
	}
	go q.run()
	q.close() // the disk still refuses
	if s := q.Stats(); s.Waiting != 0 || s.Dropped != 2*maxWaiting {
		t.Errorf("stats are %+v", s)
	}
	if log.count("and the daemon stops") != 1 {
		t.Errorf("logged %s", log.text.String())
	}
}

// story is what a daemon counts: the same one whenever it is told.
type story struct {
	series []policy.Kept
	begin  time.Time
}

func aStory() story {
	s := story{[]policy.Kept{plain("a", 2*time.Second), plain("b", 7*time.Second), plain("c", time.Hour)}, someDay}
	for i := range s.series {
		s.series[i].Persist = true
		s.series[i].Definition.MaxKeys = 12
	}
	return s
}

const beginsEvery = 50

// batch is the one of a number from 1 on; the journal begins anew with every 50th.
func (s story) batch(number uint64) *deltas.Batch {
	r := rand.New(rand.NewPCG(number, 5))
	b := &deltas.Batch{Number: number, Now: s.begin.Add(time.Duration(number) * deltas.Interval), Begin: number%beginsEvery == 1}
	for _, k := range s.series {
		told := deltas.Series{Kept: k}
		for range r.IntN(4) {
			window := b.Now.Truncate(k.Definition.Interval)
			if r.IntN(20) == 0 {
				window = window.Add(-k.Definition.Interval) // late
			}
			d := adds(fmt.Sprintf("192.0.2.%d", r.IntN(20)), window, r.Int64N(9)-2)
			d.For = series.For(r.IntN(3))
			told.Deltas = append(told.Deltas, d)
		}
		b.Series = append(b.Series, told)
	}
	return b
}

func (s story) totals(through uint64) totals {
	sums := make(totals)
	for n := uint64(1); n <= through; n++ {
		for _, told := range s.batch(n).Series {
			for _, d := range told.Deltas {
				if d.For != series.Newer {
					sums.add(told.Definition.Name, d.Key.String(), d.Start, d.Amount)
				}
			}
		}
	}
	return sums
}

// replay tells the newest two parts of a journal that goes up to a number.
func (s story) replay(w *Writer, journal uint64) error {
	newest := journal - (journal+beginsEvery-1)%beginsEvery
	for n := max(newest, beginsEvery+1) - beginsEvery; n <= journal; n++ {
		w.Replayed(s.batch(n))
	}
	return w.Recover()
}

// live tells a writer the story as a daemon does that has a journal up to a number. It
// says each number when the journal has it.
func (s story) live(dir string, journal uint64) {
	var log recordedLog
	w, err := NewWriter(Options{Dir: dir, Node: "mx1", Log: log.logger()})
	if err != nil {
		panic(err)
	}
	if err := s.replay(w, journal); err != nil {
		panic(err)
	}
	for n := journal + 1; n <= 100_000; n++ {
		b := s.batch(n)
		if n == journal+1 {
			b.Begin = true // a start begins the journal anew, too
		}
		for b.Begin && w.Stats().Waiting > 0 { // a snapshot takes longer than a file
			time.Sleep(100 * time.Microsecond)
		}
		fmt.Println(n)
		w.Take(b)
	}
}

// kills is few enough for each run of all tests.
var kills = flag.Int("kills", 12, "how often a writer, up to 40 times, and a maintainer are killed")

// TestNothingIsLostOrDoubledByAKill kills a writer at random moments, some of them when
// it writes, and goes on with what its journal has.
func TestNothingIsLostOrDoubledByAKill(t *testing.T) {
	if dir := os.Getenv("HISTORY_TEST_WRITER"); dir != "" {
		journal, err := strconv.ParseUint(os.Getenv("HISTORY_TEST_JOURNAL"), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		aStory().live(dir, journal)
		return
	}
	kills := short.Part(min(*kills, 40), 4)
	dir := t.TempDir()
	var journal uint64
	for range kills {
		journal = killedWriter(t, dir, journal)
	}
	s := aStory()
	w, err := NewWriter(Options{Dir: dir, Node: "mx1", Log: new(recordedLog).logger()})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.replay(w, journal); err != nil {
		t.Fatal(err)
	}
	w.Close()
	t.Logf("%d batches, %d files", journal, len(fileNames(t, dir, "a")))
	readTotals(t, dir).want(t, s.totals(journal))
}

// killedWriter is how far a writer's journal had come when it was killed.
func killedWriter(t *testing.T, dir string, journal uint64) uint64 {
	t.Helper()
	child := exec.Command(os.Args[0], "-test.run=^TestNothingIsLostOrDoubledByAKill$")
	child.Env = append(os.Environ(), "HISTORY_TEST_WRITER="+dir, fmt.Sprintf("HISTORY_TEST_JOURNAL=%d", journal))
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	kill := journal + 1 + rand.Uint64N(400)
	for lines.Scan() {
		n, err := strconv.ParseUint(strings.TrimSpace(lines.Text()), 10, 64)
		if err != nil {
			t.Fatalf("the child says %q", lines.Text())
		}
		journal = n
		if n == kill {
			time.AfterFunc(rand.N(3*time.Millisecond), func() { child.Process.Kill() })
		}
	}
	if err := child.Wait(); child.ProcessState.ExitCode() != -1 {
		t.Fatalf("the child was not killed: %v", err)
	}
	return journal
}

// BenchmarkTake is what a delta costs, of 2,000 keys in a batch.
func BenchmarkTake(b *testing.B) {
	w, err := NewWriter(Options{Dir: b.TempDir(), Node: "mx1", Log: new(recordedLog).logger()})
	if err != nil {
		b.Fatal(err)
	}
	c := plain("c", time.Hour)
	c.Definition.MaxKeys = 20_000
	batch := &deltas.Batch{Now: someDay, Series: []deltas.Series{{Kept: c}}}
	for i := range 2000 {
		batch.Series[0].Deltas = append(batch.Series[0].Deltas, adds(fmt.Sprintf("192.0.%d.%d", i>>8, i&255), someDay, 1))
	}
	for b.Loop() {
		batch.Number++
		w.Take(batch)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/2000, "ns/delta")
	w.Close()
}

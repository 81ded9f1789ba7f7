package history

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/audit-milter/audit-milter/policy"
	"github.com/audit-milter/audit-milter/series"
)

// shared is a series of events that replicates.
func shared(name string, interval time.Duration) policy.Kept {
	kept := plain(name, interval)
	kept.Replicate = policy.Cluster
	return kept
}

// share tells what another node has told.
func (f *ticks) share(node string, kept policy.Kept, number uint64, list ...series.Delta) {
	f.w.TakeShare(node, kept, slices.Values(list), f.now, number)
}

// snapshot tells all that another node has, in two parts, while time goes on.
func (f *ticks) snapshot(node string, kept policy.Kept, number uint64, list ...series.Delta) {
	f.w.BeginShare(node, kept)
	half := len(list) / 2
	f.share(node, kept, number-1, list[:half]...)
	f.w.Take(f.next(20 * time.Second)) // longer than a window that is over is waited for
	f.share(node, kept, number, list[half:]...)
	f.w.EndShare(node, kept)
}

// pass lets some time pass and everything be written that is due then.
func (f *ticks) pass(after time.Duration) {
	f.t.Helper()
	f.w.Take(f.next(after))
	f.settle()
}

func TestANodeLeavesWhatReplicatesToTheManagers(t *testing.T) {
	dir := t.TempDir()
	f := newTicks(t, Options{Dir: dir})
	f.take(0, plain("alone", time.Minute), adds("192.0.2.1", someDay, 2))
	f.take(0, shared("together", time.Minute), adds("192.0.2.1", someDay, 3))
	f.share("mx2", shared("together", time.Minute), 7, adds("192.0.2.1", someDay, 4))
	f.w.Close()
	readTotals(t, dir).want(t, totals{`alone "192.0.2.1" 1795910400`: 2})
}

func TestAManagerWritesThePartOfEachNodeUnderItsName(t *testing.T) {
	dir := t.TempDir()
	f := newTicks(t, Options{Dir: dir, Manager: true, MinCount: 10})
	c := shared("c", time.Minute)
	f.take(0, c, adds("192.0.2.1", someDay, 2))
	f.share("mx2", c, 7, adds("192.0.2.1", someDay, 3), adds("192.0.2.2", someDay, 20))
	f.share("mx3", c, 9, adds("192.0.2.1", someDay, 5))
	f.share("mx2", c, 8, adds("192.0.2.1", someDay, 4))
	f.pass(75 * time.Second)
	byNode := make(map[string]int64)
	for _, n := range fileNames(t, dir, "c") {
		meta, rows := readFile(t, dir, "c", n)
		for _, r := range rows {
			byNode[fmt.Sprintf("%s %s %d", n.Node, r.Key, n.Through)] += r.Count
		}
		if meta.Node != n.Node {
			t.Errorf("the file %s says that it is of %s", n, meta.Node)
		}
	}
	want := map[string]int64{fmt.Sprintf("mx1  %d", f.number): 2, "mx2 192.0.2.1 8": 7, "mx2 192.0.2.2 8": 20, "mx3 192.0.2.1 9": 5}
	if fmt.Sprint(byNode) != fmt.Sprint(want) {
		t.Errorf("the files have %v, want %v", byNode, want)
	}
	f.w.Close()
}

func TestWhatAnotherNodeTellsLateIsAFurtherRow(t *testing.T) {
	dir := t.TempDir()
	f := newTicks(t, Options{Dir: dir, Manager: true})
	c := shared("c", time.Minute)
	f.snapshot("mx2", c, 2)
	f.share("mx2", c, 7, adds("192.0.2.1", someDay, 3))
	f.pass(75 * time.Second)
	f.share("mx2", c, 8, adds("192.0.2.1", someDay, 4)) // the server was away meanwhile
	f.pass(75 * time.Second)
	readTotals(t, dir).want(t, totals{`c "192.0.2.1" 1795910400`: 7})
	f.w.Close()
}

func TestARemovalOnAnotherNodeIsOfItsPartOnly(t *testing.T) {
	dir := t.TempDir()
	f := newTicks(t, Options{Dir: dir, Manager: true})
	c := shared("c", time.Minute)
	f.take(0, c, adds("192.0.2.1", someDay, 2))
	f.share("mx2", c, 7, adds("192.0.2.1", someDay, 3), adds("192.0.2.2", someDay, 1))
	taken, wish := adds("192.0.2.1", someDay, -3), adds("192.0.2.1", time.Unix(0, 0), 0)
	taken.Removed, wish.Removed = true, true
	f.share("mx2", c, 8, taken, wish)
	f.w.Close()
	readTotals(t, dir).want(t, totals{`c "192.0.2.1" 1795910400`: 2, `c "192.0.2.2" 1795910400`: 1})
}

// After a restart the others' parts come from their snapshots: what the files have of
// them is not written again, and what came while nobody wrote is.
func TestARestartedManagerWritesWhatIsNotYetWritten(t *testing.T) {
	for _, end := range []string{"a stop", "a crash"} {
		t.Run(end, func(t *testing.T) {
			dir := t.TempDir()
			f := newTicks(t, Options{Dir: dir, Manager: true, MinCount: 3})
			c := shared("c", time.Minute)
			next := someDay.Add(time.Minute)
			f.share("mx2", c, 7, adds("192.0.2.1", someDay, 10), adds("192.0.2.2", someDay, 1))
			f.pass(75 * time.Second)
			f.share("mx2", c, 8, adds("192.0.2.1", next, 5))
			if end == "a stop" {
				f.w.Close()
			}

			again := newTicks(t, Options{Dir: dir, Manager: true, MinCount: 3})
			again.now = f.now.Add(time.Second)
			part := adds("192.0.2.1", next, 6)
			part.For = series.Newer
			again.snapshot("mx2", c, 20, adds("192.0.2.3", someDay, 4), adds("192.0.2.2", someDay, 1), adds("192.0.2.1", someDay, 12), part)
			again.share("mx2", c, 21, adds("192.0.2.1", next, 1), adds("192.0.2.1", someDay, 1))
			again.pass(2 * time.Minute)
			readTotals(t, dir).want(t, totals{
				`c "192.0.2.1" 1795910400`: 13, `c "192.0.2.2" 1795910400`: 1, `c "192.0.2.3" 1795910400`: 4,
				`c "192.0.2.1" 1795910460`: 7,
			})
			again.w.Close()
		})
	}
}

func TestWhatASnapshotLacksStaysAsItIsWritten(t *testing.T) {
	dir := t.TempDir()
	f := newTicks(t, Options{Dir: dir, Manager: true})
	c := shared("c", time.Minute)
	f.share("mx2", c, 7, adds("192.0.2.1", someDay, 10), adds("192.0.2.2", someDay, 8))
	f.pass(75 * time.Second)
	f.snapshot("mx2", c, 20, adds("192.0.2.1", someDay, 4)) // removed, and added to again
	f.pass(75 * time.Second)
	readTotals(t, dir).want(t, totals{`c "192.0.2.1" 1795910400`: 10, `c "192.0.2.2" 1795910400`: 8})
	f.w.Close()
}

// Of a node whose clock is a day ahead no more is held than of the others, and what it
// tells of a window is in one file all the same.
func TestWindowsOfANodeWhoseClockIsAheadDoNotWaitForTheirTime(t *testing.T) {
	dir := t.TempDir()
	f := newTicks(t, Options{Dir: dir, Manager: true})
	c := shared("c", time.Minute)
	want := make(totals)
	for i := range 60 {
		theirs := f.now.Add(24 * time.Hour).Truncate(time.Minute)
		f.share("mx2", c, uint64(1+i), adds("192.0.2.1", theirs, 1))
		want.add("c", "192.0.2.1", theirs.Unix(), 1)
		f.w.Take(f.next(10 * time.Second))
		if held := len(f.w.shares[shareOf{"mx2", identityOf(c)}].windows); held > 2 {
			t.Fatalf("%d windows are open, want 2 at the most: the current one, and that before it", held)
		}
	}
	f.w.Close()
	readTotals(t, dir).want(t, want)
	if n := len(fileNames(t, dir, "c")); n != 10 {
		t.Errorf("there are %d files of 10 windows", n)
	}
}

// A gap in what was told: the snapshot stands for what was there and for what is missing.
func TestASnapshotStandsForWhatWasMissed(t *testing.T) {
	dir := t.TempDir()
	f := newTicks(t, Options{Dir: dir, Manager: true})
	c := shared("c", time.Minute)
	f.share("mx2", c, 7, adds("192.0.2.1", someDay, 10))
	f.snapshot("mx2", c, 20, adds("192.0.2.1", someDay, 17))
	f.share("mx2", c, 21, adds("192.0.2.1", someDay, 1))
	f.pass(75 * time.Second)
	readTotals(t, dir).want(t, totals{`c "192.0.2.1" 1795910400`: 18})
	f.w.Close()
}

// The maintainer has folded small keys of a day that is over into one row.
func TestSmallKeysOfAMergedFileAreNotWrittenAgain(t *testing.T) {
	dir := t.TempDir()
	written(t, dir, "c", "mx2", someDay, time.Hour, 7, []Row{{"", someDay.Unix(), 2}, {"192.0.2.1", someDay.Unix(), 10}})
	f := newTicks(t, Options{Dir: dir, Manager: true, MinCount: 3})
	f.snapshot("mx2", shared("c", time.Hour), 20, adds("192.0.2.1", someDay, 11), adds("192.0.2.2", someDay, 2), adds("192.0.2.3", someDay, 5))
	f.pass(2 * time.Hour)
	readTotals(t, dir).want(t, totals{`c "" 1795910400`: 2, `c "192.0.2.1" 1795910400`: 11, `c "192.0.2.3" 1795910400`: 5})
	f.w.Close()
}

func TestAWindowWithTooManyKeysOfAnotherNodeIsWrittenInPieces(t *testing.T) {
	dir := t.TempDir()
	f := newTicks(t, Options{Dir: dir, Manager: true})
	c := shared("c", time.Minute)
	c.Definition.MaxKeys = 2
	want := make(totals)
	for round := range uint64(3) {
		for i := range 4 {
			key := fmt.Sprintf("192.0.2.%d", i)
			f.share("mx2", c, 10*round+uint64(i)+1, adds(key, someDay, 1))
			want.add("c", key, someDay.Unix(), 1)
		}
	}
	f.pass(75 * time.Second)
	readTotals(t, dir).want(t, want)
	f.w.Close()
}

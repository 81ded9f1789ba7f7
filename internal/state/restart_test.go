package state

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/audit-milter/audit-milter/internal/deltas"
	"github.com/audit-milter/audit-milter/policy"
	"github.com/audit-milter/audit-milter/series"
)

// Again and again a node counts for a while, begins snapshots of which some are never
// complete, and goes on with what a restart finds.
func TestARestartFindsAllThatWasCounted(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 5))
			n := newNode()
			dir := t.TempDir()
			for range 8 {
				s, restored := mustOpen(t, dir)
				if restored.Number > 0 {
					want := n.told()
					if got := told(restored.Series, restored.Penalties, n.now); got != want {
						t.Fatalf("restored\n%s\nwant\n%s", got, want)
					}
					n.restart(restored)
				}
				s.Take(n.tick(true, r.IntN(5)))
				for range r.IntN(60) {
					n.now = n.now.Add(time.Duration(r.IntN(3000)) * time.Millisecond)
					for range r.IntN(20) {
						n.act(r)
					}
					s.Take(n.tick(r.IntN(15) == 0, r.IntN(20)))
				}
				mustClose(t, s)
			}
		})
	}
}

func TestABatchIsReadAsItWasWritten(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	n := newNode()
	var e encoder
	for i := range 300 {
		n.now = n.now.Add(time.Second)
		for range 20 {
			n.act(r)
		}
		want := n.tick(i%50 == 0, 5)
		got, err := deltas.Decode(e.encode(want).bytes[frameLen:])
		if err != nil {
			t.Fatal(err)
		}
		if got.Begin != want.Begin || got.End != want.End || got.Number != want.Number || !got.Now.Equal(want.Now) {
			t.Fatalf("batch %+v, want %+v", got, want)
		}
		for i, s := range got.Series {
			if len(s.Deltas) > 0 && !reflect.DeepEqual(s.Deltas, want.Series[i].Deltas) {
				t.Fatalf("series %s:\n%v\nwant\n%v", s.Name, s.Deltas, want.Series[i].Deltas)
			}
		}
		for i, p := range got.Penalties {
			p.Until = p.Until.UTC()
			if !p.Until.Equal(want.Penalties[i].Until) || p.Subject != want.Penalties[i].Subject {
				t.Fatalf("penalty %v, want %v", p, want.Penalties[i])
			}
		}
	}
}

func TestSinceWhenASeriesHasCountedOutlastsARestart(t *testing.T) {
	n := newNode()
	dir := t.TempDir()
	s, _ := mustOpen(t, dir)
	n.now = n.now.Add(25 * time.Minute)
	want := n.kept[1].Counter.Covered(n.now)
	s.Take(n.tick(true, 1000))
	mustClose(t, s)
	s, restored := mustOpen(t, dir)
	defer mustClose(t, s)
	if got := restored.Series[1].Counter.Covered(n.now); got != want || want == 0 {
		t.Errorf("covered %d windows, want %d", got, want)
	}
}

// A reload gives a series another interval. A crash before the next snapshot is
// complete finds what the reload carried over.
func TestASeriesThatChangedTakesOverWhatItCounted(t *testing.T) {
	n := newNode()
	dir := t.TempDir()
	s, _ := mustOpen(t, dir)
	user := series.TextKey("user")
	n.kept[1].Counter.(*series.Series).Add(user, 5, n.now)
	s.Take(n.tick(true, 1000))

	longer := byText
	longer.Interval = 20 * time.Minute
	l := newLasting(longer, nil)
	l.Counter.Begin(n.now)
	l.CarryFrom(n.kept[1].Lasting, n.now)
	n.kept[1] = policy.Kept{Lasting: l, Persist: true}
	l.Counter.Follow()
	l.Counter.(*series.Series).Add(user, 2, n.now)
	s.Take(n.tick(true, 0)) // never complete
	mustClose(t, s)

	s, restored := mustOpen(t, dir)
	defer mustClose(t, s)
	c := restored.Series[1].Counter
	if got := c.Count(user, series.Host, 0, 0, n.now); got != 7 || c.Definition().Interval != longer.Interval {
		t.Errorf("counts %d in %v, want 7 in %v", got, c.Definition().Interval, longer.Interval)
	}
}

func TestWhatDoesNotPersistIsNotKept(t *testing.T) {
	n := newNode()
	n.kept[0].Persist = false
	dir := t.TempDir()
	s, _ := mustOpen(t, dir)
	s.Take(n.tick(true, 1000))
	n.kept[1].Persist = false // a reload; the snapshot after it no longer tells the series
	s.Take(n.tick(true, 0))
	mustClose(t, s)
	s, restored := mustOpen(t, dir)
	defer mustClose(t, s)
	if len(restored.Series) != 1 || restored.Series[0].Definition.Name != ofValues.Name {
		t.Errorf("restored %d series, want %s alone", len(restored.Series), ofValues.Name)
	}
}

// A reload has dropped a rule, of whose penalties no delta tells.
func TestASnapshotThatIsNeverCompleteEndsPenaltiesThatItDoesNotHave(t *testing.T) {
	n := newNode()
	dir := t.TempDir()
	s, _ := mustOpen(t, dir)
	n.penalize(policy.Subject{Text: "user"}, n.now.Add(time.Hour))
	s.Take(n.tick(true, 1000))
	clear(n.penalties)
	n.penalize(policy.Subject{Text: "other"}, n.now.Add(time.Hour))
	s.Take(n.tick(true, 0))
	mustClose(t, s)
	s, restored := mustOpen(t, dir)
	defer mustClose(t, s)
	if p := restored.Penalties; len(p) != 1 || p[0].Text != "other" {
		t.Errorf("penalties %v, want that of other", p)
	}
}

func TestWhatIsNeededStaysAndIsToldAgain(t *testing.T) {
	n := newNode()
	dir := t.TempDir()
	var told []uint64
	var needed atomic.Uint64
	o := new(logged).options()
	o.Replayed = func(b *deltas.Batch) { told = append(told, b.Number) }
	o.Needed = needed.Load
	var taken []uint64
	for _, want := range []int{0, 4, 6} { // before each four snapshots, of which at last some are not needed
		told = nil
		s, _, err := Open(dir, o)
		if err != nil {
			t.Fatal(err)
		}
		if len(told) != want || !slices.Equal(told, taken[len(taken)-want:]) {
			t.Errorf("told %v of %v, want the last %d", told, taken, want)
		}
		for range 4 {
			b := n.tick(true, 1000)
			taken = append(taken, b.Number)
			s.Take(b)
		}
		if len(taken) == 8 {
			needed.Store(taken[2])
		}
		mustClose(t, s)
	}
}

func TestReplayedBatchesAreTold(t *testing.T) {
	n := newNode()
	dir := t.TempDir()
	s, _ := mustOpen(t, dir)
	n.kept[0].Serialize = true
	first := n.tick(true, 1000)
	s.Take(first)
	n.kept[0].Counter.(*series.Series).Add(series.AddrKey(netip.MustParseAddr("192.0.2.1")), 3, n.now)
	second := n.tick(false, 0)
	s.Take(second)
	mustClose(t, s)

	var got []*deltas.Batch
	o := new(logged).options()
	o.Replayed = func(b *deltas.Batch) { got = append(got, b) }
	s, restored, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	defer mustClose(t, s)
	if len(got) != 2 || got[0].Number != first.Number || !got[0].Begin || !got[0].End || got[1].Number != second.Number {
		t.Fatalf("told %+v", got)
	}
	told := got[1].Series[0]
	if told.Lasting != restored.Series[0] || !told.Serialize || !reflect.DeepEqual(told.Deltas, second.Series[0].Deltas) {
		t.Errorf("told %+v, want %+v of the restored series", told, second.Series[0])
	}
}

func TestStartsThatEndedEarlyAreCounted(t *testing.T) {
	dir := t.TempDir()
	n := newNode()
	s, _ := mustOpen(t, dir)
	s.Take(n.tick(true, 1000))
	mustClose(t, s)
	for want := range 3 {
		s, r := mustOpen(t, dir)
		if r.Unfinished != want {
			t.Errorf("%d, want %d", r.Unfinished, want)
		}
		n.restart(r)
		s.Take(n.tick(true, 0))
		mustClose(t, s)
	}
}

// What was restored is another name's until a snapshot without it is complete: a crash
// before that must find the old name.
func TestTheNodesNameGoesWithTheSnapshot(t *testing.T) {
	n := newNode()
	dir := t.TempDir()
	for _, row := range []struct {
		name, had string
		step      int // of the snapshot's keys; 0: it is not completed
	}{
		{"mx1", "", 1000},
		{"mx2", "mx1", 0},
		{"mx2", "mx1", 1000},
		{"", "mx2", 1000}, // in no cluster
		{"mx2", "mx2", 1000},
	} {
		o := (&logged{}).options()
		o.Node = row.name
		s, restored, err := Open(dir, o)
		if err != nil {
			t.Fatal(err)
		}
		if restored.Node != row.had {
			t.Errorf("%q finds the name %q, want %q", row.name, restored.Node, row.had)
		}
		s.Take(n.tick(true, row.step))
		mustClose(t, s)
	}
}

// A daemon that dies again and again before its first sync leaves a file each time.
func TestStartsThatEndBeforeASyncDoNotPileUp(t *testing.T) {
	for _, row := range []struct{ step, every, left int }{ // the new file among them
		{1000, 1, 3}, // each has a whole snapshot: those of the last two stay
		{1000, 4, 7}, // each fourth one, the second, sixth and tenth; one comes behind that
		{0, 1, 12},   // none: all of them are needed
	} {
		n, e, dir := newNode(), new(encoder), t.TempDir()
		for i := range 11 {
			n.kept[1].Counter.(*series.Series).Add(key(i), 1, n.now)
			step := row.step
			if i%row.every != 1%row.every {
				step = 0
			}
			b := n.tick(true, step)
			content := append(headerOf(format), e.encode(b).bytes...)
			if err := os.WriteFile(segment{number: b.Number}.path(dir), content, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		want := n.told()
		s, restored := mustOpen(t, dir)
		n.restart(restored)
		s.Take(n.tick(true, 0))
		mustClose(t, s)
		if left, _ := list(dir); len(left) != row.left {
			t.Errorf("%v: %d files are left", row, len(left))
		}
		s, restored = mustOpen(t, dir)
		mustClose(t, s)
		if got := told(restored.Series, restored.Penalties, n.now); got != want {
			t.Errorf("%v: restored\n%s\nwant\n%s", row, got, want)
		}
	}
}

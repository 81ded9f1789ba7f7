package cluster

import (
	"fmt"
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/audit-milter/audit-milter/internal/deltas"
	"github.com/audit-milter/audit-milter/policy"
	"github.com/audit-milter/audit-milter/series"
)

// slowServer is a cluster before a server that takes so many bytes a tick.
type slowServer struct {
	*Cluster
	now    time.Time
	kept   policy.Kept
	number uint64
	takes  int64
	room   int64
	whole  int
}

func newSlowServer(t *testing.T, takes int64) *slowServer {
	s := &slowServer{now: time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC), takes: takes}
	c, err := Open(Options{
		Name: "test", Node: "mx1", Addresses: []string{"127.0.0.1:1"},
		Now: func() time.Time { return s.now }, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	c.joined, c.status.Contact = true, s.now
	s.Cluster = c
	n := &node{TB: t}
	s.kept = n.newEngine(nodeOptions{definitions: definitions}).Kept()[2]
	return s
}

// tick takes a batch of these deltas, and the server what it can.
func (s *slowServer) tick(begin, end bool, told []series.Delta) {
	s.now = s.now.Add(deltas.Interval)
	s.number++
	s.Take(&deltas.Batch{Number: s.number, Now: s.now, Begin: begin, End: end, Series: []deltas.Series{{Kept: s.kept, Deltas: told}}})
	for s.room += s.takes; ; {
		some := s.first()
		if len(some) == 0 || s.room < some[0].size() {
			break
		}
		s.room -= some[0].size()
		if some[0].last && some[0].lasting != nil {
			s.whole++
		}
		s.sent(some[:1], []int64{written})
	}
	s.room = min(s.room, 1<<20)
}

// someDeltas are 200 kB of deltas.
func someDeltas(of series.For) []series.Delta {
	told := make([]series.Delta, 2000)
	for i := range told {
		told[i] = series.Delta{Key: series.TextKey(fmt.Sprintf("%090d", i)), Start: 1, Amount: 1, For: of}
	}
	return told
}

// A snapshot of 40 MB, which is told at twice the pace at which the server takes it.
func TestASnapshotOfMoreThanMayWaitIsWholeWhereTheServerIsSlow(t *testing.T) {
	s := newSlowServer(t, 100_000)
	const parts = 200
	left := 0
	for range 700 {
		begin := s.WantsSnapshot()
		if begin {
			left = parts
		}
		if left == 0 || !begin && s.IsBusy() {
			s.tick(begin, false, nil)
			continue
		}
		left--
		s.tick(begin, left == 0, someDeltas(series.Newer))
		if s.waitingBytes > maxWaiting {
			t.Fatalf("%d bytes wait", s.waitingBytes)
		}
	}
	if s.whole == 0 {
		t.Errorf("no snapshot is whole after 70 seconds; %d entries were let go", s.status.LetGo)
	}
}

// More comes all the time than the server takes: each snapshot costs what the batches
// before it could have used.
func TestSnapshotsAreSeldomWhileMoreComesThanTheServerTakes(t *testing.T) {
	s := newSlowServer(t, 1000)
	fresh := someDeltas(series.Both)
	for i := range fresh {
		fresh[i].Start = int64(i)
	}
	begins := 0
	for range 3000 { // five minutes
		begin := s.WantsSnapshot()
		if begin {
			begins++
		}
		s.tick(begin, false, fresh)
	}
	if begins < 2 || begins > 10 {
		t.Errorf("%d snapshots were begun in five minutes, want about one a minute", begins)
	}
	s.takes = 100 << 20
	for range int(snapshotEvery/deltas.Interval) + 1 {
		s.tick(s.WantsSnapshot(), true, nil)
	}
	if s.whole == 0 || s.rest != beginEvery {
		t.Errorf("%d snapshots are whole once the server is fast, and the next one waits %v", s.whole, s.rest)
	}
}

// unlocked is a log that finds out whether its writer holds the cluster's lock.
type unlocked struct {
	testing.TB
	*Cluster
	lines int
}

func (u *unlocked) Write(line []byte) (int, error) {
	u.lines++
	if !u.mu.TryLock() {
		u.Errorf("this is logged under the lock: %s", line)
		return len(line), nil
	}
	u.mu.Unlock()
	return len(line), nil
}

func TestNothingIsLoggedUnderTheLockThatBatchesWaitFor(t *testing.T) {
	s := newSlowServer(t, 0)
	log := &unlocked{TB: t, Cluster: s.Cluster}
	s.Log = slog.New(slog.NewTextHandler(log, nil))
	r := newReader(s.Cluster, nil)
	r.Engine = func() Engine { return (&node{TB: t}).newEngine(nodeOptions{definitions: definitions}) }
	r.follow()
	s.failing(reading, io.EOF)
	s.works(reading)
	s.tick(true, true, nil)
	r.acked, r.self.Time = 1, 1
	r.recognize(`{"life":"another"}`)
	r.recognize("")
	s.tick(true, true, nil)
	s.sent(s.first(), []int64{written + 1})
	r.compareClocks("mx2", &presence{Skew: time.Hour.Milliseconds() * 2})
	if log.lines != 6 {
		t.Errorf("%d lines were logged, want 6", log.lines)
	}
}

// All penalties that run go into the batch with which a snapshot begins, however many.
func TestMorePenaltiesThanMayWaitStopNoCounts(t *testing.T) {
	s := newServer(t)
	a, b := twoNodes(t, s.path, "a", "b")
	const penalties = 20_000
	for i := range penalties {
		subject := policy.Subject{Text: fmt.Sprintf("%0500d", i)}
		a.engine.SetPenalty(policy.Penalty{Rule: "flood", Subject: subject, Until: a.now().Add(9 * time.Minute)}, a.now())
	}
	eventually(t, func() error {
		if got := len(b.engine.Penalties(b.now())); got != penalties {
			return fmt.Errorf("b has %d penalties\n%s", got, a.log)
		}
		return nil
	})
	begun := a.cluster.Status().SnapshotAt
	a.demand()
	eventually(t, func() error {
		if at := a.cluster.Status().SnapshotAt; !at.After(begun) {
			return fmt.Errorf("the last snapshot is of %v", at)
		}
		return nil
	})
	a.add(1, 5)
	expect(t, []*node{a, b}, map[int]int64{1: 5})
}

// What is sent at once is what a link takes in a second or so: an answer that takes longer,
// or does not come, halves it, and a fast one doubles it.
func TestASlowLinkHasLessAtOnce(t *testing.T) {
	c := newSlowServer(t, 0).Cluster
	for _, step := range []struct {
		times int
		took  time.Duration
		err   error
		want  int64
	}{
		{1, time.Millisecond, nil, 2 * minAtOnce},
		{20, time.Millisecond, nil, maxAtOnce},
		{1, 2 * time.Second, nil, maxAtOnce / 2},
		{3, time.Second / 2, nil, maxAtOnce / 2},
		{1, time.Millisecond, io.ErrUnexpectedEOF, maxAtOnce / 4},
		{20, 2 * time.Second, nil, minAtOnce},
	} {
		for range step.times {
			c.pace(step.took, step.err)
		}
		if c.atOnce != step.want {
			t.Fatalf("after %d answers in %v (%v), %d bytes go at once, want %d", step.times, step.took, step.err, c.atOnce, step.want)
		}
	}
}

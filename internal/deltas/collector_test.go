package deltas

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/audit-milter/audit-milter/internal/config"
	"github.com/audit-milter/audit-milter/internal/short"
	"github.com/audit-milter/audit-milter/policy"
	"github.com/audit-milter/audit-milter/series"
)

// policies follow one another in reloads.
var policies = []string{`
series:
  addresses: {type: ip, interval: 1m, windows: 4, add: {at: connect}}
  users: {type: string, interval: 30s, windows: 3, add: {at: mail, key: sasl_username}}
  networks: {type: string, interval: 1m, windows: 3, distinct: client_address, add: {at: mail, key: sasl_username}}
  clients: {type: ip, interval: 1m, windows: 2, distinct: sasl_username, add: {at: mail}}
rules:
  - {name: flood, at: connect, if: {series: addresses, above: 5}, then: tempfail, penalty: 10m}
  - {name: shared, at: mail, if: {series: clients, mask: {ipv4: 24, ipv6: 64}, above: 3}, then: tempfail, penalty: 10m}
`, `
series:
  users: {type: string, interval: 30s, windows: 3, add: {at: mail, key: sasl_username}}
  addresses: {type: ip, interval: 1m, windows: 6, add: {at: connect}}
  clients: {type: ip, interval: 1m, windows: 2, distinct: sasl_username, add: {at: mail}}
rules:
  - {name: flood, at: connect, if: {series: addresses, above: 5}, then: tempfail, penalty: 10m}
`}

// world is a daemon on a clock of its own, without sessions and disks.
type world struct {
	*testing.T
	rand   *rand.Rand
	now    time.Time
	engine *policy.Engine
	*Collector
	replicas []*replica
	wants    bool // a snapshot
	busy     bool
	ends     int // of snapshots
	compared int // replicas

	// What was added to each series that counts amounts while it was followed, and what
	// its deltas told.
	followed    map[*policy.Lasting]bool
	added, told map[*policy.Lasting]int64
}

func newWorld(t *testing.T, seed uint64) *world {
	w := &world{T: t, rand: rand.New(rand.NewPCG(seed, 0)), now: time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)}
	w.followed = make(map[*policy.Lasting]bool)
	w.added, w.told = make(map[*policy.Lasting]int64), make(map[*policy.Lasting]int64)
	w.Collector = New(0, w)
	w.step = 5
	var err error
	if w.engine, err = policy.NewEngine(w.policy(0), policy.Options{Start: w.now}); err != nil {
		t.Fatal(err)
	}
	w.follow(w.engine)
	w.Collect(w.engine, w.now)
	return w
}

// policy is one of which all persists, but by chance.
func (w *world) policy(i int) *policy.Policy {
	conf, err := config.Parse("policy.yaml", []byte(policies[i]))
	if err != nil {
		w.Fatal(err)
	}
	for _, s := range conf.Policy.Series {
		s.Persist, s.Serialize = w.rand.IntN(6) > 0, w.rand.IntN(2) > 0
		s.MaxKeys = 2048 // as many trees on any machine, for which a snapshot takes as many steps
	}
	return conf.Policy
}

// follow notes what is followed of an engine's series.
func (w *world) follow(e *policy.Engine) {
	for _, k := range e.Kept() {
		if k.Persist || k.Serialize {
			w.followed[k.Lasting] = true
		}
	}
}

func (w *world) WantsSnapshot() bool { return w.wants }
func (w *world) IsBusy() bool        { return w.busy }

func (w *world) Take(b *Batch) {
	if b.Begin {
		w.wants = false
		w.replicas = append(w.replicas, newReplica(w.T))
	}
	w.replicas = slices.DeleteFunc(w.replicas, func(r *replica) bool { return !r.take(b) })
	if b.End {
		w.ends++
	}
	for _, s := range b.Series {
		for _, d := range s.Deltas {
			if d.For != series.Newer && !d.Removed {
				w.told[s.Lasting] += d.Amount
			}
		}
	}
	if n := len(w.replicas); n > 5 { // the eldest, and some that are young
		w.replicas = slices.Delete(w.replicas, 1, n-4)
	}
}

// act does one thing that happens in a daemon.
func (w *world) act() {
	switch n := w.rand.IntN(400); {
	case n < 300:
		w.add()
	case n < 320:
		w.remove()
	case n < 322:
		w.removeBlock()
	case n < 330:
		w.engine.SetPenalty(policy.Penalty{Rule: w.rule(), Subject: w.subject(), Until: w.now.Add(w.upTo(10 * time.Minute))}, w.now)
	case n < 333:
		if _, err := w.engine.RemovePenalty(w.rule(), w.subject().String(), w.now); err != nil {
			w.Fatal(err)
		}
	case n < 360:
		w.now = w.now.Add(w.upTo(20 * time.Second))
	case n < 363:
		w.reload()
	case n < 366:
		w.wants = true
	case n < 368:
		w.busy = !w.busy
	default:
		w.Collect(w.engine, w.now)
		w.compare()
	}
}

func (w *world) compare() {
	for _, r := range w.replicas {
		if r.complete {
			r.expect(w.engine, w.now)
			w.compared++
		}
	}
	for l, n := range w.added {
		if w.told[l] != n {
			w.Fatalf("%s has told of %d, and counted %d", l.Definition.Name, w.told[l], n)
		}
	}
}

func (w *world) upTo(most time.Duration) time.Duration {
	return time.Duration(w.rand.Int64N(int64(most)))
}

// kept is any of the series that the engine has.
func (w *world) kept() policy.Kept {
	kept := w.engine.Kept()
	return kept[w.rand.IntN(len(kept))]
}

func (w *world) rule() string {
	rules := w.engine.Rules()
	return rules[w.rand.IntN(len(rules))].Name
}

func (w *world) addr() netip.Addr {
	if w.rand.IntN(3) == 0 {
		return netip.MustParseAddr(fmt.Sprintf("2001:db8::%x:0:0:%x", w.rand.IntN(3), w.rand.IntN(9)))
	}
	return netip.AddrFrom4([4]byte{192, 0, byte(w.rand.IntN(3)), byte(w.rand.IntN(9))})
}

func (w *world) subject() policy.Subject {
	addr := w.addr()
	return policy.Subject{Network: netip.PrefixFrom(addr, addr.BitLen())}
}

// key is one that the counter takes.
func (w *world) key(c policy.Counter) series.Key {
	if k := series.AddrKey(w.addr()); c.Takes(k) {
		return k
	}
	return series.TextKey(fmt.Sprint("user", w.rand.IntN(30)))
}

func (w *world) add() {
	k := w.kept()
	switch c := k.Counter.(type) {
	case *series.Series:
		n := w.rand.Int64N(9) - 2
		c.Add(w.key(c), n, w.now)
		if w.followed[k.Lasting] {
			w.added[k.Lasting] += n
		}
	case *series.Distinct:
		for range 1 + w.rand.IntN(20) {
			c.Add(w.key(c), fmt.Sprint(w.rand.IntN(500)), w.now)
		}
	}
}

func (w *world) remove() {
	c := w.kept().Counter
	c.Remove(w.key(c))
}

func (w *world) removeBlock() {
	if s, ok := w.engine.Counter("addresses").(*series.Series); ok {
		addr := w.addr()
		block, _ := addr.Prefix(addr.BitLen() - w.rand.IntN(4))
		s.RemoveBlock(block)
	}
}

func (w *world) reload() {
	before := w.engine
	next, _, err := before.Successor(w.policy(w.rand.IntN(len(policies))), policy.Options{Start: w.now})
	if err != nil {
		w.Fatal(err)
	}
	w.add() // to the one that is still in force
	w.Change(next, w.now, func() {
		w.follow(next)
		w.add()
		w.engine = next
		w.add()
		before.Retire(next)
	})
	clear(w.followed)
	w.follow(next)
}

func TestWhoTakesBatchesHasTheCounts(t *testing.T) {
	for seed := range uint64(short.Part(6, 2)) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			w := newWorld(t, seed)
			for range 2000 {
				w.act()
			}
			if w.ends < 5 || w.compared < 100 {
				t.Errorf("%d snapshots were completed and %d replicas compared: that shows little", w.ends, w.compared)
			}
		})
	}
}

// numbers keeps what the batches say of themselves.
type numbers []*Batch

func (n *numbers) WantsSnapshot() bool { return false }
func (n *numbers) Take(b *Batch)       { *n = append(*n, b) }

func TestNumbersRiseWhateverTheClockDoes(t *testing.T) {
	w := newWorld(t, 0)
	var taken numbers
	const last = 1 << 50 // somebody's clock was in the far future
	for _, row := range []struct {
		last uint64
		want uint64
	}{{0, uint64(w.now.UnixMilli())}, {last, last + 1}} {
		taken = nil
		c := New(row.last, &taken)
		for _, step := range []time.Duration{0, time.Hour, -2 * time.Hour, 1, time.Second} {
			w.now = w.now.Add(step)
			c.Collect(w.engine, w.now)
		}
		w.now = w.now.Add(time.Hour - time.Second - 1)
		if taken[0].Number != row.want {
			t.Errorf("the first has number %d, want %d", taken[0].Number, row.want)
		}
		for i, b := range taken[1:] {
			if b.Number <= taken[i].Number {
				t.Errorf("%d follows %d", b.Number, taken[i].Number)
			}
		}
		if len(taken) != 4 {
			t.Errorf("%d batches came, want 4: the clock's steps, and not the one of a nanosecond", len(taken))
		}
	}
}

func TestASnapshotTakesSeveralBatches(t *testing.T) {
	w := newWorld(t, 1)
	var err error
	if w.engine, err = policy.NewEngine(w.policy(0), policy.Options{Start: w.now}); err != nil {
		t.Fatal(err)
	}
	var taken numbers
	c := New(0, &taken)
	c.step = 100
	addresses := w.engine.Counter("addresses").(*series.Series)
	for i := range 1000 {
		addresses.Add(series.AddrKey(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})), 1, w.now)
	}
	for range 20 {
		c.Collect(w.engine, w.now)
	}
	ends := slices.IndexFunc(taken, func(b *Batch) bool { return b.End })
	if !taken[0].Begin || ends < 6 || ends > 10 || len(taken) != ends+1 {
		t.Errorf("it ends with batch %d of %d, want about 8 and no batch behind it", ends, len(taken))
	}
	for i, b := range taken {
		for _, s := range b.Series {
			if n := len(s.Deltas); n > 100+64 {
				t.Errorf("batch %d has %d deltas of %s", i, n, s.Definition.Name)
			}
		}
	}
}

// What was counted before the clock was set back is told as of the time that it is now, also
// when nothing has happened since: as of a time to come nobody would take it.
func TestASnapshotHasWhatWasCountedBeforeTheClockWasSetBack(t *testing.T) {
	w := newWorld(t, 1)
	for _, k := range w.engine.Kept() {
		switch c := k.Counter.(type) {
		case *series.Series:
			c.Add(w.key(c), 1, w.now)
		case *series.Distinct:
			c.Add(w.key(c), "value", w.now)
		}
	}
	w.now = w.now.Add(-24 * time.Hour)
	w.replicas, w.wants = nil, true
	for ends := w.ends; w.ends == ends; {
		w.Collect(w.engine, w.now)
	}
	if w.compare(); w.compared != 1 {
		t.Errorf("%d replicas were compared, want 1", w.compared)
	}
}

// busy is a taker that may be.
type busy struct {
	numbers
	is bool
}

func (b *busy) IsBusy() bool { return b.is }

func TestASnapshotWaitsForWhoIsBusyAndWhatIsNewDoesNot(t *testing.T) {
	w := newWorld(t, 1)
	var err error
	if w.engine, err = policy.NewEngine(w.policy(0), policy.Options{Start: w.now}); err != nil {
		t.Fatal(err)
	}
	taken := &busy{is: true}
	c := New(0, taken)
	c.step = 100
	addresses := w.engine.Counter("addresses").(*series.Series)
	key := func(i int) series.Key { return series.AddrKey(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})) }
	for i := range 1000 {
		addresses.Add(key(i), 1, w.now)
	}
	c.Collect(w.engine, w.now)
	taken.numbers = nil
	for i := range 20 {
		addresses.Add(key(i), 1, w.now)
		c.Collect(w.engine, w.now)
	}
	if len(taken.numbers) != 20 {
		t.Errorf("%d batches with what is new came, want 20", len(taken.numbers))
	}
	for i, b := range taken.numbers {
		if b.End || len(b.Series) != 1 || len(b.Series[0].Deltas) != 1 {
			t.Errorf("batch %d has %v, want what is new alone", i, b.Series)
		}
	}
	c.Finish(w.engine, w.now)
	if last := taken.numbers[len(taken.numbers)-1]; !last.End {
		t.Error("at the end the snapshot is not complete")
	}
}

// Sessions count while it is collected: nothing may be told twice, nor be left out.
func TestWhatIsAddedWhileItIsCollected(t *testing.T) {
	w := newWorld(t, 2)
	w.step = 500
	var adds sync.WaitGroup
	for worker := range 2 {
		addresses := w.engine.Counter("addresses").(*series.Series)
		adds.Go(func() {
			for i := range 20_000 {
				addresses.Add(series.AddrKey(netip.AddrFrom4([4]byte{10, 0, byte(worker), byte(i)})), 1, w.now)
			}
		})
	}
	done := make(chan struct{})
	go func() { adds.Wait(); close(done) }()
	for busy := true; busy; {
		select {
		case <-done:
			busy = false
		default:
		}
		w.wants = !w.open
		w.Collect(w.engine, w.now)
	}
	w.compare()
	if w.ends < 2 {
		t.Errorf("%d snapshots were completed: that shows little", w.ends)
	}
}

func TestItCollectsTenTimesASecondUntilTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 3)
		ctx, end := context.WithCancel(t.Context())
		over := make(chan struct{})
		asked := 0
		go func() {
			w.Collector.Run(ctx, func() Engine { asked++; return w.engine }, time.Now)
			close(over)
		}()
		time.Sleep(time.Second + Interval/2)
		end()
		<-over
		if asked != 10 {
			t.Errorf("it has collected %d times in a second", asked)
		}
	})
}

// A sketch is as large as hundreds of amounts, so fewer of them go into a batch.
func TestABatchOfSketchesIsNoLarger(t *testing.T) {
	def := series.Definition{Name: "networks", Type: series.String, Interval: time.Hour, Windows: 2}
	l, err := policy.NewLasting(def, &policy.Distinct{Of: policy.Term{Attribute: policy.Sender}, Mask: series.Host}, nil)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	l.Counter.Begin(now)
	const keys = 2000
	for i := range keys {
		l.Counter.Merge(series.Delta{Key: series.TextKey(fmt.Sprint(i)), Start: now.Unix(), Sketch: &series.Sketch{1, 2, 3}}, now)
	}
	var taken numbers
	New(0, &taken).Finish(&keeping{{Lasting: l, Persist: true}}, now)
	told := 0
	for i, b := range taken {
		for _, s := range b.Series {
			if told += len(s.Deltas); len(s.Deltas) > 512 {
				t.Errorf("batch %d has %d sketches", i, len(s.Deltas))
			}
		}
	}
	if told != keys || !taken[len(taken)-1].End {
		t.Errorf("%d of %d are told, to the end: %v", told, keys, taken[len(taken)-1].End)
	}
}

// What is counted while a tick works waits for the next one, and would be lost in a
// crash: where the processor is slow, a tick leaves more of a snapshot to those that
// follow, and the end of the daemon does not.
func TestASlowSnapshotTakesMoreTicks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, err := policy.NewLasting(series.Definition{Name: "users", Type: series.String, Interval: time.Hour, Windows: 2}, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		const keys = 10_000
		for i := range keys {
			l.Counter.(*series.Series).Add(series.TextKey(fmt.Sprint(i)), 1, time.Now())
		}
		l.Counter = slow{l.Counter}
		engine := &keeping{{Lasting: l, Persist: true}}
		var taken numbers
		c := New(0, &taken)
		for range 3 {
			begun := time.Now()
			c.Collect(engine, begun)
			if took := time.Since(begun); took > snapshotTime+lag {
				t.Errorf("a tick took %v", took)
			}
		}
		c.Finish(engine, time.Now())
		if last := taken[len(taken)-1]; len(taken) != 4 || !last.End {
			t.Errorf("%d batches came, the last one the end of the snapshot: %v; want three, and that", len(taken), last.End)
		}
	})
}

const lag = time.Millisecond // of a slow processor with each part of a snapshot

// slow is a series on a slow processor.
type slow struct{ policy.Counter }

func (s slow) Snapshot() series.Snapshot { return slowSnapshot{s.Counter.Snapshot()} }

type slowSnapshot struct{ series.Snapshot }

func (s slowSnapshot) Next(yield func(series.Delta)) (more bool) {
	time.Sleep(lag)
	return s.Snapshot.Next(yield)
}

// keeping is an engine without penalties.
type keeping []policy.Kept

func (k *keeping) Kept() []policy.Kept                      { return slices.Clone(*k) }
func (k *keeping) PenaltyDeltas(time.Time) []policy.Penalty { return nil }
func (k *keeping) Penalties(time.Time) []policy.Penalty     { return nil }

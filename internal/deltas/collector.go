package deltas

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/audit-milter/audit-milter/policy"
	"github.com/audit-milter/audit-milter/series"
)

const (
	// snapshotStep is how many deltas of a snapshot go into one batch, if they are
	// amounts, and those of a few more keys. It bounds the time of a tick and the memory
	// of a batch.
	snapshotStep = 20_000

	// snapshotTime is how long a tick goes on with that, where the processor is slow or
	// wanted by others: what is counted meanwhile has to wait for the next tick.
	snapshotTime = 25 * time.Millisecond

	// silence is how long takers hear nothing when there is nothing: they need to
	// know that time goes on.
	silence = time.Second
)

// Engine is what is asked for deltas: a [policy.Engine].
type Engine interface {
	Kept() []policy.Kept
	PenaltyDeltas(now time.Time) []policy.Penalty
	Penalties(now time.Time) []policy.Penalty
}

// Collector makes the batches. It is the only one that asks the series of an engine
// for their deltas, and the engine for those of its penalties.
type Collector struct {
	takers []Taker
	step   int // snapshotStep, but in tests

	mu      sync.Mutex // owns what follows
	number  uint64     // of the last batch
	handed  time.Time  // when it was
	engine  Engine
	series  []*followed
	open    bool // a snapshot is under way
	hurries bool // towards its end
}

// followed is a series that persists, is serialized or replicates: what this node counts
// of it.
type followed struct {
	policy.Kept
	snapshot series.Snapshot // nil: there is none, or all was told
	deltas   []series.Delta  // for the batch in hand
}

// New hands batches to all takers, in their order; last is the number of the last batch
// that was ever kept.
func New(last uint64, takers ...Taker) *Collector {
	return &Collector{number: last, takers: takers, step: snapshotStep}
}

// Run collects at every [Interval] until ctx ends. What comes after its last tick is
// left to a Collect.
func (c *Collector) Run(ctx context.Context, inForce func() Engine, now func() time.Time) {
	ticks := time.NewTicker(Interval)
	defer ticks.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticks.C:
			c.tick(inForce, now)
		}
	}
}

// tick asks for the engine under the lock, else it could be that of before a Change.
func (c *Collector) tick(inForce func() Engine, now func() time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.collect(inForce(), now(), c.wanted())
}

// Collect hands over what is new in the engine.
func (c *Collector) Collect(e Engine, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.collect(e, now, c.wanted())
}

// Finish is Collect, until the snapshot that is under way is complete.
func (c *Collector) Finish(e Engine, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hurries = true // it does not wait for those who are slow
	defer func() { c.hurries = false }()
	for c.collect(e, now, c.wanted()); c.open; c.collect(e, now, false) {
	}
}

// Change lets adopt put another engine in force: its series are followed from their
// first add on, and those that end with it until their last.
func (c *Collector) Change(next Engine, now time.Time, adopt func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	follow(next.Kept())
	adopt()
	c.collect(next, now, c.wanted())
}

func (c *Collector) wanted() bool { return slices.ContainsFunc(c.takers, Taker.WantsSnapshot) }

// busy reports whether a taker has still to pass on what it has of the snapshot.
func (c *Collector) busy() bool {
	return slices.ContainsFunc(c.takers, func(t Taker) bool {
		slow, ok := t.(Slow)
		return ok && slow.IsBusy()
	})
}

// collect collects what a tick brings, and begins a snapshot if one is wanted or has
// to be.
func (c *Collector) collect(e Engine, now time.Time, begins bool) {
	now = now.Round(0)
	if c.engine != e {
		c.turnTo(e, now)
		begins = true
	}
	if begins {
		c.beginSnapshot()
	}
	b := &Batch{Now: now, Begin: begins, Penalties: e.PenaltyDeltas(now)} // before that for which they are
	if begins {
		b.Penalties = append(b.Penalties, e.Penalties(now)...)
	}
	c.drain(now)
	if c.open && (begins || c.hurries || !c.busy()) {
		b.End = c.goOn()
	}
	b.Series = c.shown(begins, now)
	c.hand(b)
}

// turnTo follows the series of another engine. What those that end have not told
// yet goes into a batch of its own: in that of a snapshot it would seem that they
// persist.
func (c *Collector) turnTo(e Engine, now time.Time) {
	kept := follow(e.Kept())
	var ended []*followed
	for _, f := range c.series {
		if !slices.ContainsFunc(kept, func(k policy.Kept) bool { return k.Lasting == f.Lasting }) {
			ended = append(ended, f)
		}
	}
	c.engine, c.series = e, ended
	c.drain(now)
	if last := c.shown(false, now); last != nil {
		c.hand(&Batch{Now: now, Series: last})
	}
	for _, f := range ended {
		f.Unfollow()
	}
	c.series = nil
	for _, k := range kept {
		c.series = append(c.series, &followed{Kept: k})
	}
}

// follow follows those that persist, are serialized or replicate, and returns them.
func follow(kept []policy.Kept) []policy.Kept {
	kept = slices.DeleteFunc(kept, func(k policy.Kept) bool {
		return !k.Persist && !k.Serialize && k.Replicate == policy.None
	})
	for _, k := range kept {
		k.Follow()
	}
	return kept
}

// beginSnapshot begins one of all that persists or replicates, in place of any other.
func (c *Collector) beginSnapshot() {
	c.open = true
	for _, f := range c.series {
		if f.Persist || f.Replicate != policy.None {
			f.snapshot = f.Snapshot()
		}
	}
}

// drain collects what the series show anew. They know what time it is first: after a step
// back of the clock, windows would be told of a time to come, which nobody takes.
func (c *Collector) drain(now time.Time) {
	for _, f := range c.series {
		f.Counter.Begin(now)
		f.deltas = nil // those of before are the takers'
		f.Deltas(f.note)
	}
}

func (f *followed) note(d series.Delta) { f.deltas = append(f.deltas, d) }

// goOn tells the next part of the snapshot and reports whether it was the last.
func (c *Collector) goOn() (ends bool) {
	begun, left := time.Now(), c.step
	for _, f := range c.series {
		for f.snapshot != nil {
			if left <= 0 || !c.hurries && time.Since(begun) > snapshotTime {
				return false
			}
			before := len(f.deltas)
			if !f.snapshot.Next(f.note) {
				f.snapshot = nil
			}
			for i := range f.deltas[before:] {
				left -= weight(&f.deltas[before+i])
			}
		}
	}
	c.open = false
	return true
}

// weight is how much larger than an amount a delta is, of about 20 bytes.
func weight(d *series.Delta) int {
	n := 1 + len(d.Values)/2
	if d.Sketch != nil {
		n += len(d.Sketch) / 20
	}
	return n
}

// shown is what the series have shown, or all of them when a snapshot begins.
func (c *Collector) shown(begins bool, now time.Time) (shown []Series) {
	for _, f := range c.series {
		switch {
		case begins:
			shown = append(shown, Series{f.Kept, f.Counter.Begun(now), f.deltas})
		case len(f.deltas) > 0:
			shown = append(shown, Series{Kept: f.Kept, Deltas: f.deltas})
		}
		f.deltas = nil
	}
	return shown
}

// hand numbers a batch and gives it to all takers, unless it has nothing to say.
func (c *Collector) hand(b *Batch) {
	empty := !b.Begin && !b.End && b.Series == nil && b.Penalties == nil
	if since := b.Now.Sub(c.handed); empty && 0 <= since && since < silence {
		return
	}
	c.number = max(c.number+1, uint64(max(b.Now.UnixMilli(), 0)))
	c.handed, b.Number = b.Now, c.number
	for _, t := range c.takers {
		t.Take(b)
	}
}

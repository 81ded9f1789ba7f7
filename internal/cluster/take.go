package cluster

import (
	"crypto/sha256"
	"encoding/hex"
	"time"

	"github.com/audit-milter/audit-milter/internal/deltas"
	"github.com/audit-milter/audit-milter/policy"
	"github.com/audit-milter/audit-milter/series"
)

// format is that of the payloads. Nodes of different ones do not read each other.
const (
	format   = "2"
	inFormat = "in format " + format
)

// entry is a batch, or a part of a snapshot, of one series.
type entry struct {
	*chain
	number  uint64
	payload []byte

	before uint64 // the batch before; of a batch
	starts bool   // a chain

	part  bool // of a snapshot
	begin uint64
	index int
	last  bool
	begun time.Time
}

func (e *entry) args() []string {
	common := []string{"b", decimal(e.number), string(e.payload), milliseconds(e.lives), e.shape}
	if e.part {
		common[0] = "p"
		return append(common, decimal(e.begin), decimal(uint64(e.index)), flag(e.last), e.words, decimal(uint64(max(e.begun.UnixMilli(), 0))))
	}
	return append(common, e.life, decimal(e.before), flag(e.starts))
}

// chain is what this node tells of a series: batches that each name the one before.
// What entries have of it does not change.
type chain struct {
	lasting *policy.Lasting // nil for the penalties
	keys    keys
	words   string // what the series is
	shape   string // the same in short
	life    string // of the node
	lives   time.Duration
	tail    *tail
}

// tail is how far a chain goes, as it was taken. It is the taker's.
type tail struct {
	last     uint64 // number of the batch that was the last
	snapshot bool   // one is being taken
	begin    uint64 // of that
	index    int    // of its next part
	begun    time.Time
}

// shapeOf says in words what a series is, as far as nodes have to agree, and the same in
// short. How many keys a node keeps is its own affair.
func shapeOf(l *policy.Lasting) (words, short string) {
	s := deltas.ShapeOf(l)
	s.MaxKeys = 0
	words = s.String() + " " + inFormat
	return words, shorten(words)
}

func shorten(words string) string {
	sum := sha256.Sum256([]byte(format + " " + words))
	return hex.EncodeToString(sum[:6])
}

// lives is how long keys of a series stay that nobody writes.
func lives(d series.Definition) time.Duration {
	return time.Duration(d.Windows+1)*d.Interval + linger
}

func (c *Cluster) newChain(l *policy.Lasting, lives time.Duration) *chain {
	if l == nil {
		return &chain{keys: seriesKeys(c.Name, "", c.Node), words: inFormat, shape: shorten(""), life: c.incarnation, lives: lives, tail: new(tail)}
	}
	words, shape := shapeOf(l)
	return &chain{l, seriesKeys(c.Name, l.Definition.Name, c.Node), words, shape, c.incarnation, lives, new(tail)}
}

// penaltiesLive is how long the penalties of a node stay that does not write, at least.
const penaltiesLive = 24 * time.Hour

// Take takes the next batch. It never waits for the server: once more than 16 MiB do
// beside what a snapshot begins with, batches are let go, and a snapshot makes up for them.
func (c *Cluster) Take(b *deltas.Batch) {
	ended := c.note(b)
	restarts, takes := c.admit(b)
	if !takes {
		return
	}
	c.number = max(c.number+1, b.Number)
	var entries []entry
	if b.Begin {
		c.link(b, restarts)
	}
	for name, ch := range c.chains {
		if ch.lasting == nil {
			entries = c.orders(entries, ch, b, ended)
			continue
		}
		entries = ch.entries(entries, c.number, b, find(b, name))
	}
	c.enqueue(b, entries)
}

// admit says whether the batch can stand on what was taken before, or begin anew.
func (c *Cluster) admit(b *deltas.Batch) (restarts, takes bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if b.Begin && c.isAway() {
		c.letGo() // a snapshot that waits is worth less than one that is taken later
	}
	c.number = max(c.number, c.above)
	switch {
	case !c.joined, c.broken && (!b.Begin || c.isAway()):
		return false, false
	case b.Begin:
		restarts, c.broken = c.broken, false
		c.taking, c.begun, c.snapshot, c.journal = true, c.Now(), 0, 0
	}
	return restarts, true
}

// link begins a snapshot of all series that replicate. A series that the others cannot
// go on reading starts a chain of its own.
func (c *Cluster) link(b *deltas.Batch, restarts bool) {
	before, longest := c.chains, penaltiesLive
	c.chains = make(map[string]*chain)
	for i := range b.Series {
		s := &b.Series[i]
		if s.Replicate == policy.None {
			continue
		}
		ch := c.follow(before[s.Definition.Name], s.Lasting, lives(s.Definition), restarts)
		ch.tail.begun = s.Begun
		c.chains[s.Definition.Name] = ch
		longest = max(longest, ch.lives)
	}
	c.chains[""] = c.follow(before[""], nil, longest, restarts) // with removals from all of them
	for _, ch := range c.chains {
		ch.tail.snapshot, ch.tail.begin, ch.tail.index = true, c.number, 0
	}
}

func (c *Cluster) follow(before *chain, l *policy.Lasting, lives time.Duration, restarts bool) *chain {
	if before == nil || before.lasting != l || before.lives != lives || restarts {
		return c.newChain(l, lives)
	}
	return before
}

func find(b *deltas.Batch, name string) *deltas.Series {
	for i := range b.Series {
		if b.Series[i].Definition.Name == name {
			return &b.Series[i]
		}
	}
	return nil
}

// entries are what a batch has of the series: what is new, and the part of a snapshot as
// it is told to who begins with it. A snapshot begins with a batch even if nothing is new:
// who was away sees by it that others are gone, however quiet the series is.
func (ch *chain) entries(all []entry, number uint64, b *deltas.Batch, s *deltas.Series) []entry {
	var told []series.Delta
	if s != nil && s.Lasting == ch.lasting {
		told = s.Deltas
	}
	if fresh := without(told, series.Newer); len(fresh) > 0 || b.Begin {
		all = append(all, ch.batch(number, deltas.AppendDeltas(nil, fresh)))
	}
	if ch.tail.snapshot {
		if part := without(told, series.Older); len(part) > 0 || b.End || b.Begin {
			all = append(all, ch.part(number, deltas.AppendDeltas(nil, part), b.End))
		}
	}
	return all
}

func without(all []series.Delta, skip series.For) (some []series.Delta) {
	for _, d := range all {
		if d.For != skip && !d.IsWish() { // those go with the penalties
			some = append(some, d)
		}
	}
	return some
}

// batch is the next one of the chain.
func (ch *chain) batch(number uint64, payload []byte) entry {
	e := entry{chain: ch, number: number, payload: payload, before: ch.tail.last}
	if e.starts = e.before == 0; e.starts {
		e.before = number // which nobody can have read
	}
	ch.tail.last = number
	return e
}

// part is the next one of the snapshot.
func (ch *chain) part(number uint64, payload []byte, last bool) entry {
	t := ch.tail
	e := entry{chain: ch, number: number, payload: payload, part: true, begin: t.begin, index: t.index, last: last, begun: t.begun}
	t.index++
	t.snapshot = !last
	return e
}

// enqueue lets entries wait for the server, all or none.
func (c *Cluster) enqueue(b *deltas.Batch, entries []entry) {
	c.mu.Lock()
	var size int64
	for i := range entries {
		size += entries[i].size()
	}
	if b.Begin { // with all penalties, else no snapshot would ever be whole where they are many
		c.room = maxWaiting + size
	}
	if c.broken || c.waitingBytes+size > c.room {
		if !c.broken { // more comes than the server takes: more snapshots would not help
			c.rest = min(2*c.rest, snapshotEvery)
		}
		c.letGo()
		c.mu.Unlock()
		return
	}
	c.waiting = append(c.waiting, entries...)
	c.waitingBytes += size
	if c.taking {
		c.snapshot += size
		c.taking = !b.End
	} else {
		c.journal += size
	}
	c.mu.Unlock()
	select {
	case c.wake <- struct{}{}:
	default: // it is going to look anyway
	}
}

// size is what an entry takes while it waits, or on its way.
func (e *entry) size() int64 { return int64(len(e.payload)) + 256 }

// letGo forgets what waits: a snapshot makes up for it. The lock is held.
func (c *Cluster) letGo() {
	c.status.LetGo += int64(len(c.waiting))
	c.waiting, c.waitingBytes = nil, 0
	c.broken, c.taking = true, false
	delete(c.errors, writing) // nobody tries to write it any more
}

// WantsSnapshot reports that the server works and lacks something, or that the last
// snapshot is old, or the batches since then are many.
func (c *Cluster) WantsSnapshot() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	age := c.Now().Sub(c.begun)
	switch {
	case c.isAway() || !c.joined:
		return false
	case 0 <= age && age < c.rest || c.waitingBytes > busyWaiting:
		return false
	case c.broken:
		return true
	}
	return !c.taking && (age < 0 || age >= snapshotEvery || c.journal > max(minJournal, 2*c.snapshot))
}

// IsBusy reports whether so much waits for the server that the snapshot under way is to
// wait too: else one of more than 16 MiB would never be whole where the server is slow.
func (c *Cluster) IsBusy() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.taking && c.waitingBytes > busyWaiting && !c.isAway()
}

// Package cluster lets nodes count as one: what each node counts goes through a Valkey
// or Redis server to all others. No decision waits for it, and a server that is away
// costs only that what others count comes later.
//
// # On the server
//
// All keys begin with audit-milter:{NAME/SERIES}: where NAME is the cluster's, so that
// one series lies in one slot of a Valkey Cluster; the series "" has the penalties.
// Each node writes, per series,
//
//   - NODE:batches, a stream of what it has counted, an entry a batch. Its id is the
//     batch's number, and it names the number of the entry before it: who reads sees
//     whether one is missing.
//   - NODE:snapshot, a stream of the parts of its last whole snapshot and of the one
//     that is being written.
//   - NODE:state, a hash: the number of the last batch, and which snapshot is whole.
//
// With the penalties a node tells removals: which penalties have ended, and what it wishes
// of the others, that they take back what they have counted for a key. Each snapshot of
// the penalties has all removals that the node knows of, its own or not, until all has
// left that they are about.
//
// Only scripts write there. They take an entry that is there already as written, and
// refuse one whose predecessor is missing: then the server has lost something, and the
// node begins anew with a snapshot. What a snapshot makes superfluous goes when the
// next one is whole. All these keys leave once the last of their windows has.
//
// Of the cluster as a whole there are, behind audit-milter:{NAME}:, the hash nodes, in
// which each node says every second that it is there, open:NODE with the sessions that
// are open there, and wishes:NODE with the last wish that it has granted of each life of a
// node; that of "" is the time from which on it grants those of all others.
//
// The server is Valkey, or Redis from 6.2 on.
//
// Who reads starts with a whole snapshot and goes on with the batches behind it. When a
// batch is missing, it forgets the node's share and starts again.
//
// # Bounds
//
// On the server: for each node and series two whole snapshots, and the batches since the
// one before the last, which are at most four times a snapshot or 8 MiB. In memory: 16 MiB
// of batches that wait for the server, beside that with which a snapshot begins, since it has
// all penalties that this node has imposed. What is beyond that while it is away is let go,
// and a snapshot makes up for it. Of what is read, four batches of each node and series at
// a time, and one whole snapshot with the batches behind it, which is put together beside
// the share that it replaces. 256 KiB of wishes, and 10,000 ends of penalties. Of
// what others punish, twice as much as runs here, and 10,000 more.
package cluster

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/audit-milter/audit-milter/internal/deltas"
	"github.com/audit-milter/audit-milter/policy"
	"github.com/audit-milter/audit-milter/series"
)

const (
	maxWaiting    = 16 << 20 // bytes that wait for the server
	busyWaiting   = 4 << 20  // of them from which on snapshots wait
	minJournal    = 4 << 20  // bytes of batches before they are worth a snapshot before its time
	snapshotEvery = time.Minute
	beginEvery    = time.Second // the least time between two snapshots, whatever was lost; longer after too much waited
	heartbeat     = time.Second
	pausePerNode  = 2 * time.Millisecond // between two looks at what they have sent: with 50 nodes a tick
	openLasts     = 30 * time.Second     // open sessions of a node that is not heard of
	maxOpen       = 100_000              // addresses that a node can have open: max_sessions is no more
	dialWithin    = 2 * time.Second
	answerWithin  = 10 * time.Second // of the server
	tellEvery     = time.Minute      // of what goes on failing
	linger        = 10 * time.Minute // how much longer a key stays than the last of its windows
	minAtOnce     = 64 << 10         // bytes that are sent at once, or one entry if that is more
	maxAtOnce     = 1 << 20
	readAtOnce    = 4 // entries of a stream; of a snapshot, whose parts are large, one
)

// Engine is what counts and punishes: a [policy.Engine].
type Engine interface {
	Kept() []policy.Kept
	Open() *policy.Lasting
	MergePenalty(p policy.Penalty, now time.Time)
	EndPenalty(p policy.Penalty, now time.Time)
	HasPenalty(k policy.PenaltyKey, now time.Time) bool
}

// Options of a Cluster.
type Options struct {
	Name    string // keeps clusters on one server apart
	Node    string // no other node of the cluster has this name
	Manager bool   // it also reads the series that only managers read
	Version string // of the program, for the others to show

	Addresses []string // HOST:PORT, or the path of a socket; several of a Valkey Cluster or of Sentinels
	Sentinel  string   // the name of the master that the addresses' Sentinels know; "": they are servers
	Username  string   // "": the server's default user
	Password  string
	TLS       *tls.Config // nil: none

	Engine   func() Engine    // the one that is in force
	Restored map[string]bool  // the series that began with what a disk has kept; not changed any more
	Kept     uint64           // the number of the last batch that the disk has; 0: it has kept nothing
	Keeper   Keeper           // nil for none
	Now      func() time.Time // nil: time.Now
	Log      *slog.Logger     // required
}

// Keeper keeps what other nodes have counted: a [history.Writer]. It does not wait for a
// disk.
type Keeper interface {
	// BeginShare begins a node's part anew; until EndShare all of it is told.
	BeginShare(node string, kept policy.Kept)
	EndShare(node string, kept policy.Kept)
	// TakeShare takes what the node has told in the batch of that number.
	TakeShare(node string, kept policy.Kept, told iter.Seq[series.Delta], now time.Time, number uint64)
}

// Cluster is this node's part in it. It is a [deltas.Slow].
type Cluster struct {
	Options
	incarnation string
	started     time.Time

	chains map[string]*chain // the taker's
	number uint64            // of the last batch taken; the taker's, but for what mu owns
	atOnce int64             // bytes that the link takes in a second or so; the sender's

	mu           sync.Mutex // owns what follows
	waiting      []entry
	waitingBytes int64
	room         int64            // what they may be: more than maxWaiting by what the last snapshot began with
	joined       bool             // what the server has of this node's own was read
	errors       map[string]error // of the last exchange
	toldAway     bool
	broken       bool // a batch was let go, or the server has lost something: a snapshot makes up for it
	taking       bool // a snapshot has begun and is not taken to its end
	begun        time.Time
	rest         time.Duration     // the least time from one snapshot's begin to the next
	snapshot     int64             // bytes of the last one
	journal      int64             // bytes of batches since then
	above        uint64            // numbers are to be higher than that
	foreign      policy.PenaltySet // penalties that others have told, as far as they run here
	foreignRoom  int               // how many it may hold until it is looked which of them do
	standing     standing
	ahead        time.Duration // of this node's clock to the server's
	told         map[string]time.Time
	status       Status

	wake  chan struct{}
	ready chan struct{} // closed once the reader has looked at the server, or could not
}

var _ deltas.Slow = (*Cluster)(nil)

// Open makes this node a part of the cluster; it does not need the server for that. It
// is an error that a name is missing or an address is none.
func Open(o Options) (*Cluster, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	var random [8]byte
	rand.Read(random[:])
	return &Cluster{
		Options:     o,
		incarnation: hex.EncodeToString(random[:]),
		started:     o.Now(),
		chains:      make(map[string]*chain),
		atOnce:      minAtOnce,
		errors:      make(map[string]error),
		rest:        beginEvery,
		broken:      true, // there is nothing yet for batches to stand behind
		foreign:     make(policy.PenaltySet),
		foreignRoom: minForeign,
		standing:    newStanding(),
		told:        make(map[string]time.Time),
		wake:        make(chan struct{}, 1),
		ready:       make(chan struct{}),
	}, nil
}

func (o *Options) check() error {
	switch {
	case o.Name == "" || o.Node == "":
		return errors.New("a cluster needs a name, and each node one of its own")
	case strings.ContainsAny(o.Name, "{}"):
		return fmt.Errorf("the cluster's name is %q: it must have no braces", o.Name)
	case len(o.Addresses) == 0:
		return errors.New("a cluster needs the address of a server, HOST:PORT")
	}
	for _, a := range o.Addresses {
		if strings.HasPrefix(a, "/") && len(o.Addresses) == 1 && o.Sentinel == "" {
			continue
		}
		if _, _, err := net.SplitHostPort(a); err != nil {
			return fmt.Errorf("the server's address is %q: it must be HOST:PORT, or the path of the socket of the only server", a)
		}
	}
	return nil
}

// Run sends what is taken and reads what others have sent, until the context ends.
// Then it sends what still waits, if that takes no longer than a second.
func (c *Cluster) Run(ctx context.Context) {
	link := &link{of: &c.Options}
	defer link.close()
	var both sync.WaitGroup
	both.Go(func() { c.send(ctx, link) })
	both.Go(func() { c.watch(ctx) })
	both.Go(func() { newReader(c, link).run(ctx) })
	both.Wait()
}

// AwaitLook waits until this node knows what the server has, so that nobody is judged by a
// penalty that has ended while it was not running. If the server does not answer it goes on
// with what it has, and so it does after that time.
func (c *Cluster) AwaitLook(within time.Duration) {
	select {
	case <-c.ready:
	case <-time.After(within):
	}
}

// The two who use the link.
const (
	reading = "reading"
	writing = "writing"
)

// failing says that the server is away for one of the two, and once a minute why.
func (c *Cluster) failing(who string, err error) {
	if c.noteFailure(who, err) {
		status := c.Status()
		c.Log.Warn("cluster: the server does not answer: what other nodes count comes later", "servers", c.Addresses, "while", who, "counts", status.Remote(c.Now()), "error", err)
	}
}

// noteFailure reports whether it is to be told. No log is written under the lock:
// it may be slow, and who takes batches never waits.
func (c *Cluster) noteFailure(who string, err error) (isNews bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if who == writing && len(c.waiting) == 0 {
		return false // it was let go meanwhile: nobody would try again and find that it works
	}
	c.errors[who] = err
	isNews = c.isNews("away")
	c.toldAway = c.toldAway || isNews
	return isNews
}

// works says that the server has answered one of the two.
func (c *Cluster) works(who string) {
	if c.noteAnswer(who) {
		c.Log.Info("cluster: the server answers again", "servers", c.Addresses)
	}
}

// noteAnswer reports whether it is to be told.
func (c *Cluster) noteAnswer(who string) (isNews bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.status.Contact = c.Now()
	delete(c.errors, who)
	isNews = c.toldAway && !c.isAway()
	c.toldAway = c.toldAway && !isNews
	return isNews
}

// isAway reports whether the server is. The lock is held.
func (c *Cluster) isAway() bool { return len(c.errors) > 0 || c.status.Contact.IsZero() }

// isNews reports whether it is a while since this was told. The lock is held.
func (c *Cluster) isNews(what string) bool {
	now := c.Now()
	if since := now.Sub(c.told[what]); 0 <= since && since < tellEvery {
		return false
	}
	c.told[what] = now
	return true
}

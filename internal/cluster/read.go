package cluster

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/valkey-io/valkey-go"

	"github.com/audit-milter/audit-milter/internal/deltas"
	"github.com/audit-milter/audit-milter/policy"
	"github.com/audit-milter/audit-milter/series"
)

// reader reads what other nodes have sent. All is one goroutine's.
type reader struct {
	*Cluster
	link *link

	topics  map[string]*topic    // by the name of a series; "" are the penalties
	nodes   map[string]*presence // as they were seen last, without this one
	heard   map[string]*heard
	back    map[string]bool   // by topic: what this node has told in an earlier life is read
	wishes  map[string]uint64 // by life of a node: the last one that this node has granted; of "" see floor
	granted map[string]uint64 // those of them since it has said last that it is there
	settled map[string]uint64 // those before that, which the server does not know of yet
	clock   skew
	self    presence          // what this node says of itself
	acked   int64             // the last time that the server has heard it
	opened  map[string]string // by node: what it had open when that was read
	beaten  time.Time
	looked  time.Time
}

// topic is what nodes tell each other about.
type topic struct {
	name    string
	words   string
	shape   string
	target  target
	lasting *policy.Lasting // nil for the penalties
	own     bool            // what others tell of it is for managers, and this node is none
	feeds   map[string]*feed
}

// target is where the deltas of a node go.
type target interface {
	merge(node string, number uint64, payload []byte) error
	drop(node string)
	// renew puts a snapshot, and batches behind it, in the place of what the node has told
	// before. Of what is not understood nothing counts.
	renew(node string, snapshot, behind []part) error
}

// feed is what one node tells about a topic.
type feed struct {
	keys   keys
	last   uint64 // the last batch that was read
	behind bool   // it needs a snapshot that has all batches up to need
	need   uint64
	other  bool // its series is of another shape
	unread bool // its payload was not understood
}

// heard is what was read of a node.
type heard struct {
	bytes int64
	lag   time.Duration
	upTo  time.Time
}

func newReader(c *Cluster, l *link) *reader {
	r := &reader{
		Cluster: c,
		link:    l,
		topics:  make(map[string]*topic),
		nodes:   make(map[string]*presence),
		heard:   make(map[string]*heard),
		back:    make(map[string]bool),
		wishes:  make(map[string]uint64),
		granted: make(map[string]uint64),
		settled: make(map[string]uint64),
		opened:  make(map[string]string),
		self:    presence{Role: c.role(), Version: c.Version, Life: c.incarnation},
	}
	r.topics[""] = &topic{words: inFormat, shape: shorten(""), target: penalties{r}, feeds: make(map[string]*feed)}
	return r
}

// run reads ten times a second, until the context ends.
func (r *reader) run(ctx context.Context) {
	ticks := time.NewTicker(deltas.Interval)
	defer ticks.Stop()
	hasLooked := sync.OnceFunc(func() { close(r.ready) })
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-ticks.C:
			if err := r.tick(ctx); err != nil && ctx.Err() == nil {
				r.failing(reading, err)
			}
			hasLooked()
		}
	}
	r.leave(ctx)
}

func (r *reader) tick(ctx context.Context) error {
	r.follow()
	if r.isToBeat() {
		r.endOpen()
		if err := r.recall(ctx); err != nil {
			return err
		}
		if err := r.beat(ctx); err != nil {
			return err
		}
		r.beaten = r.Now()
	}
	if err := r.join(ctx); err != nil {
		return err
	}
	if since := r.Now().Sub(r.looked); 0 <= since && since < r.pause() {
		return nil
	}
	r.looked = r.Now()
	r.subscribe()
	for more := true; more && !r.isToBeat(); {
		var err error
		if more, err = r.poll(ctx); err != nil {
			return err
		}
	}
	if err := r.catchUp(ctx); err != nil {
		return err
	}
	r.works(reading)
	r.publish()
	return nil
}

// pause is how long a reader waits before it looks again. Without it the server's work
// would grow with the square of the number of nodes.
func (r *reader) pause() time.Duration { return time.Duration(len(r.nodes)) * pausePerNode }

// isToBeat reports whether this node is to say that it is there, whatever there is to
// read.
func (r *reader) isToBeat() bool {
	since := r.Now().Sub(r.beaten)
	return since < 0 || since >= heartbeat
}

// follow turns to the series of the engine in force. One that is another now has no
// shares yet.
func (r *reader) follow() {
	there := map[string]bool{"": true}
	for _, k := range r.Engine().Kept() {
		name := k.Definition.Name
		if k.Replicate == policy.None {
			continue
		}
		there[name] = true
		t := r.topics[name]
		if t == nil || t.lasting != k.Lasting {
			words, shape := shapeOf(k.Lasting)
			t = &topic{name: name, words: words, shape: shape, lasting: k.Lasting, feeds: make(map[string]*feed)}
			r.topics[name] = t
		}
		t.target = shares{r, k} // a reload may change what is kept
		t.own = k.Replicate == policy.Manager && !r.Manager
	}
	for name := range r.topics {
		if !there[name] {
			delete(r.topics, name)
		}
	}
}

// subscribe listens to all nodes there are about all topics that are read.
func (r *reader) subscribe() {
	for _, t := range r.topics {
		for node := range r.nodes {
			if t.feeds[node] == nil && r.hears(t, node) {
				t.feeds[node] = &feed{keys: seriesKeys(r.Name, t.name, node), behind: true}
			}
		}
		for node := range t.feeds {
			if !r.hears(t, node) {
				t.target.drop(node)
				delete(t.feeds, node)
			}
		}
	}
}

// hears reports whether what a node tells of a topic is read here: not any more once all
// has left that it can have told, since an empty share takes memory as a full one does.
func (r *reader) hears(t *topic, node string) bool {
	p := r.nodes[node]
	return p != nil && !t.own && (t.lasting == nil || r.Now().Sub(p.seen) <= lives(t.lasting.Definition))
}

// poll reads the next batches of all feeds and reports whether there may be more.
func (r *reader) poll(ctx context.Context) (more bool, err error) {
	var topics []*topic
	results, err := r.link.do(ctx, func(b valkey.Builder) (all []valkey.Completed) {
		for _, t := range r.topics {
			var names, ids []string
			for _, f := range t.feeds {
				if !f.behind {
					names, ids = append(names, f.keys.batches), append(ids, decimal(f.last)+"-0")
				}
			}
			if names != nil {
				topics = append(topics, t)
				all = append(all, b.Xread().Count(readAtOnce).Streams().Key(names...).Id(ids...).Build())
			}
		}
		return all
	})
	if err != nil {
		return false, err
	}
	for i, t := range topics {
		streams, err := results[i].AsXRead()
		if err != nil && !valkey.IsValkeyNil(err) {
			return false, err
		}
		for node, f := range t.feeds {
			entries := streams[f.keys.batches]
			r.read(t, node, f, entries)
			more = more || len(entries) == readAtOnce && !f.behind
		}
	}
	return more, nil
}

// read puts in a node's batches, up to the first one whose predecessor is missing.
func (r *reader) read(t *topic, node string, f *feed, entries []valkey.XRangeEntry) {
	for _, e := range entries {
		b, err := parseBatch(e)
		if err != nil {
			r.damaged(t, node, f, err)
			return
		}
		if b.number <= f.last {
			continue // it comes twice
		}
		if b.before > f.last || b.shape != t.shape {
			f.behind, f.need = true, b.before
			return
		}
		if err := t.target.merge(node, b.number, b.payload); err != nil {
			r.damaged(t, node, f, err)
			return
		}
		f.last = b.number
		r.hear(node, b.number, len(b.payload))
	}
}

// batch is one as it was sent.
type batch struct {
	number, before uint64
	shape          string
	payload        []byte
}

func parseBatch(e valkey.XRangeEntry) (b batch, err error) {
	if b.number, err = parseID(e.ID); err != nil {
		return b, err
	}
	b.before, err = strconv.ParseUint(e.FieldValues["p"], 10, 64)
	b.shape, b.payload = e.FieldValues["s"], []byte(e.FieldValues["d"])
	return b, err
}

func parseID(id string) (uint64, error) {
	digits, _, _ := strings.Cut(id, "-")
	return strconv.ParseUint(digits, 10, 64)
}

// damaged leaves a node's share as it is until a snapshot comes that is newer.
func (r *reader) damaged(t *topic, node string, f *feed, err error) {
	f.behind, f.need = true, max(f.need, f.last+1)
	if !f.unread {
		f.unread = true
		r.Log.Error("cluster: what a node has sent is not understood, and left out until its next snapshot", "node", node, "series", titleOf(t.name), "error", err)
	}
}

// hear notes how long a batch has taken, as far as the clocks tell.
func (r *reader) hear(node string, number uint64, bytes int) {
	h := r.heard[node]
	h.bytes += int64(bytes)
	if p := r.nodes[node]; p != nil {
		sent := time.UnixMilli(int64(number)).Add(-p.skew())
		h.lag = max(0, r.Now().Add(-r.clock.ahead).Sub(sent))
	}
}

// shares puts deltas in the shares of a series.
type shares struct {
	reader *reader
	policy.Kept
}

func (s shares) merge(node string, number uint64, payload []byte) error {
	return s.put(node, []part{{number, payload}}, func(d series.Delta, now time.Time) { s.MergeShare(node, d, now) })
}

// put puts what a node has told in its place, and tells the keeper.
func (s shares) put(node string, told []part, put func(series.Delta, time.Time)) error {
	for _, p := range told {
		all, err := deltas.DecodeDeltas(p.payload)
		if err != nil {
			return err
		}
		now := s.reader.Now()
		for d := range all {
			put(d, now)
		}
		if keeper := s.reader.Keeper; keeper != nil && node != "" {
			keeper.TakeShare(node, s.Kept, all, now, p.number)
		}
	}
	return nil
}

func (s shares) renew(node string, snapshot, behind []part) error {
	share, keeper := s.Renew(node), s.reader.Keeper
	if keeper != nil {
		keeper.BeginShare(node, s.Kept)
	}
	if err := s.put(node, snapshot, share.Merge); err != nil {
		return err
	}
	if keeper != nil {
		keeper.EndShare(node, s.Kept)
	}
	if err := s.put(node, behind, share.Merge); err != nil {
		return err
	}
	share.Done(s.reader.Now())
	return nil
}

func (s shares) drop(node string) { s.DropShare(node, s.reader.Now()) }

// penalties runs those of other nodes, and removes what they have removed.
type penalties struct{ reader *reader }

func (p penalties) merge(node string, number uint64, payload []byte) error {
	o, err := deltas.DecodeOrders(payload)
	if err != nil {
		return err
	}
	p.reader.hearOrders(node, &o, p.reader.Now())
	if node != "" {
		p.reader.grant(o.Wishes)
	}
	return nil
}

// renew lets those of before run.
func (p penalties) renew(node string, snapshot, behind []part) error {
	for _, told := range slices.Concat(snapshot, behind) {
		if err := p.merge(node, told.number, told.payload); err != nil {
			return err
		}
	}
	return nil
}

// drop lets them run: each ends by itself.
func (penalties) drop(string) {}

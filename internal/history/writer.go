package history

import (
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/audit-milter/audit-milter/internal/deltas"
	"github.com/audit-milter/audit-milter/policy"
	"github.com/audit-milter/audit-milter/series"
)

// Options say what a writer writes, and where.
type Options struct {
	Dir  string // is made if it is missing
	Node string

	// Manager says that series that replicate are written too, of all nodes; without it
	// that is left to others.
	Manager bool

	// Takes says which of the series that are serialized are to be written; nil: all.
	Takes func(series string) bool

	// MinCount is the least that a key has to count in a window to get a row of its
	// own. It holds for windows that are written in one piece; a [Maintainer] lets it
	// hold for the others when their day is over.
	MinCount int64

	Log *slog.Logger     // required
	Now func() time.Time // the clock that the series are asked by; nil: time.Now
}

// Writer is a [deltas.Taker] that writes the windows of series that are serialized
// when they close: what their deltas add, which is how much the keys have counted here,
// also those that had to leave the series meanwhile. What a key had when it was removed
// is not written, unless it was before. Estimates of different values are read from the
// series.
//
// A window closes some seconds after its end. What comes later is written some seconds
// after it came, as further rows.
//
// For a series that persists too, the name of each file has the number of the last
// batch in it. So after a crash the batches that the journal has can be gone through
// again, and give what was not yet written. What its open windows have is written
// whenever the journal begins anew, and until that is done the journal keeps what it had
// before.
//
// A window holds as many keys as the series may have, and what comes in one batch; of
// more it writes what there is and begins anew. A key takes about 100 bytes.
//
// A manager's writer is also told what other nodes have counted of series that
// replicate, and writes it in files that have their names; it holds as much for each of
// them.
type Writer struct {
	o     Options
	queue *queue
	last  uint64

	mu     sync.Mutex // owns what follows
	shares map[shareOf]*account
	open   map[identity]*account
	before map[string]earlier // what there was of each series at the start; nil after the first batch
	now    time.Time          // of the newest batch
	number uint64             // its number
}

// identity is what files have to have in common to be of the same series. A reload
// may change it, and for some time there is the old one beside the new one.
type identity struct {
	name     string
	kind     series.Type
	interval time.Duration
	distinct bool
}

func identityOf(kept policy.Kept) identity {
	d := kept.Definition
	return identity{d.Name, d.Type, d.Interval, kept.Of != nil}
}

// NewWriter makes a writer, to which the batches that were replayed are told before
// the others are taken.
func NewWriter(o Options) (*Writer, error) {
	if o.Takes == nil {
		o.Takes = func(string) bool { return true }
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if err := makeDir(o.Dir); err != nil {
		return nil, err
	}
	names, err := ownNames(o.Dir, o.Node)
	if err != nil {
		o.Log.Error("what the history has under another name of this node cannot be told", "error", err)
	}
	before, err := filesOf(o.Dir, names)
	if err != nil {
		o.Log.Error("not all of the history can be read, so that what was just written of it may be written again", "error", err)
	}
	w := &Writer{
		o: o, queue: newQueue(o.Dir, o.Log), before: before, last: lastOf(before),
		shares: make(map[shareOf]*account), open: make(map[identity]*account),
	}
	go w.queue.run()
	return w, nil
}

// seriesIn is the series that have a directory, also an empty one, or a link to one.
func seriesIn(dir string) (series []string, err error) {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		name, err := unescape(e.Name())
		if err != nil {
			continue
		}
		if info, err := os.Stat(filepath.Join(dir, e.Name())); err == nil && info.IsDir() {
			series = append(series, name)
		}
	}
	return series, err
}

// Last is the number of the last batch that was in the files at the start; 0 where there
// are none. The next batch has to have a higher one, or counts as written already.
func (w *Writer) Last() uint64 { return w.last }

// WantsSnapshot reports false: a history needs none.
func (w *Writer) WantsSnapshot() bool { return false }

// Take takes the next batch. It never waits for the disk.
func (w *Writer) Take(b *deltas.Batch) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, a := range w.open {
		a.before = earlier{}
		if a.newest > b.Now.Unix() || b.Now.Before(w.now.Add(-a.interval)) {
			a.newest = math.MinInt64 // the clock has stepped back, and windows begin anew that had been before
		}
	}
	if b.Begin {
		w.cutCounts(func(a *account) bool { return a.kept.Persist }, b.Number-1) // what the journal is about to forget
		w.queue.put(&job{begins: b.Number})
	}
	w.add(b, false)
	w.cutOver(true)
	w.before = nil
}

// Replayed takes a batch of the time before the start, which the journal still has.
// What is in the files already is passed over. It may be told of more batches than are
// needed, but in their order.
func (w *Writer) Replayed(b *deltas.Batch) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.add(b, true)
	w.cutOver(false)
}

// Needed is the number of the first batch that has to be replayed after a crash: all
// before it has been written, or was lost. It is for any goroutine.
func (w *Writer) Needed() uint64 {
	w.queue.mu.Lock()
	defer w.queue.mu.Unlock()
	return w.queue.needed
}

// Recover writes what the replayed batches have left to write, and returns when that is
// done: the journal begins anew with the next batch, and may forget them. An error says
// that the disk has refused it, but it is tried again.
func (w *Writer) Recover() error {
	w.mu.Lock()
	w.cutCounts(func(*account) bool { return true }, w.number)
	w.mu.Unlock()
	return w.queue.flush()
}

func (w *Writer) add(b *deltas.Batch, replayed bool) {
	w.now, w.number = b.Now, b.Number
	for _, s := range b.Series {
		if !w.writes(s.Kept) {
			continue
		}
		a := w.account(s.Kept)
		for i := range s.Deltas {
			a.add(&s.Deltas[i], b, replayed)
		}
		w.bound(a, b.Number)
	}
}

// writes reports whether a series is to be written here.
func (w *Writer) writes(kept policy.Kept) bool {
	return kept.Serialize && w.o.Takes(kept.Definition.Name) && (w.o.Manager || kept.Replicate == policy.None)
}

// bound cuts what has too many keys.
func (w *Writer) bound(a *account, through uint64) {
	for start, win := range a.windows {
		if len(win.counts) > a.kept.Definition.MaxKeys {
			w.cut(a, start, through, false)
		}
	}
}

// account is what there is of a series, which may have been of another configuration
// so far.
func (w *Writer) account(kept policy.Kept) *account {
	id := identityOf(kept)
	a := w.open[id]
	if a == nil {
		a = newAccount(id, kept, w.before[id.name])
		a.node = w.o.Node
		w.open[id] = a
	}
	a.kept = kept
	return a
}

// cutCounts cuts all that was counted so far.
func (w *Writer) cutCounts(of func(*account) bool, through uint64) {
	for _, a := range w.open {
		if of(a) && !a.distinct {
			for _, start := range a.starts() {
				w.cut(a, start, through, false)
			}
		}
	}
}

// cutOver cuts the windows that are over. Those of different values wait until the
// series has all that was replayed.
func (w *Writer) cutOver(distinct bool) {
	for id, a := range w.open {
		if a.distinct && !distinct {
			continue
		}
		w.cutEnded(a, w.number)
		if len(a.windows) == 0 && a.newest < w.now.Add(-forgetAfter).Unix() && w.before == nil {
			delete(w.open, id)
		}
	}
	for id, a := range w.shares {
		w.cutEnded(a, a.last)
		if len(a.windows) == 0 && !a.held && a.newest < w.now.Add(-forgetAfter).Unix() {
			delete(w.shares, id)
		}
	}
}

func (w *Writer) cutEnded(a *account, through uint64) {
	if a.held {
		return
	}
	for _, start := range a.starts() {
		if a.over(start, w.now) {
			w.cut(a, start, through, true)
			delete(a.windows, start)
		}
	}
}

// forgetAfter is when nothing comes any more of a series that has gone from the
// configuration.
const forgetAfter = 2 * series.MaxInterval

// cut lets what a window has be written, and what comes later in another file. Only of
// a window of which there is all can be said what is little.
func (w *Writer) cut(a *account, start int64, through uint64, over bool) {
	win := a.windows[start]
	if !a.distinct && len(win.counts) == 0 {
		return
	}
	minCount := int64(1)
	if over && start > a.newest && !a.share { // of a share the rest may be told again after a restart
		minCount = w.o.MinCount
	}
	t := time.Unix(start, 0).UTC()
	j := &job{
		name: Name{First: t, Last: t, Through: through, Node: a.node},
		meta: Meta{Series: a.name, Type: a.kind, Interval: a.interval, Distinct: a.distinct, Node: a.node},
		size: len(win.counts), whole: win.whole && !a.distinct, minCount: w.o.MinCount,
	}
	if counter := a.counter(); a.distinct {
		if counter == nil {
			return // the node has left the cluster
		}
		j.size = counter.Len()
		j.rows = func() ([]Row, error) {
			rows, err := estimates(counter, start, w.o.Now)
			return fold(rows, minCount), err
		}
	} else {
		counts := win.counts
		j.rows = func() ([]Row, error) { return fold(rowsOf(counts, start), minCount), nil }
	}
	win.counts, win.whole = nil, false
	a.newest = max(a.newest, start)
	w.queue.put(j)
}

// Close writes what the open windows have and returns when that is done, or when the
// disk has refused it. The estimates of an open window come when it closes, after the
// next start, if the series persists. Nothing may be taken after that.
func (w *Writer) Close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cutCounts(func(*account) bool { return true }, w.number)
	for _, a := range w.shares {
		if !a.distinct && !a.held {
			for _, start := range a.starts() {
				w.cut(a, start, a.last, false)
			}
		}
	}
	for _, a := range w.open {
		if a.distinct && !a.kept.Persist {
			for _, start := range a.starts() {
				w.cut(a, start, w.number, false)
			}
		}
	}
	w.queue.close()
}

// Stats are what a writer has done since it was made.
func (w *Writer) Stats() WriterStats { return w.queue.Stats() }

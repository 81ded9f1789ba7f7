package history

import (
	"errors"
	"io/fs"
	"iter"
	"math"
	"slices"
	"time"

	"github.com/audit-milter/audit-milter/internal/deltas"
	"github.com/audit-milter/audit-milter/policy"
	"github.com/audit-milter/audit-milter/series"
)

// shareOf says whose part of which series an account is.
type shareOf struct {
	node string
	identity
}

// TakeShare takes what another node has told of a series in its batch of that number, or
// in a part of its snapshot. Nothing may be told twice. It may be called while Take is,
// and waits for the disk as little; a writer that is not a manager's leaves it alone.
func (w *Writer) TakeShare(node string, kept policy.Kept, told iter.Seq[series.Delta], now time.Time, number uint64) {
	if !w.writes(kept) {
		return
	}
	a := w.lockShare(node, kept)
	defer w.mu.Unlock()
	a.last = max(a.last, number)
	b := &deltas.Batch{Now: now, Number: number}
	for d := range told {
		if a.held { // it begins with the snapshot
			d.For = series.Both
		}
		a.add(&d, b, false)
	}
	if !a.held {
		w.bound(a, a.last)
	}
}

// BeginShare begins another node's part of a series anew: until EndShare its snapshot is
// told, which has all that it counts. So it goes before the first batch, and whenever
// something was missed. Nothing of the part is written meanwhile; what the files have of
// it already, as after a restart, is found when the windows are written.
func (w *Writer) BeginShare(node string, kept policy.Kept) {
	if !w.writes(kept) {
		return
	}
	a := w.lockShare(node, kept)
	defer w.mu.Unlock()
	a.held = true
	if !a.distinct {
		clear(a.windows)
		a.newest = math.MinInt64
	}
}

// EndShare ends the snapshot: what follows are batches.
func (w *Writer) EndShare(node string, kept policy.Kept) {
	if !w.writes(kept) {
		return
	}
	a := w.lockShare(node, kept)
	defer w.mu.Unlock()
	a.held = false
	w.bound(a, a.last)
}

// lockShare locks the writer and returns the account of another node's part. The disk,
// which may be slow, it asks before that: Take waits for the lock.
func (w *Writer) lockShare(node string, kept policy.Kept) *account {
	id := shareOf{node, identityOf(kept)}
	w.mu.Lock()
	if w.shares[id] == nil {
		a := newAccount(id.identity, kept, earlier{})
		a.node, a.share = node, true
		if a.distinct {
			w.mu.Unlock()
			a.newest = w.newestOf(node, id.identity)
			w.mu.Lock()
		}
		if w.shares[id] == nil {
			w.shares[id] = a
		}
	}
	a := w.shares[id]
	a.kept = kept
	return a
}

// newestOf is the newest window of a node's part that is in some file.
func (w *Writer) newestOf(node string, id identity) int64 {
	files, err := earlierOf(w.o.Dir, id.name, []string{node})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		w.o.Log.Error("not all of the history can be read, so that what was just written of it may be written again", "error", err)
	}
	return files.newest(id)
}

// leaveWritten leaves of the whole of a window what the files do not have yet. It is
// called when all that was cut before is in files.
func (q *queue) leaveWritten(j *job) {
	j.whole = false
	written, err := q.written(j)
	if err != nil { // rather too little than twice
		q.log.Warn("a window of another node may be missing in the history", "series", j.meta.Series, "node", j.meta.Node, "window", j.name.First, "error", err)
		j.ready = nil
	}
	_, folded := written[""]
	j.ready = slices.DeleteFunc(j.ready, func(r Row) bool {
		_, known := written[r.Key]
		return !known && folded && r.Count < j.minCount
	})
	for i := range j.ready {
		r := &j.ready[i]
		if n, known := written[r.Key]; known {
			r.Count = max(0, series.Plus(r.Count, -n)) // less: it was removed, or had to leave
		}
	}
	j.ready = slices.DeleteFunc(j.ready, func(r Row) bool { return r.Count == 0 })
}

// written is what the files have of a window, by key.
func (q *queue) written(j *job) (map[string]int64, error) {
	first := j.name.First
	v, err := look(q.dir, j.meta.Series, overlapping(first, first.Add(time.Second), j.meta.Node))
	if _, none := errors.AsType[policy.UnknownError](err); none {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer v.close()
	counts := make(map[string]int64)
	for _, f := range v.files {
		if err := f.read(); err != nil {
			return nil, err
		}
		if f.Type != j.meta.Type || f.Interval != j.meta.Interval || f.Distinct != j.meta.Distinct {
			continue // it was another series then
		}
		for r, err := range f.rows() {
			if err != nil {
				return nil, err
			}
			if r.Start == first.Unix() {
				counts[r.Key] = series.Plus(counts[r.Key], r.Count)
			}
		}
	}
	return counts, nil
}

package history

import (
	"errors"
	"io/fs"
	"iter"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// WriterStats are what a [Writer] has done.
type WriterStats struct {
	Files, Rows, Bytes uint64 // that were written
	Waiting            int    // rows that are to be written, or about as many
	Dropped            uint64 // rows that were not, or about as many
	Failing            bool   // the last attempt failed
}

const (
	maxWaiting = 2_000_000 // rows, of about 100 bytes each: beyond them the oldest are dropped
	retryAfter = 10 * time.Second
	repeatLog  = time.Minute
)

// job is a file that is to be written.
type job struct {
	name   Name
	meta   Meta
	rows   func() ([]Row, error) // nil once they are ready
	ready  []Row
	size   int // about how many rows
	failed bool

	whole    bool   // rows are all of a window, of which the files may have some
	minCount int64  // of the whole: keys below it may be in the row of the empty key
	begins   uint64 // no file, but the number of a batch: all before it was put in before
}

// queue writes files, one after the other, in a goroutine of its own. What fails is
// tried again before anything else is.
type queue struct {
	dir  string
	log  *slog.Logger
	wake chan struct{}
	done chan struct{}

	mu      sync.Mutex // owns what follows
	tried   sync.Cond  // a file was written, or could not be
	waiting []*job     // without the one that is being written
	stats   WriterStats
	closing bool
	failure error  // of the last attempt
	needed  uint64 // the batch before which nothing waits

	saidFailing, saidDropped time.Time // when the log said so; zero: not yet
}

func newQueue(dir string, log *slog.Logger) *queue {
	q := &queue{dir: dir, log: log, wake: make(chan struct{}, 1), done: make(chan struct{})}
	q.tried.L = &q.mu
	return q
}

func (q *queue) Stats() WriterStats {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.stats
}

// put never waits for the disk.
func (q *queue) put(j *job) {
	q.mu.Lock()
	q.waiting = append(q.waiting, j)
	q.stats.Waiting += j.size
	for q.stats.Waiting > maxWaiting && len(q.waiting) > 1 {
		q.drop("more would wait than are kept in memory")
	}
	q.mu.Unlock()
	q.stir()
}

func (q *queue) stir() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// flush returns when all is written; an error says that something cannot be.
func (q *queue) flush() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.stats.Waiting > 0 && q.failure == nil {
		q.tried.Wait()
	}
	return q.failure
}

// close returns when all is written or the disk has refused it.
func (q *queue) close() {
	q.mu.Lock()
	q.closing = true
	q.mu.Unlock()
	q.stir()
	<-q.done
}

func (q *queue) run() {
	defer close(q.done)
	for {
		q.prepare()
		j, closing := q.next()
		switch {
		case j == nil && closing:
			return
		case j == nil:
			<-q.wake
		case q.attempt(j):
		case closing:
			q.giveUp()
			return
		default:
			select {
			case <-q.wake:
			case <-time.After(retryAfter):
			}
		}
	}
}

// prepare makes the rows of all that wait, since what is read from a series leaves it.
func (q *queue) prepare() {
	q.mu.Lock()
	waiting := append([]*job(nil), q.waiting...)
	q.mu.Unlock()
	for _, j := range waiting {
		if j.rows == nil {
			continue
		}
		rows, err := j.rows()
		if err != nil {
			q.log.Warn("a window is missing in the history", "series", j.meta.Series, "window", j.name.First, "error", err)
		}
		j.ready, j.rows = rows, nil
	}
}

// next takes the oldest job out, of those whose rows are ready.
func (q *queue) next() (j *job, closing bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting) == 0 || q.waiting[0].rows != nil {
		return nil, q.closing && len(q.waiting) == 0
	}
	j, q.waiting = q.waiting[0], q.waiting[1:]
	return j, q.closing
}

// attempt writes a file. If that fails, it is the next one again.
func (q *queue) attempt(j *job) bool {
	size, err := q.write(j)
	q.mu.Lock()
	defer q.mu.Unlock()
	defer q.tried.Broadcast()
	q.failure, q.stats.Failing = err, err != nil
	if err != nil {
		j.failed = true
		q.waiting = append([]*job{j}, q.waiting...)
		if time.Since(q.saidFailing) >= repeatLog {
			q.saidFailing = time.Now()
			q.log.Error("the history cannot be written, and is tried again", "rows_waiting", q.stats.Waiting, "error", err)
		}
		return false
	}
	q.over(j)
	if len(j.ready) > 0 {
		q.stats.Files++
		q.stats.Rows += uint64(len(j.ready))
		q.stats.Bytes += uint64(size)
	}
	if !q.saidFailing.IsZero() {
		q.log.Info("the history is written again", "rows_waiting", q.stats.Waiting, "rows_dropped", q.stats.Dropped)
		q.saidFailing, q.saidDropped = time.Time{}, time.Time{}
	}
	return true
}

// over notes that the job waits no longer.
func (q *queue) over(j *job) {
	q.stats.Waiting -= j.size
	q.needed = max(q.needed, j.begins)
}

func (q *queue) write(j *job) (size int64, err error) {
	if j.whole {
		q.leaveWritten(j)
	}
	if len(j.ready) == 0 {
		return 0, nil
	}
	path := func() string { return filepath.Join(seriesDir(q.dir, j.meta.Series), j.name.String()) }
	for {
		err = write(q.dir, j.name, j.meta, eachOf(j.ready))
		if !errors.Is(err, fs.ErrExist) {
			break
		}
		if j.failed { // it is this one, but for what failed behind it
			err = syncDir(filepath.Dir(path()))
			break
		}
		j.name.Part++
	}
	if err != nil {
		return 0, err
	}
	if info, err := os.Stat(path()); err == nil {
		size = info.Size()
	}
	return size, nil
}

// drop drops the oldest file.
func (q *queue) drop(why string) {
	j := q.waiting[0]
	q.waiting = q.waiting[1:]
	q.over(j)
	q.stats.Dropped += uint64(j.size)
	if j.size == 0 {
		return
	}
	if time.Since(q.saidDropped) >= repeatLog {
		q.saidDropped = time.Now()
		q.log.Error("rows of the history are lost: "+why,
			"series", j.meta.Series, "window", j.name.First, "rows", j.size, "rows_lost_so_far", q.stats.Dropped)
	}
}

// giveUp drops all there is.
func (q *queue) giveUp() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.saidDropped = time.Time{}
	for len(q.waiting) > 0 {
		q.drop("the disk refuses them, and the daemon stops")
	}
}

func eachOf(rows []Row) iter.Seq2[Row, error] {
	return func(yield func(Row, error) bool) {
		for _, r := range rows {
			if !yield(r, nil) {
				return
			}
		}
	}
}

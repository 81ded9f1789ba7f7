package logging

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// buffer is where lines wait. Half of it takes lines while the other half is
// written; neither grows.
type buffer struct {
	mu      sync.Mutex      // owns the following
	filled  sync.Cond       // there is something to do for the goroutine that writes
	waiting []byte          // whole lines
	missed  loss            // of the lines behind those that wait
	flushes []chan struct{} // of those who wait for what is there until now
	closed  bool

	// The rest is of the goroutine that writes.
	out     io.Writer
	writing []byte
	lost    loss         // what is still to be told
	torn    bool         // what was written ends inside a line
	own     slog.Handler // writes to note
	note    bytes.Buffer // the line about lost lines

	lostLines, lostBytes atomic.Uint64 // since the beginning, whether told or not
}

// loss is a gap in the log.
type loss struct {
	lines int
	since time.Time
	cause error // the latest one
}

var errFull = errors.New("the log's buffer is full")

func newBuffer(out io.Writer, size int) *buffer {
	b := &buffer{
		waiting: make([]byte, 0, size/2),
		out:     out,
		writing: make([]byte, 0, size/2),
	}
	b.filled.L = &b.mu
	return b
}

// Write takes one line. Once one was missed, all are until those before it are
// taken: the gap has one place, and the order is kept.
func (b *buffer) Write(line []byte) (int, error) {
	b.mu.Lock()
	if b.missed.lines > 0 || len(line) > cap(b.waiting)-len(b.waiting) {
		b.missed.add(1, errFull)
		b.countLost(1, len(line))
	} else {
		b.waiting = append(b.waiting, line...)
	}
	b.mu.Unlock()
	b.filled.Signal() // wakes nobody while the goroutine is at work
	return len(line), nil
}

// flush returns a channel that is closed when the lines before it are written;
// with last, nothing will be written after that.
func (b *buffer) flush(last bool) <-chan struct{} {
	flushed := make(chan struct{})
	b.mu.Lock()
	b.flushes = append(b.flushes, flushed)
	b.closed = b.closed || last
	b.mu.Unlock()
	b.filled.Signal()
	return flushed
}

// batch is what was taken besides the lines.
type batch struct {
	missed  loss            // behind the lines
	flushes []chan struct{} // to be closed when the lines are written
	last    bool
}

// run writes until the last flush.
func (b *buffer) run() {
	for last := false; !last; {
		taken := b.take()
		b.tell()
		b.writeLines()
		b.lost.join(taken.missed)
		b.tell()
		for _, flushed := range taken.flushes {
			close(flushed)
		}
		last = taken.last
	}
}

// take waits for something to do and takes all of it. What comes while it is
// done is the next batch's, so no flush waits for more than two.
func (b *buffer) take() batch {
	b.mu.Lock()
	defer b.mu.Unlock()
	for len(b.waiting) == 0 && b.missed.lines == 0 && len(b.flushes) == 0 {
		b.filled.Wait()
	}
	taken := batch{b.missed, b.flushes, b.closed}
	b.waiting, b.writing = b.writing[:0], b.waiting
	b.missed, b.flushes = loss{}, nil
	return taken
}

// writeLines writes what was taken. While a loss cannot be told, no line can
// take its place.
func (b *buffer) writeLines() {
	if len(b.writing) == 0 {
		return
	}
	n, err := 0, b.lost.cause
	if err == nil {
		n, err = b.write(b.writing)
	}
	if err != nil {
		lines := bytes.Count(b.writing[n:], []byte("\n"))
		b.lost.add(lines, err)
		b.countLost(lines, len(b.writing)-n)
	}
}

func (b *buffer) countLost(lines, bytes int) {
	b.lostLines.Add(uint64(lines))
	b.lostBytes.Add(uint64(bytes))
}

// tell writes the line about lost lines, if there are any. It may not succeed,
// and is tried again then before the next lines.
func (b *buffer) tell() {
	if b.lost.lines == 0 {
		return
	}
	b.note.Reset()
	if b.torn {
		b.note.WriteByte('\n')
	}
	r := slog.NewRecord(time.Now(), slog.LevelWarn, "log lines were lost", 0)
	r.AddAttrs(
		slog.Int("lines", b.lost.lines),
		slog.String("for", time.Since(b.lost.since).Round(time.Millisecond).String()),
		slog.Any("error", b.lost.cause))
	b.own.Handle(context.Background(), r) // writing to memory does not fail
	if _, err := b.write(b.note.Bytes()); err != nil {
		b.lost.cause = err
		return
	}
	b.lost = loss{}
}

func (b *buffer) write(text []byte) (n int, err error) {
	n, err = b.out.Write(text)
	if n > 0 {
		b.torn = text[n-1] != '\n'
	}
	return n, err
}

func (l *loss) add(lines int, cause error) {
	l.join(loss{lines, time.Now(), cause})
}

// join adds a later loss.
func (l *loss) join(later loss) {
	switch {
	case later.lines == 0:
	case l.lines == 0:
		*l = later
	default:
		l.lines += later.lines
		l.cause = later.cause
	}
}

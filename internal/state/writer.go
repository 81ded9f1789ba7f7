package state

import (
	"errors"
	"fmt"
	"os"
	"time"
)

// writer is what the goroutine that writes knows of the files.
type writer struct {
	dir      string
	segments []segment // the oldest first; the last one is written, once there is a file
	file     *os.File  // nil before the first batch
	complete uint64    // the newest segment whose snapshot is whole and synced; 0: none
	fallback uint64    // the one before; 0: none
	unsynced record    // the last one that was written, until it is synced
	ended    bool      // the snapshot in the file is whole, and what it supersedes has not gone
	doubtful bool      // a sync of the file failed: its snapshot may not be whole on the disk
}

// run writes batches as they come and syncs them. What fails is tried again with every
// sync.
func (s *Store) run() {
	syncs := time.NewTicker(syncEvery)
	defer syncs.Stop()
	for {
		select {
		case <-s.wake:
			if !s.failing() {
				s.check(s.write())
			}
		case <-syncs.C:
			s.check(errors.Join(s.write(), s.sync()))
		case <-s.stop:
			err := errors.Join(s.write(), s.sync())
			if s.writer.file != nil {
				err = errors.Join(err, s.writer.file.Close())
			}
			s.stopped <- err
			return
		}
	}
}

func (s *Store) failing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stats.Failing
}

// check says when writing begins to fail, once a minute while it does, and when it
// works again.
func (s *Store) check(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	switch {
	case err == nil && s.stats.Failing:
		s.log.Warn("state: writing works again", "lost_batches", s.stats.LostBatches)
	case err != nil && (!s.stats.Failing || now.Sub(s.told.failing) >= tellEvery):
		s.told.failing = now
		s.log.Error("state: writing fails, and what is counted now would be lost in a crash; it is tried again every second",
			"error", err, "waiting_bytes", s.waitingBytes)
	}
	s.stats.Failing = err != nil
}

// write writes all that waits.
func (s *Store) write() error {
	for {
		r, ok := s.next()
		if !ok {
			return nil
		}
		if r.begin && !s.writer.writes(r.number) {
			if err := s.begin(r.number); err != nil {
				return err
			}
		}
		if err := s.append(r); err != nil {
			return err
		}
		s.written(r)
	}
}

// next is the record that waits first.
func (s *Store) next() (r record, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.waiting) == 0 {
		return record{}, false
	}
	return s.waiting[0], true
}

// written notes that the record waits no longer.
func (s *Store) written(r record) {
	w := &s.writer
	w.unsynced = r
	w.ended = w.ended || r.end
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting[0] = record{}
	s.waiting = s.waiting[1:]
	s.waitingBytes -= int64(len(r.bytes))
	s.stats.Written += int64(len(r.bytes))
	s.tally()
}

// writes reports whether the segment of that number has been begun.
func (w *writer) writes(number uint64) bool {
	return w.file != nil && w.segments[len(w.segments)-1].number == number
}

// begin begins a segment, once the one before is safe.
func (s *Store) begin(number uint64) error {
	w := &s.writer
	if w.file != nil {
		if err := s.sync(); err != nil {
			return err
		}
		w.file.Close()
		w.file = nil
	}
	if err := s.holdLock(); err != nil {
		return err
	}
	next := segment{number: number, size: headerLen}
	f, err := os.OpenFile(next.path(w.dir), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	if _, err = f.Write(headerOf(format)); err == nil {
		err = syncDirectory(w.dir)
	}
	if err != nil {
		f.Close()
		return errors.Join(err, os.Remove(f.Name()))
	}
	w.file, w.ended, w.doubtful = f, false, false
	w.segments = append(w.segments, next)
	if w.fallback == 0 {
		return s.removeLeft()
	}
	return nil
}

// removeLeft removes what starts have left that ended before a sync: what nobody falls
// back to any more. Else a daemon that dies at once, again and again, would fill the disk.
func (s *Store) removeLeft() error {
	w := &s.writer
	newest := fallback(w.segments)
	if newest < 2 || w.segments[1].number > s.needed() {
		return nil
	}
	before := w.wholeBefore(newest)
	if before == 0 {
		return nil
	}
	for _, kept := range w.segments[before:] {
		if err := kept.sync(w.dir); err != nil {
			return err
		}
	}
	w.fallback = w.segments[before].number
	return s.removeOld()
}

// wholeBefore is the next older segment with a whole snapshot; 0 where nothing older would
// go. What cannot be read is not whole.
func (w *writer) wholeBefore(newest int) int {
	for i := newest - 1; i > 0; i-- {
		if w.segments[i].survey(w.dir); w.segments[i].complete {
			return i
		}
	}
	return 0
}

// append writes the record behind the last good one, over what is there of one that
// could not be written to its end.
func (s *Store) append(r record) error {
	w := &s.writer
	last := &w.segments[len(w.segments)-1]
	if _, err := w.file.WriteAt(r.bytes, last.size); err != nil {
		return err
	}
	last.size += int64(len(r.bytes))
	return nil
}

// sync lets stand what was written.
func (s *Store) sync() error {
	w := &s.writer
	if err := s.stands(); err != nil {
		return err
	}
	if w.unsynced.bytes == nil {
		return s.removeOld()
	}
	begun := time.Now()
	err := w.file.Sync()
	s.synced(err, time.Since(begun))
	if err != nil {
		w.doubtful = true
		return err
	}
	w.unsynced = record{}
	return s.removeOld()
}

// stands finds out whether the file that is written still has its name. Without it, all
// that was written is lost; only a snapshot makes up for that, in a new file.
func (s *Store) stands() error {
	w := &s.writer
	if w.file == nil {
		return nil
	}
	have, err := w.file.Stat()
	if err != nil {
		return err
	}
	named, err := os.Stat(w.file.Name())
	if err == nil && os.SameFile(have, named) {
		return nil
	}
	w.file.Close()
	*w = writer{dir: w.dir}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.waiting {
		s.loseRecord(r)
	}
	s.waiting, s.waitingBytes, s.broken, s.lacking = nil, 0, true, true
	s.tally()
	return fmt.Errorf("the file that is written has gone: %s", have.Name())
}

func (s *Store) loseRecord(r record) {
	s.stats.LostBatches++
	s.stats.LostDeltas += int64(r.deltas)
}

// removeOld removes the segments that nobody falls back to or needs any more. The last
// snapshot counts once it is whole and synced.
func (s *Store) removeOld() error {
	w := &s.writer
	if w.ended && !w.doubtful {
		if s.node != "" { // not before: until now, all that is there is of another name
			if err := keepNode(w.dir, s.node); err != nil {
				return err
			}
		}
		w.fallback, w.complete, w.ended = w.complete, w.segments[len(w.segments)-1].number, false
		s.mu.Lock()
		s.stats.SnapshotAt, s.lacking = time.Now(), s.broken
		s.mu.Unlock()
	}
	before := len(w.segments)
	for len(w.segments) > 1 && w.segments[0].number < w.fallback && w.segments[1].number <= s.needed() {
		if err := os.Remove(w.segments[0].path(w.dir)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		w.segments = w.segments[1:]
	}
	if len(w.segments) == before {
		return nil
	}
	s.mu.Lock()
	s.tally()
	s.mu.Unlock()
	return syncDirectory(w.dir)
}

// synced counts a sync. After one that failed, nobody knows what stands of that which
// was written before.
func (s *Store) synced(err error, took time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stats.Syncs++
	s.stats.SyncTime += took
	if err != nil {
		s.doubtful = true
		return
	}
	s.stats.Synced, s.stats.SyncedAt = s.writer.unsynced.number, time.Now()
}

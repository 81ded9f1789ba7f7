package state

import (
	"time"

	"github.com/audit-milter/audit-milter/internal/deltas"
)

// Take takes the next batch; the first one begins a snapshot. It never waits for the
// disk: once more than 64 MiB do, batches are lost.
func (s *Store) Take(b *deltas.Batch) {
	if !b.Begin && s.isBroken() {
		s.lose(b)
		return
	}
	r := s.encoder.encode(b)
	if len(r.bytes) == 0 {
		return
	}
	if !s.enqueue(r) {
		s.lose(b)
		return
	}
	select {
	case s.wake <- struct{}{}:
	default: // it is going to look anyway
	}
}

func (s *Store) isBroken() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.broken
}

// enqueue reports whether there was room for the record.
func (s *Store) enqueue(r record) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	size := int64(len(r.bytes))
	if s.waitingBytes > 0 && s.waitingBytes+size > maxWaiting {
		s.broken = true
		return false
	}
	s.waiting = append(s.waiting, r)
	s.waitingBytes += size
	if r.begin {
		s.broken, s.doubtful, s.complete = false, false, false
		s.begun, s.snapshot, s.journal = time.Now(), 0, 0
	}
	if s.complete {
		s.journal += size
	} else {
		s.snapshot += size
	}
	s.complete = s.complete || r.end
	return true
}

// lose says that a batch is lost.
func (s *Store) lose(b *deltas.Batch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stats.LostBatches++
	s.lacking = true
	for i := range b.Series {
		if b.Series[i].Persist {
			s.stats.LostDeltas += int64(len(b.Series[i].Deltas))
		}
	}
	if now := time.Now(); now.Sub(s.told.lost) >= tellEvery {
		s.told.lost = now
		s.log.Error("state: the disk is too slow or fails, and what is counted now would be lost in a crash, until a snapshot is complete",
			"lost_batches", s.stats.LostBatches, "lost_deltas", s.stats.LostDeltas)
	}
}

// WantsSnapshot reports that something was lost and the disk works again, with room for
// what a snapshot brings, or that the journal has become long.
func (s *Store) WantsSnapshot() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.stats.Failing:
		return false
	case s.broken || s.doubtful:
		return s.waitingBytes < maxWaiting/4
	}
	return s.complete && s.journal > max(minJournal, s.snapshot/journalShare) && time.Since(s.begun) >= minSnapshotAge
}

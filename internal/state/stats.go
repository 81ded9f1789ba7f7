package state

import "time"

// Stats are what a Store has done since it was opened, and how it is.
type Stats struct {
	Written  int64         // bytes
	Waiting  int64         // bytes, at most 64 MiB
	Syncs    int64         // also those that failed
	SyncTime time.Duration // of all of them
	Failing  bool          // the last write or sync did not succeed

	LostBatches int64 // for which there was no room, or that came behind one
	LostDeltas  int64 // in those

	Synced     uint64    // the number of the last batch that a crash of the machine does not lose
	SyncedAt   time.Time // zero: there is none yet
	SnapshotAt time.Time // when the last snapshot was complete and synced; zero: there is none yet

	Segments int   // files
	Size     int64 // of them, in bytes
}

// Stats are for any goroutine.
func (s *Store) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	stats := s.stats
	stats.Waiting = s.waitingBytes
	return stats
}

// tally counts the files; the lock is held by the goroutine that writes them.
func (s *Store) tally() {
	s.stats.Segments, s.stats.Size = len(s.writer.segments), 0
	for _, segment := range s.writer.segments {
		s.stats.Size += segment.size
	}
}

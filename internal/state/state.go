// Package state keeps what persists over a restart or a crash: a journal of all
// batches, which snapshots bound.
//
// # Files
//
// A directory has segments, NUMBER.journal, named by the number of their first batch.
// With each snapshot a segment begins: it has the snapshot, which takes several
// batches, and all batches from its begin on. Once a snapshot is complete and synced,
// those segments go that the complete one before it does not need. So nothing goes
// before its successor is safe, and a damaged snapshot has one to fall back to.
//
// A segment is a header of 16 bytes and then records, one a batch, each with a mark, a
// length and a CRC-32C. A record that is torn or damaged is left out, with a warning
// that says what time it covers, and the next mark is looked for. A file without any
// record is told, too: a crash leaves one when it comes before the first. A file that was
// damaged, other than torn at its end by a crash, stays as NUMBER.journal.damaged.
//
// The file "node" has the name under which the node's cluster knows what the newest
// complete snapshot counts.
//
// # Bounds
//
// On the disk: twice a snapshot, behind each of the two a journal of the larger one of
// 2 MiB and an eighth of the snapshot, or of 20 seconds; snapshots that were begun and not
// completed; and what Options.Needed asks for.
// In memory: 64 MiB of batches that wait for the disk. What is beyond that while the
// disk fails or is slow is lost, and a snapshot makes up for it when it works again.
package state

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"sync"
	"time"

	"github.com/audit-milter/audit-milter/internal/deltas"
	"github.com/audit-milter/audit-milter/policy"
)

const (
	// syncEvery lets a crash of the machine lose less than a second, with the tick
	// before it and the time that a sync takes.
	syncEvery = 800 * time.Millisecond

	maxWaiting     = 64 << 20 // bytes of records that wait for the disk
	minJournal     = 2 << 20  // bytes behind a snapshot before it is worth another one
	journalShare   = 8        // and what part of the snapshot: a restart reads both, within 2 seconds
	minSnapshotAge = 20 * time.Second
	tellEvery      = time.Minute // of what goes on failing
)

// Options of a Store.
type Options struct {
	Log *slog.Logger // required

	// Replayed, if there is one, gets each batch that Open reads, with the deltas for
	// everybody, after it was merged. Before them come those that the directory still
	// has of the time before the snapshot.
	Replayed func(*deltas.Batch)

	// Needed, if there is one, is the number of the first batch that Replayed has to
	// get after a restart. The files with it and with what came later stay.
	Needed func() uint64

	// Node is the node's name in its cluster; "" without one, and then the directory
	// goes on to have the name that it has.
	Node string
}

// Restored is what a directory had.
type Restored struct {
	policy.Restored
	Number uint64    // no batch had a higher one
	Until  time.Time // when the last batch was taken; the zero Time: there is none
	Bytes  int64     // that were replayed
	Node   string    // the node's name in its cluster at that time; "": it was in none

	// Unfinished is how many starts have ended before their snapshot was complete. Each
	// has left a file, which the next complete one makes needless.
	Unfinished int
}

// Store writes batches. It is a [deltas.Taker].
type Store struct {
	log  *slog.Logger
	lock *os.File

	needed func() uint64 // Options.Needed
	node   string        // Options.Node

	encoder encoder // the taker's
	writer  writer  // the writing goroutine's

	mu           sync.Mutex // owns what follows
	waiting      []record
	waitingBytes int64
	broken       bool      // a batch was lost: those behind it are too, up to the next snapshot
	doubtful     bool      // a sync failed: what was written before may not be there
	lacking      bool      // a batch was lost, and no snapshot has made up for it
	complete     bool      // the snapshot that was begun last has been taken to its end
	begun        time.Time // when that was
	snapshot     int64     // its bytes
	journal      int64     // bytes behind it
	told         struct{ failing, lost time.Time }
	stats        Stats

	wake, stop chan struct{}
	stopped    chan error
}

// record is a batch as it goes to the disk.
type record struct {
	number     uint64
	begin, end bool
	deltas     int
	bytes      []byte
}

var _ deltas.Taker = (*Store)(nil)

// Open restores what the directory has, which is made if it is missing, and lets the
// Store write there. It fails when another process uses the directory, when it cannot
// be made or read, and when something was written by a version with another format.
// What is torn or damaged is left out, with a warning. That nothing can be written is
// no reason to fail: it is told as soon as there is something to write.
func Open(dir string, o Options) (*Store, Restored, error) {
	lock, err := lockDirectory(dir, openLock)
	if err != nil {
		return nil, Restored{}, err
	}
	segments, restored, err := restore(dir, o)
	if err != nil {
		lock.Close()
		return nil, Restored{}, err
	}
	s := &Store{
		log:     o.Log,
		lock:    lock,
		needed:  o.Needed,
		node:    o.Node,
		writer:  writer{dir: dir, segments: segments},
		broken:  true, // there is nothing yet for batches to stand behind
		wake:    make(chan struct{}, 1),
		stop:    make(chan struct{}),
		stopped: make(chan error),
	}
	if s.needed == nil {
		s.needed = func() uint64 { return math.MaxUint64 }
	}
	if i := fallback(segments); i >= 0 {
		s.writer.complete = segments[i].number
	}
	go s.run()
	return s, restored, nil
}

// Close writes what waits, syncs it and lets others use the directory. The error says
// that this failed, or that something was lost for which no snapshot has made up.
func (s *Store) Close() error {
	close(s.stop)
	err := <-s.stopped
	s.lock.Close()
	if s.lacking {
		err = errors.Join(err, fmt.Errorf("%d batches were lost, and no snapshot has been completed since", s.stats.LostBatches))
	}
	return err
}

package history

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// Maintainer keeps a history small: it makes few files of many and deletes the oldest.
// It may be killed at any moment. Only one works on a history at a time, and any number
// of writers and readers beside it.
type Maintainer struct {
	Dir       string
	Retention time.Duration    // for how long windows are kept after their begin; 0: for ever
	MaxSize   int64            // in bytes, of what is not replaced yet: beyond it the oldest files are deleted; 0: no bound
	MinCount  int64            // that of the writer's options
	Log       *slog.Logger     // required
	Now       func() time.Time // nil: time.Now

	mu    sync.Mutex
	stats MaintainerStats
}

// MaintainerStats are what a [Maintainer] has done and seen.
type MaintainerStats struct {
	Files, Bytes int64  // there are, without those that are replaced
	Merged       uint64 // files that others have replaced
	Expired      uint64 // files that were deleted because of the retention
	Oversize     uint64 // and because of the size
	Failing      bool   // the last pass did not do all it had to
}

const (
	pass = 5 * time.Minute // between two times that Run does its work

	// settled is how old a file is before it is merged, so that all that came before
	// it is written too, and before what it replaces is deleted, so that who has just
	// looked which files there are can open them.
	settled = 4 * time.Minute

	// leftover is how old a file is that nobody goes on to write.
	leftover = time.Hour
)

// Run does what there is to do every five minutes, until the context ends.
func (m *Maintainer) Run(ctx context.Context) {
	now := m.Now
	if now == nil {
		now = time.Now
	}
	for {
		if err := m.Once(ctx, now()); err != nil && ctx.Err() == nil {
			m.Log.Error("the history was not maintained", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pass):
		}
	}
}

// Once does what there is to do. The context ends it early, without harm. An error
// does not keep it from what else there is to do.
func (m *Maintainer) Once(ctx context.Context, now time.Time) (err error) {
	defer func() { m.count(func(s *MaintainerStats) { s.Failing = err != nil }) }()
	l, err := lock(m.Dir)
	if err != nil {
		return err
	}
	defer l.Close()

	series, err := seriesIn(m.Dir)
	if err != nil {
		return err
	}
	var all []*stored
	var errs []error
	for _, s := range series {
		dir := seriesDir(m.Dir, s)
		errs = append(errs, sweep(dir, now))
		files, err := storedIn(dir)
		if err == nil {
			files, err = deleteReplaced(files, now)
		}
		errs = append(errs, err)
		all = append(all, files...)
	}
	all, err = m.shrink(all, now)
	errs = append(errs, err)
	errs = append(errs, m.condense(ctx, all, now)...)
	return errors.Join(errs...)
}

func (m *Maintainer) count(change func(*MaintainerStats)) {
	m.mu.Lock()
	change(&m.stats)
	m.mu.Unlock()
}

// Stats may be called at any time.
func (m *Maintainer) Stats() MaintainerStats {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.stats
}

// sweep deletes what someone who was killed has left half written.
func sweep(dir string, now time.Time) error {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		if !isHalfWritten(e.Name()) {
			continue
		}
		if info, gone := e.Info(); gone == nil && now.Sub(info.ModTime()) >= leftover {
			err = errors.Join(err, os.Remove(filepath.Join(dir, e.Name())))
		}
	}
	return err
}

func isHalfWritten(file string) bool {
	end := strings.LastIndex(file, temporary)
	if end < 0 {
		return false
	}
	_, err := ParseName(file[:end])
	return err == nil
}

// stored is a file of a history.
type stored struct {
	Name
	dir      string
	size     int64
	written  time.Time
	replaces []*stored // that are still there
	replaced bool
}

func (s *stored) path() string { return filepath.Join(s.dir, s.Name.String()) }

// storedIn is the files of a series' directory.
func storedIn(dir string) (files []*stored, err error) {
	names, err := list(dir)
	if err != nil {
		return nil, err
	}
	byName := make(map[string]*stored, len(names))
	for _, n := range names {
		s := &stored{Name: n, dir: dir}
		info, err := os.Stat(s.path())
		if err != nil {
			return nil, err
		}
		s.size, s.written = info.Size(), info.ModTime()
		files = append(files, s)
		byName[n.String()] = s
	}
	for _, s := range files {
		if s.Level == 0 {
			continue
		}
		f, err := open(dir, s.Name)
		if err != nil {
			return nil, err
		}
		for _, name := range f.Replaces {
			if old := byName[name]; old != nil {
				old.replaced = true
				s.replaces = append(s.replaces, old)
			}
		}
		f.Close()
	}
	return files, nil
}

// deleteReplaced deletes the files that were replaced some time ago. Where that fails,
// what replaced them goes on to say so, also to a file that it becomes a part of.
func deleteReplaced(files []*stored, now time.Time) (left []*stored, err error) {
	gone := make(map[*stored]bool)
	for _, s := range files {
		if now.Sub(s.written) < settled {
			continue
		}
		for _, old := range s.replaces {
			if gone[old] {
				continue
			}
			if failure := old.remove(); failure != nil {
				err = errors.Join(err, failure)
				continue
			}
			gone[old] = true
		}
	}
	for _, s := range files {
		s.replaces = slices.DeleteFunc(s.replaces, func(old *stored) bool { return gone[old] })
	}
	return slices.DeleteFunc(files, func(s *stored) bool { return gone[s] }), err
}

// shrink deletes the files that are too old or too many.
func (m *Maintainer) shrink(files []*stored, now time.Time) (left []*stored, err error) {
	counts := slices.DeleteFunc(slices.Clone(files), func(s *stored) bool { return s.replaced })
	slices.SortFunc(counts, func(a, b *stored) int { return a.Last.Compare(b.Last) })
	var size int64
	for _, s := range counts {
		size += s.size
	}
	gone := make(map[*stored]bool)
	var oversize, expired, bytes int64
	for _, s := range counts {
		old := m.Retention > 0 && now.Sub(s.Last) > m.Retention
		if !old && (m.MaxSize <= 0 || size <= m.MaxSize) {
			break
		}
		if err = s.delete(); err != nil {
			break
		}
		size -= s.size
		gone[s] = true
		for _, r := range s.replaces {
			gone[r] = true
		}
		if old {
			expired++
		} else {
			oversize++
			bytes += s.size
		}
	}
	if oversize > 0 {
		m.Log.Warn("the oldest of the history is deleted, since it is larger than max_size",
			"files", oversize, "bytes", bytes, "max_size", m.MaxSize)
	}
	m.count(func(s *MaintainerStats) {
		s.Files, s.Bytes = int64(len(counts))-expired-oversize, size
		s.Expired += uint64(expired)
		s.Oversize += uint64(oversize)
	})
	return slices.DeleteFunc(files, func(s *stored) bool { return gone[s] }), err
}

// remove deletes a file that was replaced, by two others perhaps, so that it may be gone.
func (s *stored) remove() error {
	if err := os.Remove(s.path()); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// delete deletes a file, and before it those that it replaced: without it they would
// count again.
func (s *stored) delete() error {
	for _, old := range s.replaces {
		if err := old.remove(); err != nil {
			return err
		}
	}
	if len(s.replaces) > 0 {
		if err := syncDir(s.dir); err != nil {
			return err
		}
	}
	if err := os.Remove(s.path()); err != nil {
		return fmt.Errorf("deleting what is too old or too much: %w", err)
	}
	return nil
}

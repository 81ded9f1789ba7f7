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

	unread map[version]bool // what could not be read in the last pass

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

	// mostTold is how many files that cannot be read the log names at a time.
	mostTold = 20
)

// Run does what there is to do every five minutes, until the context ends. Of a file that
// cannot be read the log tells once.
func (m *Maintainer) Run(ctx context.Context) {
	now := m.Now
	if now == nil {
		now = time.Now
	}
	for {
		told := m.unread
		unread, err := m.pass(ctx, now())
		m.tell(slices.DeleteFunc(unread, func(s *stored) bool { return told[s.version()] }))
		if err != nil && ctx.Err() == nil {
			m.Log.Error("the history was not maintained", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pass):
		}
	}
}

func (m *Maintainer) tell(unread []*stored) {
	for i, s := range unread {
		if i == mostTold {
			m.Log.Error("further files of the history cannot be read; history maintain names those that it meets", "files", len(unread)-i)
			return
		}
		m.Log.Error("a file of the history cannot be read, and is left as it is", "error", s.err)
	}
}

// Once does what there is to do. The context ends it early, without harm. An error
// does not keep it from what else there is to do.
func (m *Maintainer) Once(ctx context.Context, now time.Time) error {
	unread, err := m.pass(ctx, now)
	errs := []error{err}
	for _, s := range unread {
		errs = append(errs, s.err)
	}
	return errors.Join(errs...)
}

// pass does what there is to do, but with the files that cannot be read, which it returns.
func (m *Maintainer) pass(ctx context.Context, now time.Time) (unread []*stored, err error) {
	defer func() { m.count(func(s *MaintainerStats) { s.Failing = err != nil || len(unread) > 0 }) }()
	l, err := lock(m.Dir)
	if err != nil {
		return nil, err
	}
	defer l.Close()

	series, err := seriesIn(m.Dir)
	if err != nil {
		return nil, err
	}
	var all []*stored
	var errs []error
	for _, s := range series {
		dir := seriesDir(m.Dir, s)
		errs = append(errs, sweep(dir, now))
		files, err := storedIn(dir)
		m.readAgain(ctx, files)
		if err == nil {
			files, err = deleteReplaced(files, now)
		}
		errs = append(errs, err)
		all = append(all, files...)
	}
	all, err = m.shrink(all, now)
	errs = append(errs, err)
	errs = append(errs, m.condense(ctx, all, now)...)
	unread = slices.DeleteFunc(all, func(s *stored) bool { return s.err == nil })
	m.unread = make(map[version]bool)
	for _, s := range unread {
		m.unread[s.version()] = true
	}
	return unread, errors.Join(errs...)
}

// readAgain looks whether what could not be read in the last pass can be read by now. It
// reads all of it: what is damaged may be anywhere.
func (m *Maintainer) readAgain(ctx context.Context, files []*stored) {
	for _, s := range files {
		if s.err == nil && m.unread[s.version()] {
			s.err = s.read(ctx)
		}
	}
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
	err      error // why it cannot be read, as far as that was tried
}

// version tells a file from another one that was put into its place.
type version struct {
	path    string
	size    int64
	written time.Time
}

func (s *stored) version() version { return version{s.path(), s.size, s.written} }

func (s *stored) read(ctx context.Context) error {
	f, err := open(s.dir, s.Name)
	if err != nil {
		return err
	}
	defer f.Close()
	for _, err := range mergedFiles(ctx, []*file{f}) {
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *stored) path() string { return filepath.Join(s.dir, s.Name.String()) }

// storedIn is the files of a series' directory. What replaced which of them it finds in
// those that were merged. Of one that cannot be read nobody knows; so all that it may have
// replaced counts as replaced, and stays until it goes itself.
func storedIn(dir string) (files []*stored, err error) {
	names, err := list(dir)
	if err != nil {
		return nil, err
	}
	byName := make(map[string]*stored, len(names))
	for _, n := range names {
		s := &stored{Name: n, dir: dir}
		info, err := os.Stat(s.path())
		if err = missing(s.path(), err); errors.Is(err, fs.ErrNotExist) {
			continue // somebody has deleted it
		}
		if s.err = err; err == nil {
			s.size, s.written = info.Size(), info.ModTime()
		}
		files = append(files, s)
		byName[n.String()] = s
	}
	for _, s := range files {
		if s.Level == 0 {
			continue
		}
		f, err := open(dir, s.Name)
		if err != nil {
			s.err = err
			for _, old := range files {
				if s.mayReplace(old) {
					s.replace(old)
				}
			}
			continue
		}
		for _, name := range f.Replaces {
			if old := byName[name]; old != nil {
				s.replace(old)
			}
		}
		f.Close()
	}
	return files, nil
}

func (s *stored) replace(old *stored) {
	old.replaced = true
	s.replaces = append(s.replaces, old)
}

// mayReplace goes by the names of a merged file and another one.
func (s *stored) mayReplace(old *stored) bool {
	return old.Node == s.Node && old.Level < s.Level && (old.Through == 0) == (s.Through == 0) && old.Through <= s.Through &&
		!old.First.Before(s.First) && !old.Last.After(s.Last)
}

// deleteReplaced deletes the files that were replaced some time ago. Where that fails,
// what replaced them goes on to say so, also to a file that it becomes a part of.
func deleteReplaced(files []*stored, now time.Time) (left []*stored, err error) {
	gone := make(map[*stored]bool)
	for _, s := range files {
		if now.Sub(s.written) < settled || s.err != nil {
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
	stuck := make(map[string]bool) // directories that nothing can be deleted from
	for _, s := range counts {
		old := m.Retention > 0 && now.Sub(s.Last) > m.Retention
		if !old && (m.MaxSize <= 0 || size <= m.MaxSize || err != nil) { // newer ones do not go in the place of older ones
			break
		}
		if stuck[s.dir] {
			continue
		}
		if failure := s.delete(); failure != nil {
			err = errors.Join(err, failure)
			stuck[s.dir] = true
			continue
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

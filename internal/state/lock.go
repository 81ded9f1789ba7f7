package state

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// lockDirectory makes the directory if it is missing, and keeps other processes from
// it until the file is closed: it is locked, and has this process's number for them.
func lockDirectory(dir string, open func(dir string) (*os.File, error)) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("state directory: %w", err)
	}
	f, err := open(dir)
	if err != nil {
		return nil, fmt.Errorf("state directory: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		defer f.Close()
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("state directory %s: lock: %w", dir, err)
		}
		pid, _ := io.ReadAll(io.LimitReader(f, 20))
		return nil, fmt.Errorf("state directory %s is in use by process %s; each needs a directory of its own", dir, strings.TrimSpace(string(pid)))
	}
	if f.Truncate(0) == nil { // else the number is missing, and the journal will tell what is wrong
		fmt.Fprintln(f, os.Getpid())
	}
	return f, nil
}

// openLock opens what is locked: the file "lock". A disk that takes nothing has it from
// before, and where it has not, the directory itself will do.
func openLock(dir string) (f *os.File, err error) {
	if f, err = makeLock(dir); err == nil {
		return f, nil
	}
	if f, err = os.Open(lockIn(dir)); err == nil {
		return f, nil
	}
	return os.Open(dir)
}

func makeLock(dir string) (*os.File, error) {
	return os.OpenFile(lockIn(dir), os.O_RDWR|os.O_CREATE, 0o600)
}

func lockIn(dir string) string { return filepath.Join(dir, "lock") }

// holdLock takes the lock again, if the file "lock" is not the one that is held: the
// directory was removed, or could not be written when it was opened. If it still cannot,
// that is the error: this process itself may have the directory locked.
func (s *Store) holdLock() error {
	have, err := s.lock.Stat()
	if err != nil {
		return err
	}
	if named, err := os.Stat(lockIn(s.writer.dir)); err == nil && os.SameFile(have, named) {
		return nil
	}
	lock, err := lockDirectory(s.writer.dir, makeLock)
	if err != nil {
		return err
	}
	s.lock.Close()
	s.lock = lock
	return nil
}

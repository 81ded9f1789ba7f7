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
// it until the file is closed.
func lockDirectory(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("state directory: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("state directory is not writable: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		defer f.Close()
		return nil, lockError(f, err)
	}
	err = f.Truncate(0)
	if err == nil {
		_, err = fmt.Fprintln(f, os.Getpid())
	}
	if err != nil && !errors.Is(err, unix.ENOSPC) { // without room it only lacks the number
		f.Close()
		return nil, fmt.Errorf("state directory is not writable: %w", err)
	}
	return f, nil
}

func lockError(f *os.File, err error) error {
	dir := filepath.Dir(f.Name())
	if !errors.Is(err, unix.EWOULDBLOCK) {
		return fmt.Errorf("state directory %s: lock: %w", dir, err)
	}
	pid, _ := io.ReadAll(io.LimitReader(f, 20))
	return fmt.Errorf("state directory %s is in use by process %s; each needs a directory of its own", dir, strings.TrimSpace(string(pid)))
}

package state

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// lockDirectory makes the directory if it is missing, and keeps other processes from
// it until it is closed. Nothing has to be written for that, so that what a directory
// has is there too when the disk takes nothing. The file "lock" has the process's
// number, for whoever is kept away.
func lockDirectory(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("state directory: %w", err)
	}
	d, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("state directory: %w", err)
	}
	path := filepath.Join(dir, "lock")
	if err := unix.Flock(int(d.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		d.Close()
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("state directory %s: lock: %w", dir, err)
		}
		pid, _ := os.ReadFile(path)
		return nil, fmt.Errorf("state directory %s is in use by process %s; each needs a directory of its own", dir, strings.TrimSpace(string(pid)))
	}
	_ = os.WriteFile(path, fmt.Appendln(nil, os.Getpid()), 0o600) // whoever cannot write here is told so when the journal is
	return d, nil
}

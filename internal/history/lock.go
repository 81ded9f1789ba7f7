package history

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// ErrBusy says that another process maintains the history.
var ErrBusy = errors.New("another process maintains this history just now")

// Hold keeps other daemons from writing a history, until the file is closed: to each, what
// the other has written would be its own, and what a crash has left to write be lost. The
// directory itself is locked, which a disk that takes nothing allows; where that cannot be
// done, nobody is kept out, and the file may be nil.
func Hold(dir string) (*os.File, error) {
	if err := makeDir(dir); err != nil {
		return nil, fmt.Errorf("history directory: %w", err)
	}
	f, err := os.Open(dir)
	if err != nil {
		return nil, nil // who cannot read it is told so by what he reads there
	}
	if errors.Is(unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB), unix.EWOULDBLOCK) {
		f.Close()
		return nil, fmt.Errorf("history directory %s is in use by another daemon; each needs a directory of its own", dir)
	}
	return f, nil
}

// lock keeps others from maintaining a history, until the file is closed. The kernel
// ends it with the process. A link is not followed: root may maintain what another user
// owns.
func lock(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, ".lock"), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o640)
	if err != nil {
		return nil, err
	}
	give(f.Name())
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, ErrBusy
		}
		return nil, fmt.Errorf("locking %s: %w", f.Name(), err)
	}
	return f, nil
}

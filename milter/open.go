package milter

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// defaultMode lets a unix socket's owner and group connect: connecting takes
// the right to write.
const defaultMode fs.FileMode = 0o660

// Open begins to listen. A unix socket whose owner is gone is replaced; one
// that somebody still answers is not, and neither is any other kind of file.
// The socket is removed when the listener closes.
func (l Listen) Open() (net.Listener, error) {
	if l.Network == "unix" {
		return l.openUnix()
	}
	return net.Listen(l.Network, l.Address)
}

func (l Listen) openUnix() (net.Listener, error) {
	gid, err := lookupGroup(l.Group)
	if err != nil {
		return nil, err
	}
	unlock, err := lockDirectory(filepath.Dir(l.Address))
	if err != nil {
		return nil, fmt.Errorf("socket %s: %w", l.Address, err)
	}
	defer unlock()
	if err := removeStale(l.Address); err != nil {
		return nil, err
	}
	ln, err := bindClosed(l.Address)
	if err != nil {
		return nil, err
	}
	if err := l.grant(gid); err != nil {
		ln.Close()
		return nil, fmt.Errorf("socket %s: %w", l.Address, err)
	}
	return ln, nil
}

// lookupGroup finds a group by name or number; -1 is none given.
func lookupGroup(group string) (gid int, err error) {
	if group == "" {
		return -1, nil
	}
	if gid, err := strconv.Atoi(group); err == nil {
		return gid, nil
	}
	g, err := user.LookupGroup(group)
	if err != nil {
		return 0, fmt.Errorf("group %s of the socket: this machine has none of that name", group)
	}
	return strconv.Atoi(g.Gid)
}

// lockDirectory keeps two daemons that start at the same time from replacing
// each other's fresh socket. The lock is on the directory itself, so no lock
// file stays behind. A directory that cannot be read cannot be locked; that
// does not keep the daemon from its socket.
func lockDirectory(dir string) (unlock func(), err error) {
	f, err := os.Open(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("the directory %s does not exist", dir)
	case errors.Is(err, fs.ErrPermission):
		return func() {}, nil
	case err != nil:
		return nil, err
	}
	for try := 0; ; try++ {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if !errors.Is(err, syscall.EWOULDBLOCK) || try == lockTries {
			break
		}
		time.Sleep(lockPause)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("locking %s, to make the socket there: %w; another program holds a lock on that directory", dir, err)
	}
	return func() { f.Close() }, nil
}

// Another daemon holds the lock for the moment that it takes to make a socket.
// Anyone who may read the directory can hold it longer, so it is not waited for
// without end.
const (
	lockTries = 20
	lockPause = 100 * time.Millisecond
)

// removeStale makes room for a socket at path.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("%s is there and is not a socket; remove it, or listen elsewhere", path)
	}
	conn, err := net.DialTimeout("unix", path, time.Second)
	switch {
	case err == nil:
		conn.Close()
		return fmt.Errorf("another process answers at the socket %s; stop it, or listen elsewhere", path)
	case !errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("the socket %s is there and may be in use: %w", path, err)
	}
	return os.Remove(path)
}

// bindClosed makes the socket with no right for anyone but its owner: what
// fchmod sets before bind is what the socket file begins with. So there is no
// moment at which it is more open than asked, and the process's umask, which
// all its threads share, stays as it is.
func bindClosed(path string) (net.Listener, error) {
	closed := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var chmod error
		err := c.Control(func(fd uintptr) { chmod = syscall.Fchmod(int(fd), 0o600) })
		return errors.Join(err, chmod)
	}}
	return closed.Listen(context.Background(), "unix", path)
}

// grant opens the socket as far as it was asked to be.
func (l Listen) grant(gid int) error {
	if gid >= 0 {
		if err := os.Lchown(l.Address, -1, gid); err != nil {
			return fmt.Errorf("group %s: %w; run as root or as a member of it", l.Group, err)
		}
	}
	mode := l.Mode
	if mode == 0 {
		mode = defaultMode
	}
	return os.Chmod(l.Address, mode)
}

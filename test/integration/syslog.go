package integration

import (
	"net"
	"os"
	"path/filepath"
)

// listenSyslog is the /dev/log of the system under root: the lines that its
// mail server logs.
func listenSyslog(root string) (*feed[string], error) {
	path := filepath.Join(root, "dev/log")
	if err := os.RemoveAll(path); err != nil {
		return nil, err
	}
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o666); err != nil {
		return nil, err
	}
	lines := newFeed[string]()
	go func() {
		buf := make([]byte, 64<<10)
		for {
			n, err := conn.Read(buf)
			if err != nil {
				return
			}
			lines.add(string(buf[:n]))
		}
	}()
	return lines, nil
}

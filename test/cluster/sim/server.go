package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// server is one that keeps nothing, on a socket of its own.
type server struct {
	cmd     *exec.Cmd
	dir     string
	address string
}

func startServer(program string) (*server, error) {
	dir, err := os.MkdirTemp("", "audit-milter-sim-")
	if err != nil {
		return nil, err
	}
	s := &server{dir: dir, address: filepath.Join(dir, "socket")}
	s.cmd = exec.Command(program, "--port", "0", "--unixsocket", s.address, "--save", "", "--dir", dir)
	if err := s.cmd.Start(); err != nil {
		os.RemoveAll(dir)
		return nil, fmt.Errorf("%w; Debian's package is redis-server, and -server names another program", err)
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		c, err := dial(s.address)
		if err == nil {
			c.Close()
			return s, nil
		}
		if time.Now().After(deadline) {
			s.stop()
			return nil, fmt.Errorf("the server does not answer: %w", err)
		}
	}
}

func (s *server) stop() {
	s.cmd.Process.Kill()
	s.cmd.Wait()
	os.RemoveAll(s.dir)
}

// conn speaks RESP 2, as much of it as is needed here: a client library's own work
// would be most of what is measured.
type conn struct {
	net.Conn
	replies *reader
}

func dial(address string) (*conn, error) {
	c, err := net.Dial("unix", address)
	if err != nil {
		return nil, err
	}
	return &conn{c, newReader(c)}, nil
}

func appendCommand(buf []byte, args ...string) []byte {
	buf = fmt.Appendf(buf, "*%d\r\n", len(args))
	for _, a := range args {
		buf = fmt.Appendf(buf, "$%d\r\n%s\r\n", len(a), a)
	}
	return buf
}

// ask sends so many commands at once and reads their replies, into to if there is one.
func (c *conn) ask(commands []byte, n int, to *bytes.Buffer) error {
	failed := make(chan error, 1)
	go func() { // a server that cannot get rid of its replies takes no commands
		_, err := c.Write(commands)
		failed <- err
	}()
	c.replies.to = to
	for range n {
		if _, err := c.replies.value(); err != nil {
			return err
		}
	}
	return <-failed
}

// do sends one command and reads its reply.
func (c *conn) do(args ...string) (any, error) {
	if _, err := c.Write(appendCommand(nil, args...)); err != nil {
		return nil, err
	}
	return c.replies.value()
}

// usage is what the server has used since it was started.
type usage struct{ cpu, out float64 } // seconds, bytes sent

func (c *conn) usage() (u usage, err error) {
	c.replies.to = nil
	reply, err := c.do("INFO", "everything")
	if err != nil {
		return u, err
	}
	number := func(name string) float64 {
		_, rest, found := strings.Cut(reply.(string), "\n"+name+":")
		value, _, _ := strings.Cut(rest, "\r")
		n, failed := strconv.ParseFloat(value, 64)
		if !found || failed != nil {
			err = errors.Join(err, fmt.Errorf("the server's INFO does not tell %s", name))
		}
		return n
	}
	u.cpu = number("used_cpu_user") + number("used_cpu_sys")
	u.out = number("total_net_output_bytes")
	return u, err
}

// reader reads replies, and keeps their bytes in to if there is one.
type reader struct {
	*bufio.Reader
	to *bytes.Buffer
}

func newReader(r io.Reader) *reader { return &reader{Reader: bufio.NewReaderSize(r, 64<<10)} }

// value is a string, a number, nil, or a list of values. An error of the server is one.
func (r *reader) value() (any, error) {
	line, err := r.ReadString('\n')
	if err != nil {
		return nil, err
	}
	r.keep(line)
	kind, rest := line[0], strings.TrimSuffix(line[1:], "\r\n")
	switch kind {
	case '+':
		return rest, nil
	case '-':
		return nil, fmt.Errorf("the server says %s", rest)
	}
	n, err := strconv.Atoi(rest)
	switch {
	case err != nil:
		return nil, err
	case kind == ':':
		return n, nil
	case n < 0:
		return nil, nil
	case kind == '*':
		return r.list(n)
	}
	text := make([]byte, n+2)
	if _, err := io.ReadFull(r, text); err != nil {
		return nil, err
	}
	r.keep(string(text))
	return string(text[:n]), nil
}

func (r *reader) list(n int) (all []any, err error) {
	for range n {
		v, err := r.value()
		if err != nil {
			return nil, err
		}
		all = append(all, v)
	}
	return all, nil
}

func (r *reader) keep(s string) {
	if r.to != nil {
		r.to.WriteString(s)
	}
}

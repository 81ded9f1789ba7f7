package milter_test

import (
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/audit-milter/audit-milter/internal/wiretrace"
	"github.com/audit-milter/audit-milter/milter"
)

// onSocket is a server on a real socket, for what a pipe cannot show. Its clock
// is the system's.
func onSocket(t testing.TB, yaml string, adjust ...func(*milter.Server)) (server *milter.Server, path string) {
	t.Helper()
	server = serverFor(t, parse(t, yaml), newObserver())
	for _, f := range adjust {
		f(server)
	}
	listen := socketIn(t)
	l, err := listen.Open()
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l, nil) }()
	t.Cleanup(func() {
		server.Shutdown(t.Context())
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return server, listen.Address
}

// peer is an MTA on a real socket, which waits for each answer.
type peer struct {
	t    testing.TB
	conn net.Conn
}

// connect ends the connection with the test.
func connect(t testing.TB, path string) *peer {
	t.Helper()
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	conn.SetDeadline(time.Now().Add(time.Minute)) // a test that hangs says where
	t.Cleanup(func() { conn.Close() })
	return &peer{t, conn}
}

// tell sends a frame that has no answer.
func (p *peer) tell(frame string) error {
	_, err := p.conn.Write(fromMTA(p.t, frame))
	return err
}

// say sends a frame and returns the answer's code.
func (p *peer) say(frame string) (code byte, err error) {
	if err := p.tell(frame); err != nil {
		return 0, err
	}
	return p.hear()
}

func (p *peer) hear() (code byte, err error) {
	f, err := wiretrace.ReadFrame(p.conn)
	return f.Code, err
}

// eventually waits for what another goroutine brings about.
func eventually(t testing.TB, holds func() bool) {
	t.Helper()
	for begin := time.Now(); !holds(); time.Sleep(time.Millisecond) {
		if time.Since(begin) > 30*time.Second {
			t.Fatal("it does not come about")
		}
	}
}

// needDescriptors skips a test that this process may not have enough file
// descriptors for. Go has raised its soft limit to the hard one.
func needDescriptors(t testing.TB, n uint64) {
	t.Helper()
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil || limit.Cur < n {
		t.Skipf("this needs %d file descriptors; the hard limit is %d, %v (ulimit -Hn)", n, limit.Cur, err)
	}
}

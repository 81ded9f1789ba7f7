package milter_test

import (
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/audit-milter/audit-milter/internal/wiretrace"
	"github.com/audit-milter/audit-milter/milter"
	"github.com/audit-milter/audit-milter/policy"
)

// onSocket is a server on a real socket, for what a pipe cannot show. It has no
// log, and its clock is the system's.
func onSocket(t testing.TB, yaml string, adjust ...func(*milter.Terms)) (server *milter.Server, path string) {
	t.Helper()
	engine, err := policy.NewEngine(parse(t, yaml).Policy, policy.Options{})
	if err != nil {
		t.Fatal(err)
	}
	terms := milter.Terms{Engine: engine}
	for _, f := range adjust {
		f(&terms)
	}
	server = new(milter.Server)
	server.Adopt(terms)
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
	p := dial(t, path)
	t.Cleanup(func() { p.conn.Close() })
	return p
}

func dial(t testing.TB, path string) *peer {
	t.Helper()
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	return &peer{t, conn}
}

// tell sends a frame that has no answer.
func (p *peer) tell(frame string) { p.conn.Write(fromMTA(p.t, frame)) }

// say sends a frame and returns the answer's code.
func (p *peer) say(frame string) (code byte, err error) { return p.send(fromMTA(p.t, frame)) }

func (p *peer) send(frame []byte) (code byte, err error) {
	if _, err := p.conn.Write(frame); err != nil {
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
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil || uint64(limit.Cur) < n {
		t.Skipf("this needs %d file descriptors; the hard limit is %d, %v (ulimit -Hn)", n, limit.Cur, err)
	}
}

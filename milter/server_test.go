package milter_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/audit-milter/audit-milter/internal/wiretrace"
	"github.com/audit-milter/audit-milter/milter"
	"github.com/audit-milter/audit-milter/policy"
)

const client = `C "x·4\x10\x92192.0.2.7·"`

// failing has a rule whose `when` fails for every sender without a domain.
const failing = `
series:
  mailed:   {type: ip, interval: 1h, windows: 2, add: {at: mail}}
  accepted: {type: ip, interval: 1h, windows: 2, add: {at: accepted}}
rules:
  - {name: fails, at: [mail, eom], when: 'int(sender) > 0', then: reject, reply: "550 5.7.1 no"}
`

func TestWhatAFailingDaemonAnswers(t *testing.T) {
	for _, row := range []struct{ onError, want string }{
		{"accept", `c`},
		{"tempfail", `y "451 4.3.0 temporary failure of the policy service·"`},
	} {
		inPlace(t, "on_error: "+row.onError+failing, func(p *place) {
			m := p.mta()
			m.write(client)
			m.hears(row.want, `M "<a@b>·"`)
			m.hears(row.want, `M "<a@b>·"`)
			m.hears(`y "550 5.7.1 no·"`, `M "<7>·"`) // the next command is judged again
			if n := p.seen.said("deciding failed; answering on_error"); n != 1 {
				t.Errorf("said %d times in a minute", n)
			}
			time.Sleep(time.Minute)
			m.hears(row.want, `M "<a@b>·"`)
			if n := p.seen.said("deciding failed; answering on_error"); n != 2 {
				t.Errorf("said %d times after a minute", n)
			}
		})
	}
}

// fragile is a log that panics at one text, as a mistake in the code would.
type fragile struct {
	*observer
	at string
}

func (f fragile) WithAttrs([]slog.Attr) slog.Handler { return f }
func (f fragile) WithGroup(string) slog.Handler      { return f }

func (f fragile) Handle(ctx context.Context, r slog.Record) error {
	r.Attrs(func(a slog.Attr) bool {
		if a.Value.String() == f.at {
			panic("a mistake")
		}
		return true
	})
	return f.observer.Handle(ctx, r)
}

func TestAPanicEndsOneSession(t *testing.T) {
	const policyText = `
series:
  mailed: {type: string, interval: 1h, windows: 2, add: {at: mail, key: sender}}
  ended:  {type: string, interval: 1h, windows: 2, add: {at: eom, key: sender}}
  gone:   {type: ip, interval: 1h, windows: 2, add: {at: end}}
rules:
  - {name: r, at: mail, when: sender == "no@b", then: reject}
`
	for _, row := range []struct {
		name, onError string
		frame, want   string
	}{
		{"where an answer is due", "accept", `M "<panic@b>·"`, `c`},
		{"where an answer is due, and failures are temporary", "tempfail", `M "<panic@b>·"`, `y "451 4.3.0 temporary failure of the policy service·"`},
		{"at the end of a message", "accept", `E`, `c`},
	} {
		synctest.Test(t, func(t *testing.T) {
			pol := parse(t, "on_error: "+row.onError+policyText).Policy
			p := &place{t: t, seen: newObserver(), pipes: newPipes()}
			log := slog.New(fragile{p.seen, "panic@b"})
			if row.frame == `E` {
				log = slog.New(fragile{p.seen, "ended"})
			}
			engine, err := policy.NewEngine(pol, policy.Options{Log: log})
			if err != nil {
				t.Fatal(err)
			}
			p.server = &milter.Server{Log: log}
			p.server.Adopt(milter.Terms{Engine: engine})
			go p.server.Serve(p.pipes, nil)
			other, m := p.mta(), p.mta()
			other.write(client)
			m.write(client, `M "<a@b>·"`)
			m.answers()
			m.hears(row.want, row.frame)
			if !m.closed() {
				t.Errorf("%s: the session goes on", row.name)
			}
			if p.seen.said("a session failed; it is closed") != 1 || p.seen.said("goroutine") != 1 {
				t.Errorf("%s: the log has no stack: %v", row.name, *p.seen.messages)
			}
			if n := p.server.Stats.Panics.Load(); n != 1 {
				t.Errorf("%s: %d panics", row.name, n)
			}
			other.hears(`c`, `M "<a@b>·"`)
			other.hangUp()
			if got := p.seen.keys("gone"); got != "192.0.2.7 2" {
				t.Errorf("%s: sessions ended: %s", row.name, got)
			}
			p.close()
		})
	}
}

// shortage fails to accept as often as it is told to, then is like pipes.
type shortage struct {
	*pipes
	mu    sync.Mutex
	times int
}

func (s *shortage) Accept() (net.Conn, error) {
	s.mu.Lock()
	s.times--
	fails := s.times >= 0
	s.mu.Unlock()
	if fails {
		return nil, &net.OpError{Op: "accept", Err: syscall.EMFILE}
	}
	return s.pipes.Accept()
}

func TestAShortageOfDescriptorsDoesNotEndTheListener(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &place{t: t, seen: newObserver(), pipes: newPipes()}
		p.server = serverFor(t, parse(t, everything), p.seen)
		go p.server.Serve(&shortage{pipes: p.pipes, times: 20}, nil)
		time.Sleep(30 * time.Second)
		p.mta().hears(`c`, `H "c·"`)
		if n := p.seen.said("accepting a connection failed; trying again"); n != 1 {
			t.Errorf("said %d times", n)
		}
		if n := p.server.Stats.AcceptFailures.Load(); n != 20 {
			t.Errorf("counted %d times", n)
		}
		p.close()
	})
}

func TestServeEndsWhenSomebodyClosesItsListener(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, pipes := serverFor(t, parse(t, everything), newObserver()), newPipes()
		pipes.Close()
		if err := server.Serve(pipes, nil); !errors.Is(err, net.ErrClosed) {
			t.Errorf("got %v", err)
		}
	})
}

func TestAllow(t *testing.T) {
	for _, row := range []struct {
		name  string
		allow string
		want  bool
	}{
		{"from the network", "127.0.0.0/8", true},
		{"from elsewhere", "192.0.2.0/24", false},
	} {
		ln, err := milter.Listen{Network: "tcp", Address: "127.0.0.1:0"}.Open()
		if err != nil {
			t.Fatal(err)
		}
		seen := newObserver()
		server := serverFor(t, parse(t, everything), seen)
		served := make(chan error)
		go func() { served <- server.Serve(ln, []netip.Prefix{netip.MustParsePrefix(row.allow)}) }()
		for range 3 {
			conn, err := net.Dial("tcp", ln.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			conn.Write(fromMTA(t, "O 6 0x1ff 0x1fffff"))
			if _, err := wiretrace.ReadFrame(conn); (err == nil) != row.want {
				t.Errorf("%s: answered %v, want %v", row.name, err == nil, row.want)
			}
			conn.Close()
		}
		server.Shutdown(t.Context())
		if err := <-served; err != nil {
			t.Error(err)
		}
		if n := seen.said("its address is not in allow"); (n == 0) != row.want || n > 1 {
			t.Errorf("%s: said %d times", row.name, n)
		}
		if n := server.Stats.NotAllowed.Load(); n != map[bool]uint64{true: 0, false: 3}[row.want] {
			t.Errorf("%s: %d were not allowed", row.name, n)
		}
	}
}

func TestSessionIDsAreUnique(t *testing.T) {
	inPlace(t, `series: {s: {type: string, interval: 1h, windows: 2, add: {at: connect, key: [session, node]}}}`, func(p *place) {
		for range 3 {
			p.mta().write(client, `K`, client)
		}
		p.counts()
		if got := p.seen.keys("s"); strings.Count(got, "|mx1 1") != 6 {
			t.Errorf("got %s", got)
		}
	})
}

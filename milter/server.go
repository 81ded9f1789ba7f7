package milter

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/audit-milter/audit-milter/policy"
)

// Server serves MTAs by one policy. Its exported fields are set before the
// first Serve and not changed after that.
type Server struct {
	Engine *policy.Engine

	// MaxDelayed is how many answers may wait at one time; those above go out
	// without delay.
	MaxDelayed int

	Node string           // the attribute node
	Log  *slog.Logger     // nil for none
	Now  func() time.Time // nil for time.Now

	prepared sync.Once
	wants    *demand // what Engine needs of an MTA
	ids      atomic.Uint64
	delayed  atomic.Int64
	said     throttle

	closing atomic.Bool // set once, under mu

	mu        sync.Mutex
	listeners []net.Listener
	links     map[*link]bool // of the running sessions
	sessions  sync.WaitGroup
}

// door is one listener's entry.
type door struct {
	addr    net.Addr
	allow   []netip.Prefix
	lacking sync.Once // says what the MTAs behind it lack
}

func (s *Server) prepare() {
	if s.Log == nil {
		s.Log = slog.New(slog.DiscardHandler)
	}
	if s.Now == nil {
		s.Now = time.Now
	}
	s.wants = newDemand(s.Engine.Uses())
	s.ids.Store(rand.Uint64())
}

// newSessionID is unique on this node, also across restarts.
func (s *Server) newSessionID() string { return strconv.FormatUint(s.ids.Add(1), 32) }

// Serve takes connections from l until Shutdown, then returns nil. It outlives
// failures to accept, such as a shortage of file descriptors; its only error
// is that somebody else closed l. With allow networks, connections by inet
// from elsewhere are closed at once.
func (s *Server) Serve(l net.Listener, allow []netip.Prefix) error {
	s.prepared.Do(s.prepare)
	defer l.Close()
	if !s.addListener(l) {
		return nil
	}
	d := &door{addr: l.Addr(), allow: allow}
	var pause time.Duration
	for {
		conn, err := l.Accept()
		switch {
		case err == nil:
			pause = 0
			s.admit(d, conn)
		case s.closing.Load():
			return nil
		case errors.Is(err, net.ErrClosed):
			return err
		default:
			s.warn("accepting a connection failed; trying again", err, "listen", d.addr)
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			time.Sleep(pause)
		}
	}
}

func (s *Server) addListener(l net.Listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing.Load() {
		return false
	}
	s.listeners = append(s.listeners, l)
	return true
}

// admit begins a session for a connection that may have one.
func (s *Server) admit(d *door, conn net.Conn) {
	if !d.allows(conn.RemoteAddr()) {
		s.warn("connection refused: its address is not in allow", nil, "listen", d.addr, "from", conn.RemoteAddr())
		conn.Close()
		return
	}
	l := newLink(conn, &s.closing)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing.Load() {
		conn.Close()
		return
	}
	if s.links == nil {
		s.links = make(map[*link]bool)
	}
	s.links[l] = true
	s.sessions.Go(func() {
		defer s.forget(l)
		(&session{server: s, door: d, link: l}).run()
	})
}

func (s *Server) forget(l *link) {
	l.conn.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.links, l)
}

// allows reports whether a connection from addr is welcome.
func (d *door) allows(addr net.Addr) bool {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok || len(d.allow) == 0 {
		return true
	}
	ip := tcp.AddrPort().Addr().Unmap().WithZone("")
	return slices.ContainsFunc(d.allow, func(p netip.Prefix) bool { return p.Contains(ip) })
}

// Shutdown ends the service: no connection is taken any more, what was
// received is answered, a session with a message in progress may finish it and
// the others close. It returns when all have ended; those that have not when
// ctx ends are cut off, and its error is returned.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.closing.Store(true)
	for _, l := range s.listeners {
		l.Close()
	}
	for l := range s.links {
		l.wake()
	}
	s.mu.Unlock()

	ended := make(chan struct{})
	go func() {
		s.sessions.Wait()
		close(ended)
	}()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
	}
	s.cutOff()
	<-ended
	return ctx.Err()
}

func (s *Server) cutOff() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for l := range s.links {
		l.conn.Close()
	}
}

// warn logs what a peer can cause again and again: each message and cause once
// a minute, with the number of those left out.
func (s *Server) warn(msg string, cause error, args ...any) {
	key := msg
	if cause != nil {
		key += cause.Error()
		args = append(args, "error", cause)
	}
	if leftOut, ok := s.said.ask(key, s.Now()); ok {
		if leftOut > 0 {
			args = append(args, "left_out", leftOut)
		}
		s.Log.Warn(msg, args...)
	}
}

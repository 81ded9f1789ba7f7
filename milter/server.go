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
)

// Server serves MTAs by one policy after the other. Its exported fields are set
// before the first Serve and not changed after that, but for Stats, which are its
// own; see [Server.Adopt] for what can change.
type Server struct {
	Stats Stats

	Node string           // the attribute node
	Log  *slog.Logger     // nil for none
	Now  func() time.Time // for tests; nil for the time itself

	prepared sync.Once
	inForce  atomic.Pointer[regime]
	ids      atomic.Uint64
	said     throttle

	closing atomic.Bool // set once, under mu

	mu        sync.Mutex // owns the listeners and both crowds
	listeners []net.Listener
	sessions  crowd
	away      crowd // above MaxSessions
	running   sync.WaitGroup
}

// crowd is the connections that are served in one way, with a bound.
type crowd struct {
	max   int
	links map[*link]bool
}

func newCrowd(max int) crowd { return crowd{max, make(map[*link]bool)} }

func (c *crowd) full() bool { return len(c.links) >= c.max }

// door is one listener's entry.
type door struct {
	addr    net.Addr
	allow   []netip.Prefix
	lacking sync.Map // what the log has said that the MTAs behind it lack
}

func (s *Server) prepare() {
	if s.Log == nil {
		s.Log = slog.New(slog.DiscardHandler)
	}
	s.mu.Lock()
	s.sessions, s.away = newCrowd(s.inForce.Load().MaxSessions), newCrowd(maxTurnedAway)
	s.mu.Unlock()
	s.ids.Store(rand.Uint64())
}

// at is the time by which something counts that happened at the given moment: a
// session reads the clock once for all that came together.
func (s *Server) at(moment time.Time) time.Time {
	if s.Now != nil {
		return s.Now()
	}
	return moment
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
			s.Stats.AcceptFailures.Add(1)
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
		s.Stats.NotAllowed.Add(1)
		s.warn("connection refused: its address is not in allow", nil, "listen", d.addr, "from", conn.RemoteAddr())
		conn.Close()
		return
	}
	entering := s.newSession(d, conn)
	if s.enter(entering) {
		return
	}
	entering.retire()
	conn.Close()
	if !s.closing.Load() {
		s.Stats.Overflow.Add(1)
		s.warn("max_sessions are open, and as many more are answered on_error as may be; closing", nil, "max_sessions", s.inForce.Load().MaxSessions)
	}
}

// enter finds a place for a session, or one to be turned away at.
func (s *Server) enter(new *session) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closing.Load():
		return false
	case !s.sessions.full():
		s.Stats.Sessions.Add(1)
		s.begin(&s.sessions, new, new.run)
	case !s.away.full():
		s.Stats.TurnedAway.Add(1)
		s.begin(&s.away, new, new.turnAway)
	default:
		return false
	}
	return true
}

// begin requires that mu is held.
func (s *Server) begin(c *crowd, new *session, run func()) {
	c.links[&new.link] = true
	s.running.Go(func() {
		defer s.forget(c, new)
		run()
	})
}

func (s *Server) forget(c *crowd, ended *session) {
	ended.link.conn.Close()
	s.mu.Lock()
	delete(c.links, &ended.link)
	s.mu.Unlock()
	ended.retire()
}

// Sessions is how many are open, and how many may be.
func (s *Server) Sessions() (open, max int) {
	s.prepared.Do(s.prepare) // Serve may not have come to it
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.sessions.links), s.sessions.max
}

// tell logs what an MTA lacks, if anything, the first time that it is that: another
// MTA, or another policy, may lack something else.
func (d *door) tell(log *slog.Logger, lacking string) {
	if lacking == "" {
		return
	}
	if _, told := d.lacking.LoadOrStore(lacking, true); !told {
		log.Warn("the MTA lacks what the policy needs; doing without", "listen", d.addr, "lacking", lacking)
	}
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
	s.prepared.Do(s.prepare) // Serve may not have come to it
	s.mu.Lock()
	s.closing.Store(true)
	for _, l := range s.listeners {
		l.Close()
	}
	s.each((*link).wake)
	s.mu.Unlock()

	ended := make(chan struct{})
	go func() {
		s.running.Wait()
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
	s.each(func(l *link) { l.conn.Close() })
}

// each requires that mu is held.
func (s *Server) each(do func(*link)) {
	for _, c := range []crowd{s.sessions, s.away} {
		for l := range c.links {
			do(l)
		}
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
	if leftOut, ok := s.said.ask(key, s.at(time.Now())); ok {
		if leftOut > 0 {
			args = append(args, "left_out", leftOut)
		}
		s.Log.Warn(msg, args...)
	}
}

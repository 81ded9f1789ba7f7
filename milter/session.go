package milter

import (
	"errors"
	"net"
	"runtime"
	"runtime/debug"
	"sync"
	"time"

	wire "github.com/emersion/go-milter"

	"github.com/audit-milter/audit-milter/policy"
)

// session is one MTA's connection: one SMTP client's dialogue, or several in
// turn where an MTA uses the connection again. It belongs to one goroutine.
type session struct {
	progress

	// These keep their room for the next connection, see idle.
	link   link
	ev     policy.Event
	macros macroTable
}

// progress is where a session stands.
type progress struct {
	server *Server
	door   *door
	now    time.Time // when the frame in hand came

	by     *regime // what it is served by; nil before the negotiation
	agreed pact    // what was negotiated; version 0 before

	begun bool // a dialogue is in progress, whose end is still to be counted
	msg   message

	due  bool // the MTA waits for the answer to the frame in hand
	mark int  // where in link.out the answer to the frame in hand begins

	failed bool // its own code did
}

// idle are sessions that serve one connection after the other: most are short,
// and what they are made of is most of what they would allocate.
var idle = sync.Pool{New: func() any { return new(session) }}

// newSession makes one for a connection.
func (s *Server) newSession(d *door, conn net.Conn) *session {
	n := idle.Get().(*session)
	n.progress = progress{server: s, door: d}
	n.link.begin(conn, &s.closing, &s.inForce.Load().Timeouts)
	return n
}

// retire leaves a session that nobody knows any more to the next connection, which
// must find nothing of this client's. One that failed is not trusted again.
func (s *session) retire() {
	if !s.failed {
		s.ev.Reset()
		idle.Put(s)
	}
}

// begin makes room for a new client's dialogue, on a connection on which this
// was agreed.
func (s *session) begin(r *regime, agreed pact) {
	s.ev.Reset()
	s.ev.Session, s.ev.Node = s.server.newSessionID(), s.server.Node
	s.macros.reset()
	s.msg = message{}
	s.begun = true
	s.agreed = agreed
	s.link.agreed.Store(&agreed)
	s.by = nil
	s.follow(r)
}

// end counts what the dialogue in progress still owes, once. Whatever fails
// there, the session is not open any more.
func (s *session) end() {
	if !s.begun {
		return
	}
	s.begun = false
	defer s.ev.Leave()
	s.endMessageInHand()
	s.by.Engine.Count(&s.ev, policy.End, s.now)
}

// run serves the connection to its end. Whatever fails here fails for this
// session alone.
func (s *session) run() {
	defer s.rescue()
	growStack()
	err := s.serve()
	s.now = s.server.at(time.Now())
	s.end()
	s.link.flush() // what came together with the end is answered too
	s.part(err)
}

// growStack lets the goroutine's stack grow to what a session needs, at once
// and while there is next to nothing on it: each growth copies what is there.
//
//go:noinline
func growStack() {
	var room [5 << 10]byte
	runtime.KeepAlive(&room)
}

// rescue ends a session whose own code failed: with on_error's answer if one
// is due, and with the outcomes that it owes as far as they can be counted.
func (s *session) rescue() {
	failure := recover()
	if failure == nil {
		return
	}
	s.failed = true
	s.server.Stats.Panics.Add(1)
	s.server.Log.Error("a session failed; it is closed", "session", s.ev.Session, "panic", failure, "stack", string(debug.Stack()))
	s.link.out = s.link.out[:min(s.mark, len(s.link.out))]
	s.answerOnError()
	s.link.flush()
	defer func() { recover() }()
	s.end()
}

// part counts and logs why the session ended, where that is worth a word.
func (s *session) part(err error) {
	s.server.Stats.ended(err)
	from := s.link.conn.RemoteAddr()
	switch {
	case isMalformed(err):
		s.server.warn("closing a connection: malformed input", nil, "from", from, "session", s.ev.Session, "error", err)
	case errors.Is(err, errNoFirst), errors.Is(err, errUnended), errors.Is(err, errNoReader):
		s.server.warn("closing a connection", err, "from", from, "session", s.ev.Session)
	default:
		s.server.Log.Debug("session ended", "session", s.ev.Session, "error", err)
	}
}

// serve reads frames and answers them until the MTA ends the session or an
// error does.
func (s *session) serve() error {
	for {
		f, err := s.link.next()
		if err != nil {
			return err
		}
		s.now = s.server.at(s.link.came)
		s.due, s.mark = s.agreed.awaits(f.code), len(s.link.out)
		if f.code == wire.CodeQuit {
			return nil
		}
		if err := s.take(f); err != nil {
			return err
		}
		s.due = false
	}
}

// take handles one frame.
func (s *session) take(f frame) error {
	if f.code == wire.CodeOptNeg {
		return s.negotiate(f)
	}
	if s.agreed.version == 0 {
		return malformedf("command %q before the negotiation", f.code)
	}
	command := commands[f.code]
	if command == nil {
		return malformedf("unknown command %q", f.code)
	}
	return command(s, f)
}

// negotiate begins a session, also where the MTA begins anew on the same
// connection.
func (s *session) negotiate(f frame) error {
	offered, err := parseOffer(f.data)
	if err != nil {
		return err
	}
	s.end()
	r := s.server.inForce.Load()
	s.begin(r, pact{r.wants.answer(offered), r.wants})
	s.link.known = true
	s.link.out = r.wants.append(s.link.out, s.agreed.offer)
	s.door.tell(s.server.Log, r.wants.lacking(offered))
	return nil
}

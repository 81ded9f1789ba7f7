package milter

import (
	"time"

	wire "github.com/emersion/go-milter"

	"github.com/audit-milter/audit-milter/policy"
)

// A connection above max_sessions is not simply closed: the MTA would do what
// its own default says, and that may differ from on_error. So it gets on_error's
// answer at connect, in a dialogue that costs next to nothing, counts nothing,
// and ends at once: an MTA wants no more of a milter that has accepted or
// refused the connection.

// maxTurnedAway bounds the connections that are told so at one time. What comes
// above that is closed.
const maxTurnedAway = 100

// connectOnly is what has to be agreed for an answer at connect.
var connectOnly = newDemand(policy.Uses{
	Shown:    policy.Stages(policy.Connect),
	Answered: policy.Stages(policy.Connect),
})

// turnAway serves a connection above max_sessions. All of it takes no
// longer than a negotiation may.
func (s *session) turnAway() {
	defer s.rescue()
	s.server.warn("max_sessions are open; answering on_error", nil, "max_sessions", s.server.inForce.Load().MaxSessions)
	conn := s.link.conn
	end := time.AfterFunc(s.link.waits.Negotiate, func() { conn.Close() })
	defer end.Stop()
	s.part(s.turnAwayAtConnect())
}

func (s *session) turnAwayAtConnect() error {
	f, err := s.link.next()
	if err != nil {
		return err
	}
	if f.code != wire.CodeOptNeg {
		return malformedf("command %q before the negotiation", f.code)
	}
	offered, err := parseOffer(f.data)
	if err != nil {
		return err
	}
	s.link.known = true
	s.link.out = connectOnly.append(s.link.out, connectOnly.answer(offered))
	for f.code != wire.CodeConn { // its macros come first
		if f, err = s.link.next(); err != nil {
			return err
		}
	}
	s.due = true
	if err := s.answerAway(); err != nil {
		return err
	}
	_, err = s.link.next() // sends the answer; the MTA closes, Sendmail with a word
	return err
}

// answerAway answers on_error in a way that ends the dialogue. Continue would
// not: the MTA would go on, and take the close for a failure.
func (s *session) answerAway() error {
	if v := s.server.inForce.Load().Engine.Failure(); v.Refuses() {
		return s.send(wire.ActReplyCode, replyData(v.Reply))
	}
	return s.send(wire.ActAccept, "")
}

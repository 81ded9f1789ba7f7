package milter

import (
	wire "github.com/emersion/go-milter"

	"github.com/audit-milter/audit-milter/policy"
)

// message is what the session knows of the message in progress.
type message struct {
	open     bool  // between MAIL and whatever ends it
	owed     bool  // no outcome is counted yet; if it ends so, it is an abort
	passed   int   // recipients that this filter let pass
	received []int // how often each of Uses.Replaced came with the message
}

// inMessage reports whether a message is in progress. Where MAIL is switched
// off, any of its later commands opens one.
func (s *session) inMessage() bool {
	if !s.msg.open && s.agreed.protocol&wire.OptNoMailFrom != 0 {
		s.follow(s.server.inForce.Load())
		s.openMessage()
	}
	return s.msg.open
}

// openMessage lets a draining server wait for the message's end.
func (s *session) openMessage() { s.msg.open, s.link.busy = true, true }

// endMessageInHand ends the message, if there is one, without an answer at
// eom.
func (s *session) endMessageInHand() {
	if s.msg.owed {
		s.msg.owed = false
		s.by.Engine.Count(&s.ev, policy.Abort, s.now)
	}
	s.closeMessage()
}

// closeMessage forgets the message, whose outcome is counted.
func (s *session) closeMessage() {
	received := s.msg.received
	clear(received)
	s.msg = message{received: received}
	s.link.busy = false
	s.ev.ResetMessage()
}

package milter

import (
	"strings"

	wire "github.com/emersion/go-milter"

	"github.com/audit-milter/audit-milter/policy"
)

// commands are the frames that a negotiated session understands.
var commands = [256]func(*session, frame) error{
	wire.CodeMacro:       (*session).macro,
	wire.CodeConn:        (*session).connect,
	wire.CodeHelo:        (*session).helo,
	wire.CodeMail:        (*session).mail,
	wire.CodeRcpt:        (*session).rcpt,
	wire.CodeData:        (*session).data,
	wire.CodeHeader:      (*session).header,
	wire.CodeEOH:         (*session).endOfHeaders,
	wire.CodeBody:        (*session).body,
	wire.CodeEOB:         (*session).endOfMessage,
	wire.CodeAbort:       (*session).abort,
	codeUnknown:          (*session).unknown,
	wire.CodeQuitNewConn: (*session).quitNewConnection,
}

// macro takes the macros of the command that comes next. Those of a message's
// first command are the first that is heard of it.
func (s *session) macro(f frame) error {
	if !s.msg.open && ofMessage(f) {
		s.follow(s.server.inForce.Load())
	}
	return s.macros.set(f.data, s.wanted())
}

// wanted are the macros that the policy reads, and those that tell a refused
// recipient as long as the MTA shows such: it may have been asked to for an earlier
// policy.
func (s *session) wanted() macroSet {
	wanted := s.by.wants.macros.wanted
	if s.agreed.protocol&wire.OptRcptRej != 0 {
		wanted |= refusedMacros
	}
	return wanted
}

// ofMessage reports whether a macro frame belongs to a command of a message.
func ofMessage(f frame) bool {
	if len(f.data) == 0 {
		return false
	}
	stage, ok := macroSlot(wire.Code(f.data[0]))
	return ok && stage >= policy.Mail
}

func (s *session) connect(f frame) error {
	c, err := parseConnect(f.data)
	if err != nil {
		return err
	}
	s.ev.SetClient(c.addr, c.port, c.name)
	s.readMacros(policy.Connect)
	return s.judge(policy.Connect)
}

func (s *session) helo(f frame) error {
	name, err := parseHelo(f.data)
	if err != nil {
		return err
	}
	s.endMessageInHand()
	s.ev.ResetGreeting()
	s.ev.SetHelo(name)
	s.readMacros(policy.Helo)
	return s.judge(policy.Helo)
}

// mail ends the message before it: Sendmail need not say that it ended.
func (s *session) mail(f frame) error {
	arg, size, err := parseMail(f.data)
	if err != nil {
		return err
	}
	s.endMessageInHand()
	s.follow(s.server.inForce.Load())
	s.ev.SetSender(arg)
	s.ev.Size = size
	s.readMacros(policy.Mail)
	s.openMessage()
	s.msg.owed = true
	return s.judge(policy.Mail)
}

func (s *session) rcpt(f frame) error {
	arg, err := parseRcpt(f.data)
	if err != nil {
		return err
	}
	if !s.inMessage() {
		return s.goOn()
	}
	defer s.leaveRecipient()
	s.ev.SetRecipient(arg)
	s.readMacros(policy.Rcpt)
	if s.readRefusal() {
		s.by.Engine.Count(&s.ev, policy.RcptRefused, s.now)
		s.observe(policy.RcptRefused)
		return s.goOn() // the MTA heeds no other answer, or worse, part of it
	}
	s.ev.RecipientCount = s.msg.passed + 1
	return s.judge(policy.Rcpt)
}

// readRefusal reports whether the MTA itself refused the recipient in hand.
func (s *session) readRefusal() bool {
	if s.agreed.protocol&wire.OptRcptRej == 0 {
		return false
	}
	m := &s.macros
	status, text, refused := refusal(m.get(rcptMailer), m.get(rcptHost), m.get(rcptAddr))
	if refused {
		s.ev.SetText(policy.RefusedStatus, status)
		s.ev.SetText(policy.RefusedText, text)
	}
	return refused
}

// leaveRecipient forgets the recipient, its macros too: they are none of the
// next one's.
func (s *session) leaveRecipient() {
	s.ev.ResetRecipient()
	s.ev.RecipientCount = s.msg.passed
	s.macros.leave(policy.Rcpt)
}

func (s *session) data(frame) error { return s.judgeMessage(policy.Data) }

func (s *session) endOfHeaders(frame) error { return s.judgeMessage(policy.EOH) }

// header notes a field that the policy reads or replaces.
func (s *session) header(f frame) error {
	name, value, err := parseHeader(f.data)
	if err != nil {
		return err
	}
	if s.inMessage() {
		s.ev.MessageSize += len(name) + len(": ") + len(value) + len("\r\n")
		s.noteHeader(name, value)
	}
	return s.goOn()
}

func (s *session) noteHeader(name, value []byte) {
	for _, read := range s.by.wants.uses.Headers {
		if equalFold(name, read) {
			s.ev.SetHeader(read, string(value))
		}
	}
	for i, replaced := range s.by.wants.uses.Replaced {
		if equalFold(name, replaced) {
			s.msg.received[i]++
		}
	}
}

func (s *session) body(f frame) error {
	if s.inMessage() {
		s.ev.MessageSize += f.size
	}
	return s.goOn()
}

// endOfMessage may carry the last of the body.
func (s *session) endOfMessage(f frame) error {
	if s.inMessage() {
		s.ev.MessageSize += f.size
	}
	if err := s.judgeMessage(policy.EOM); err != nil {
		return err
	}
	s.closeMessage()
	return nil
}

// abort ends the message and nothing else: Postfix sends it behind a repeated
// EHLO too, and often without any message.
func (s *session) abort(frame) error {
	s.endMessageInHand()
	return nil
}

func (s *session) unknown(frame) error { return s.goOn() }

// quitNewConnection ends the dialogue and keeps the connection and what was
// negotiated.
func (s *session) quitNewConnection(frame) error {
	s.end()
	s.begin(s.server.inForce.Load(), s.agreed)
	return nil
}

// equalFold compares a header's name with a canonical one. Letters beyond ASCII
// that fold to one of it are longer, so the length keeps them apart.
func equalFold(name []byte, canonical string) bool {
	return len(name) == len(canonical) && strings.EqualFold(string(name), canonical)
}

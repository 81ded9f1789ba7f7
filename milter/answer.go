package milter

import (
	"encoding/binary"
	"time"

	wire "github.com/emersion/go-milter"

	"github.com/audit-milter/audit-milter/policy"
)

// judgeMessage judges a stage that only a message has. Where none is in
// progress the command is out of order, and the dialogue goes on.
func (s *session) judgeMessage(stage policy.Stage) error {
	if !s.inMessage() {
		return s.goOn()
	}
	s.readMacros(stage)
	return s.judge(stage)
}

// judge asks the engine about the stage in hand, waits as the verdict says,
// counts what really goes out, and answers.
func (s *session) judge(stage policy.Stage) error {
	v, err := s.by.Engine.Decide(&s.ev, stage, s.now)
	s.observe(stage)
	if err != nil {
		s.server.warn("deciding failed; answering on_error", err, "session", s.ev.Session, "stage", stage)
	}
	if err := s.delay(v.Delay); err != nil {
		return err // the MTA has gone: nothing goes out
	}
	refused := s.due && v.RefusesAt(stage)
	if refused {
		s.by.Engine.Refuse(&s.ev, v, s.now)
	}
	s.conclude(stage, refused)
	return s.answer(stage, &v)
}

// observe notes how long the frame in hand took until now.
func (s *session) observe(stage policy.Stage) {
	s.server.Stats.Latency[stage].observe(time.Since(s.link.came))
}

// conclude keeps the message's books after a stage's verdict.
func (s *session) conclude(stage policy.Stage, refused bool) {
	switch stage {
	case policy.Mail:
		if refused {
			s.closeMessage()
		}
	case policy.Rcpt:
		if !refused {
			s.msg.passed++
		}
	case policy.Data, policy.EOH:
		// Refused is an outcome. Postfix keeps the transaction open and its
		// client may try again, so the message stays open.
		s.msg.owed = s.msg.owed && !refused
	case policy.EOM:
		s.msg.owed = false
		if !refused {
			s.by.Engine.Count(&s.ev, policy.Accepted, s.now)
		}
	}
}

// delay waits before an answer that the MTA waits for. Above the bound of
// those waiting at one time there is no wait.
func (s *session) delay(d time.Duration) error {
	if d <= 0 || !s.due {
		return nil
	}
	stats, most := &s.server.Stats, s.server.inForce.Load().MaxDelayed
	if stats.Delayed.Add(1) > int64(most) {
		stats.Delayed.Add(-1)
		stats.Undelayed.Add(1)
		s.server.warn("max_delayed answers are waiting; answering without delay", nil, "max_delayed", most)
		return nil
	}
	defer stats.Delayed.Add(-1)
	stats.Delays.Add(1)
	err := s.link.pause(min(d, policy.MaxDelay))
	s.now, s.mark = s.server.at(s.link.came), 0 // time has passed, and earlier answers are sent
	return err
}

// answerOnError answers for a daemon that failed at the frame in hand.
func (s *session) answerOnError() {
	if v := s.server.inForce.Load().Engine.Failure(); v.Refuses() {
		s.send(wire.ActReplyCode, replyData(v.Reply))
	}
	s.goOn()
}

// goOn answers that the dialogue goes on, where an answer is due.
func (s *session) goOn() error { return s.send(wire.ActContinue, "") }

// answer writes the verdict as the stage allows it: before eom, accept means
// continue, since the MTA would show no more of a message that it was told to
// accept; discard and quarantine come out at eom.
func (s *session) answer(stage policy.Stage, v *policy.Verdict) error {
	switch v.Action {
	case policy.Tempfail, policy.Reject, policy.Disconnect:
		return s.send(wire.ActReplyCode, replyData(v.Reply))
	}
	if stage != policy.EOM {
		return s.goOn()
	}
	switch v.Action {
	case policy.Discard:
		return s.send(wire.ActDiscard, "")
	case policy.Quarantine:
		s.quarantine(v.Reason)
	}
	s.replaceHeaders(v.Headers)
	if v.Action == policy.Accept {
		return s.send(wire.ActAccept, "")
	}
	return s.goOn()
}

// maxPending bounds the answers that wait to be sent together, in bytes.
const maxPending = 16 << 10

// send writes the answer to the frame in hand, if the MTA waits for one.
func (s *session) send(code wire.ActionCode, data string) error {
	if !s.due {
		return nil
	}
	s.due = false
	s.link.out = appendFrame(s.link.out, byte(code), data)
	if len(s.link.out) > maxPending {
		return s.link.flush()
	}
	return nil
}

// modify writes a change to the message, ahead of the answer at eom.
func (s *session) modify(code wire.ModifyActCode, parts ...string) {
	s.link.out = appendFrame(s.link.out, byte(code), parts...)
	if len(s.link.out) > maxPending {
		s.link.flush() // the answer's own will tell an error
	}
}

func (s *session) quarantine(reason string) {
	if s.agreed.actions&wire.OptQuarantine != 0 {
		s.modify(wire.ActQuarantine, printable(reason, maxHeader), "\x00")
	}
}

// maxHeader bounds a text that goes into the message, in bytes; RFC 5322 wants
// lines below 998.
const maxHeader = 900

// replaceHeaders puts headers at the top of the message, the first one
// topmost, and removes those of the same names that came with it.
func (s *session) replaceHeaders(headers []policy.HeaderField) {
	if s.agreed.actions&wire.OptAddHeader == 0 {
		return
	}
	for _, h := range headers {
		s.removeReceived(h.Name)
	}
	for i := len(headers) - 1; i >= 0; i-- {
		h := headers[i]
		s.modify(wire.ActInsertHeader, index(0), h.Name, "\x00", printable(h.Value, maxHeader), "\x00")
	}
}

// removeReceived removes every header of that name that came with the message,
// the last first, so that the numbers of the others stay as they are.
func (s *session) removeReceived(name string) {
	if s.agreed.actions&wire.OptChangeHeader == 0 {
		return
	}
	for i, replaced := range s.by.wants.uses.Replaced {
		if replaced != name {
			continue
		}
		for ; s.msg.received[i] > 0; s.msg.received[i]-- {
			s.modify(wire.ActChangeHeader, index(s.msg.received[i]), name, "\x00\x00")
		}
	}
}

// index is a header's number on the wire.
func index(n int) string { return string(binary.BigEndian.AppendUint32(nil, uint32(n))) }

package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	gomilter "github.com/emersion/go-milter"

	"github.com/audit-milter/audit-milter/milter"
	"github.com/audit-milter/audit-milter/policy"
)

// player is the MTA's side of one milter session, over go-milter's Client. It
// goes on as an MTA would: a refused recipient does not end the message, a
// refused MAIL does, a refused connection ends it all.
type player struct {
	dialogue
	out     io.Writer
	conn    net.Conn // the session's own, for the DATA command that the Client lacks
	session *gomilter.ClientSession
	refused bool // something was
}

// answerTime bounds the wait for an answer: the longest delay and more.
const answerTime = 15 * time.Second

// Dial makes the player the Client's dialer, so that it has the connection.
func (p *player) Dial(network, address string) (conn net.Conn, err error) {
	p.conn, err = net.DialTimeout(network, address, answerTime)
	return p.conn, err
}

func dialMilter(out io.Writer, addr milter.Listen, d dialogue) (*player, error) {
	p := &player{dialogue: d, out: out}
	client := gomilter.NewClientWithOptions(addr.Network, addr.Address, gomilter.ClientOptions{
		Dialer:       p,
		ReadTimeout:  answerTime,
		WriteTimeout: answerTime,
		ActionMask:   0x1ff,    // what both MTAs offer
		ProtocolMask: 0x1fffff, // the same
	})
	session, err := client.Session()
	if err != nil {
		return nil, fmt.Errorf("there is no milter at %s: %w", addr, err)
	}
	p.session = session
	return p, nil
}

func (p *player) close() { p.session.Close() }

// play walks through the stages until one of them ends the dialogue.
func (p *player) play() error {
	for _, step := range []func() (bool, error){p.connect, p.helo, p.mail, p.recipients, p.data, p.content} {
		if goesOn, err := step(); err != nil || !goesOn {
			return err
		}
	}
	return nil
}

func (p *player) connect() (bool, error) {
	family, name := gomilter.FamilyInet, p.name
	if p.client.Is6() {
		family = gomilter.FamilyInet6
	}
	if name == "" {
		name = "[" + p.client.String() + "]"
	}
	if err := p.sendMacros(gomilter.CodeConn, "{client_addr}", p.client.String(), "{client_ptr}", p.ptr()); err != nil {
		return false, err
	}
	act, err := p.session.Conn(name, family, 25, p.client.String())
	return p.show("connect", p.client.String(), gomilter.OptNoConnect, gomilter.OptNoConnReply, act, err)
}

// ptr is the name that the client's address leads to.
func (p *player) ptr() string {
	if p.name == "" {
		return "unknown"
	}
	return p.name
}

func (p *player) helo() (bool, error) {
	if err := p.sendMacros(gomilter.CodeHelo); err != nil {
		return false, err
	}
	act, err := p.session.Helo(p.heloName)
	return p.show("helo", p.heloName, gomilter.OptNoHelo, gomilter.OptNoHeloReply, act, err)
}

func (p *player) mail() (bool, error) {
	kv := []string{"{mail_addr}", p.from}
	if p.user != "" {
		kv = append(kv, "{auth_type}", "PLAIN", "{auth_authen}", p.user)
	}
	if err := p.sendMacros(gomilter.CodeMail, kv...); err != nil {
		return false, err
	}
	var args []string
	if p.size > 0 {
		args = append(args, fmt.Sprintf("SIZE=%d", p.size))
	}
	act, err := p.session.Mail(p.from, args)
	return p.show("mail", "<"+p.from+">", gomilter.OptNoMailFrom, gomilter.OptNoMailReply, act, err)
}

// recipients plays those that the MTA refuses first; the message goes on when
// one of the others passes.
func (p *player) recipients() (bool, error) {
	if len(p.refusedTo)+len(p.to) == 0 {
		p.print("rcpt", "", "no recipient, so the dialogue ends here; --to gives one")
	}
	for _, r := range p.refusedTo {
		if err := p.refusedRecipient(r); err != nil {
			return false, err
		}
	}
	passed := false
	for _, to := range p.to {
		if err := p.sendMacros(gomilter.CodeRcpt, "{rcpt_addr}", to); err != nil {
			return false, err
		}
		act, err := p.session.Rcpt(to, nil)
		ok, err := p.show("rcpt", "<"+to+">", gomilter.OptNoRcptTo, gomilter.OptNoRcptReply, act, err)
		if err != nil {
			return false, err
		}
		passed = passed || ok
	}
	return passed, nil
}

func (p *player) refusedRecipient(r refusedRecipient) error {
	if !p.session.ProtocolOption(gomilter.OptRcptRej) {
		p.print("rcpt", "<"+r.address+">", "not asked for: refused by the MTA")
		return nil
	}
	if err := p.sendMacros(gomilter.CodeRcpt, "{rcpt_mailer}", "error", "{rcpt_host}", r.status, "{rcpt_addr}", "refused by the MTA"); err != nil {
		return err
	}
	_, err := p.session.Rcpt(r.address, nil)
	if err != nil {
		return fmt.Errorf("at rcpt: %w", err)
	}
	p.print("rcpt_refused", "<"+r.address+">", "told: refused by the MTA with "+r.status)
	return nil
}

// data speaks the one command that the Client lacks.
func (p *player) data() (bool, error) {
	act := &gomilter.Action{Code: gomilter.ActContinue}
	if !p.session.ProtocolOption(gomilter.OptNoData) {
		if err := p.sendMacros(gomilter.CodeData); err != nil {
			return false, err
		}
		if err := p.writeFrame(gomilter.CodeData); err != nil {
			return false, fmt.Errorf("at data: %w", err)
		}
	}
	if !p.session.ProtocolOption(gomilter.OptNoData) && !p.session.ProtocolOption(gomilter.OptNoDataReply) {
		var err error
		if act, err = p.readAction(); err != nil {
			return false, fmt.Errorf("at data: %w", err)
		}
	}
	return p.show("data", "", gomilter.OptNoData, gomilter.OptNoDataReply, act, nil)
}

// content plays the header, an empty body and the end of the message.
func (p *player) content() (bool, error) {
	for _, h := range p.headers {
		if _, err := p.session.HeaderField(h.name, h.value); err != nil {
			return false, fmt.Errorf("at a header: %w", err)
		}
	}
	act, err := p.session.HeaderEnd()
	if goesOn, err := p.show("eoh", "", gomilter.OptNoEOH, gomilter.OptNoEOHReply, act, err); err != nil || !goesOn {
		return false, err
	}
	if err := p.sendMacros(gomilter.CodeEOB); err != nil {
		return false, err
	}
	changes, act, err := p.session.End()
	if err != nil {
		return false, fmt.Errorf("at eom: %w", err)
	}
	for _, c := range changes {
		p.print("eom", "", change(c))
	}
	return p.show("eom", "", 0, 0, act, nil)
}

// change is a change of the message in words. The one change that audit-milter
// makes of a header is to nothing, which removes it.
func change(c gomilter.ModifyAction) string {
	switch c.Code {
	case gomilter.ActQuarantine:
		return "quarantine: " + c.Reason
	case gomilter.ActInsertHeader:
		return fmt.Sprintf("header %s: %s", c.HeaderName, strings.TrimSpace(c.HeaderValue))
	case gomilter.ActChangeHeader:
		return fmt.Sprintf("remove header %s (number %d)", c.HeaderName, c.HeaderIndex)
	}
	return fmt.Sprintf("a change of unknown code %q", c.Code)
}

// show prints an answer and reports whether the dialogue goes on.
func (p *player) show(stage, what string, off, unanswered gomilter.OptProtocol, act *gomilter.Action, err error) (bool, error) {
	if err != nil {
		return false, fmt.Errorf("at %s: %w", stage, err)
	}
	switch {
	case p.session.ProtocolOption(off):
		p.print(stage, what, "not asked for")
	case p.session.ProtocolOption(unanswered):
		p.print(stage, what, "shown, no answer is waited for")
	default:
		p.print(stage, what, answer(act))
	}
	switch act.Code {
	case gomilter.ActContinue, gomilter.ActAccept:
		return true, nil
	}
	p.refused = true
	return false, nil
}

// answer is an action in the configuration's words.
func answer(a *gomilter.Action) string {
	switch a.Code {
	case gomilter.ActContinue:
		return "continue"
	case gomilter.ActAccept:
		return "accept"
	case gomilter.ActDiscard:
		return "discard"
	case gomilter.ActReject:
		return "reject"
	case gomilter.ActTempFail:
		return "tempfail"
	case gomilter.ActReplyCode:
		return fmt.Sprintf("%d %s", a.SMTPCode, strings.ReplaceAll(a.SMTPText, "%%", "%"))
	}
	return fmt.Sprintf("an answer of unknown code %q", a.Code)
}

func (p *player) print(stage, what, says string) {
	fmt.Fprintf(p.out, "%-12s  %-36s  %s\n", stage, what, policy.Printable(says))
}

// sendMacros sends a command's macros and those of the command line.
func (p *player) sendMacros(code gomilter.Code, kv ...string) error {
	if err := p.session.Macros(code, append(kv, p.macros...)...); err != nil {
		return fmt.Errorf("sending macros: %w", err)
	}
	return nil
}

func (p *player) writeFrame(code gomilter.Code) error {
	if err := p.conn.SetWriteDeadline(time.Now().Add(answerTime)); err != nil {
		return err
	}
	_, err := p.conn.Write([]byte{0, 0, 0, 1, byte(code)})
	return err
}

func (p *player) readAction() (*gomilter.Action, error) {
	if err := p.conn.SetReadDeadline(time.Now().Add(answerTime)); err != nil {
		return nil, err
	}
	var head [4]byte
	if _, err := io.ReadFull(p.conn, head[:]); err != nil {
		return nil, err
	}
	length := binary.BigEndian.Uint32(head[:])
	if length == 0 || length > 65536 {
		return nil, fmt.Errorf("a frame of %d bytes", length)
	}
	frame := make([]byte, length)
	if _, err := io.ReadFull(p.conn, frame); err != nil {
		return nil, err
	}
	act := &gomilter.Action{Code: gomilter.ActionCode(frame[0])}
	if act.Code == gomilter.ActReplyCode {
		code, text, _ := strings.Cut(strings.TrimRight(string(frame[1:]), "\x00"), " ")
		if _, err := fmt.Sscan(code, &act.SMTPCode); err != nil {
			return nil, fmt.Errorf("a malformed reply %q", frame[1:])
		}
		act.SMTPText = text
	}
	return act, nil
}

package notify

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"mime"
	"net"
	"net/textproto"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/emersion/go-message/mail"

	"github.com/audit-milter/audit-milter/policy"
)

// Mail writes to one address by an SMTP server.
type Mail struct {
	To       string // name@domain
	From     string // in the header; "": audit-milter at the node's name
	Server   string // host:port
	StartTLS StartTLS
}

// StartTLS says when the connection is encrypted. The server's certificate is
// then verified for the host that was named.
type StartTLS uint8

// The values of starttls.
const (
	TLSNever StartTLS = iota
	TLSOffered
	TLSRequired
)

var tlsNames = [...]string{"never", "offered", "required"}

// ParseStartTLS understands what starttls may say.
func ParseStartTLS(name string) (StartTLS, bool) {
	for s, known := range tlsNames {
		if known == name {
			return StartTLS(s), true
		}
	}
	return 0, false
}

// StartTLSNames lists what starttls may say.
func StartTLSNames() []string { return tlsNames[:] }

func (m *Mail) String() string {
	return fmt.Sprintf("mail to %s by %s, starttls %s", m.To, m.Server, tlsNames[m.StartTLS])
}

// from is the header's sender. The envelope's is the null sender: a bounce of a
// notification would be of no use, and could come back as one.
func (m *Mail) from(n *notice) string { return cmp.Or(m.From, "audit-milter@"+n.Node) }

func (m *Mail) send(ctx context.Context, n *notice) error {
	message, err := m.compose(n)
	if err != nil {
		return permanentError{err}
	}
	err = m.submit(ctx, n.Node, message)
	if err == nil {
		return nil
	}
	answer, ok := errors.AsType[*textproto.Error](err)
	if !ok {
		return unanswered(ctx, err)
	}
	err = fmt.Errorf("the SMTP server answers %d %s", answer.Code, said(answer.Msg))
	if answer.Code/100 == 5 {
		return permanentError{err}
	}
	return err
}

func (m *Mail) submit(ctx context.Context, node string, message []byte) error {
	until := time.Now().Add(attemptTime)
	conn, err := (&net.Dialer{Deadline: until}).DialContext(ctx, "tcp", m.Server)
	if err != nil {
		return slow(err, attemptTime)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	return m.talk(conn, until, node, message)
}

// slow says of a deadline that is over what it was.
func slow(err error, limit time.Duration) error {
	if e, ok := errors.AsType[net.Error](err); ok && e.Timeout() {
		return errSlow(limit)
	}
	return err
}

// takeTime is how long a server may take for what it has all of (RFC 5321, 4.5.3.2.6):
// many scan it first, and get it twice if they are not waited for.
const takeTime = 10 * time.Minute

// talk speaks one SMTP dialogue, in which the server has all until then.
func (m *Mail) talk(conn net.Conn, until time.Time, node string, message []byte) error {
	_ = conn.SetDeadline(until)
	c, err := m.greet(conn, node)
	if err == nil {
		err = m.hand(c, message)
	}
	if err != nil {
		return slow(err, attemptTime)
	}
	_ = conn.SetDeadline(time.Now().Add(takeTime))
	if _, _, err := c.ReadResponse(250); err != nil {
		return slow(err, takeTime)
	}
	_ = c.PrintfLine("QUIT") // whatever the answer, the message is theirs
	_ = c.Close()
	return nil
}

// maxHeard is how much an SMTP server may say in one dialogue, in bytes: a
// certificate's chain and some lines are far less.
const maxHeard = 256 << 10

var errTalkative = fmt.Errorf("the SMTP server says more than %d KiB", maxHeard>>10)

// hearing is a connection of which no more is read than that: a line is kept
// until it ends.
type hearing struct {
	net.Conn
	left int
}

func (h *hearing) Read(p []byte) (int, error) {
	if h.left == 0 {
		return 0, errTalkative
	}
	n, err := h.Conn.Read(p[:min(len(p), h.left)])
	h.left -= n
	return n, err
}

// ask gives a command, and is what the server answers to it.
func ask(c *textproto.Conn, want int, command string) (answer string, err error) {
	if err := c.PrintfLine("%s", command); err != nil {
		return "", err
	}
	_, answer, err = c.ReadResponse(want)
	return answer, err
}

// greet says hello, encrypted as configured. Nothing that was said before the
// encryption is heard behind it.
func (m *Mail) greet(conn net.Conn, node string) (*textproto.Conn, error) {
	host, _, err := net.SplitHostPort(m.Server)
	if err != nil {
		return nil, err
	}
	conn = &hearing{conn, maxHeard}
	c := textproto.NewConn(conn)
	if _, _, err := c.ReadResponse(220); err != nil {
		return nil, err
	}
	offered, err := hello(c, node)
	switch {
	case err != nil:
		return nil, err
	case m.StartTLS == TLSNever, m.StartTLS == TLSOffered && !offered:
		return c, nil
	case !offered:
		return nil, errors.New("the SMTP server offers no STARTTLS, which starttls: required asks for")
	}
	if _, err := ask(c, 220, "STARTTLS"); err != nil {
		return nil, err
	}
	c = textproto.NewConn(tls.Client(conn, &tls.Config{ServerName: host}))
	_, err = hello(c, node)
	if _, wrong := errors.AsType[*tls.CertificateVerificationError](err); wrong {
		err = fmt.Errorf("%w; smtp must name the server as a certificate does that this system trusts, or write starttls: never", err)
	}
	return c, err
}

// hello names this host, and tells whether the server offers STARTTLS. One that
// knows no EHLO is asked by HELO; one that hangs up then has said why before.
func hello(c *textproto.Conn, node string) (offered bool, err error) {
	answer, err := ask(c, 250, "EHLO "+node)
	if err != nil {
		_, older := ask(c, 250, "HELO "+node)
		if _, answered := errors.AsType[*textproto.Error](older); older == nil || answered {
			err = older
		}
		return false, err
	}
	for line := range strings.SplitSeq(answer, "\n") {
		keyword, _, _ := strings.Cut(line, " ")
		offered = offered || strings.EqualFold(keyword, "STARTTLS")
	}
	return offered, nil
}

// hand hands the message over, up to its end. It asks for no extension: then the
// next server would have to have it, too.
func (m *Mail) hand(c *textproto.Conn, message []byte) error {
	if _, err := ask(c, 250, "MAIL FROM:<>"); err != nil {
		return err
	}
	if _, err := ask(c, 25, "RCPT TO:<"+m.To+">"); err != nil { // 250 or 251
		return err
	}
	if _, err := ask(c, 354, "DATA"); err != nil {
		return err
	}
	body := c.DotWriter()
	if _, err := body.Write(message); err != nil {
		return err
	}
	return body.Close()
}

// compose writes the message. Its id stays the same when it is sent again, so
// that a mail server can see that it is.
func (m *Mail) compose(n *notice) ([]byte, error) {
	var h mail.Header
	h.SetDate(n.at)
	h.SetAddressList("From", []*mail.Address{{Name: "audit-milter", Address: m.from(n)}})
	h.SetAddressList("To", []*mail.Address{{Address: m.To}})
	h.Set("Subject", encoded("[audit-milter] "+n.headline(n.Key)))
	h.Set("Auto-Submitted", "auto-generated")
	h.SetContentType("text/plain", map[string]string{"charset": "utf-8"})
	if n.id == "" {
		if err := h.GenerateMessageIDWithHostname(n.Node); err != nil {
			return nil, err
		}
		n.id, _ = h.MessageID()
	}
	h.SetMessageID(n.id)
	var message bytes.Buffer
	w, err := mail.CreateSingleInlineWriter(&message, h)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write([]byte(n.mailText())); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return message.Bytes(), nil
}

// encoded is a text as the value of a header. A reader decodes all that looks like
// an encoded word, also what a client wrote so: then the text is encoded as a whole.
func encoded(text string) string {
	if !strings.Contains(text, "=?") {
		return mime.QEncoding.Encode("utf-8", text)
	}
	var words []string
	for part := range slices.Chunk([]rune(text), 11) { // a word has 75 bytes at most (RFC 2047)
		words = append(words, "=?utf-8?b?"+base64.StdEncoding.EncodeToString([]byte(string(part)))+"?=")
	}
	return strings.Join(words, " ")
}

// mailText tells all of it in lines.
func (n *notice) mailText() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s.\n", n.headline(n.Key))
	if n.why != "" {
		fmt.Fprintf(&b, "%s.\n", n.why)
	}
	for _, sentence := range n.untold() {
		fmt.Fprintf(&b, "%s.\n", sentence)
	}
	b.WriteString("\n")
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, line := range n.lines() {
		if line[1] != "" {
			fmt.Fprintf(w, "%s:\t%s\n", line[0], line[1])
		}
	}
	w.Flush()
	fmt.Fprintf(&b, "\nTo look deeper, on %s:\n\n    audit-milter explain %s\n", n.Node, shellWord(n.Key))
	return b.String()
}

// lines are the facts, for people.
func (n *notice) lines() [][2]string {
	lines := [][2]string{
		{"verdict", n.Verdict + " at " + n.Stage},
		{"reply", n.Reply},
		{"key", n.Key},
	}
	if m := n.measure; m != nil {
		lines = append(lines,
			[2]string{"series", m.Series},
			[2]string{"windows", m.Windows},
			[2]string{"count", fmt.Sprint(m.Count)},
			[2]string{"threshold", fmt.Sprint(m.Threshold)},
			[2]string{"clears", "in " + policy.DurationText(time.Duration(m.RetryAfter)*time.Second) + ", if nothing more comes"})
	}
	return append(lines,
		[2]string{"client", n.Client},
		[2]string{"sender", n.Sender},
		[2]string{"recipient", n.Recipient},
		[2]string{"session", n.Session},
		[2]string{"queue id", n.QueueID},
		[2]string{"time", n.at.Format(time.RFC1123Z)})
}

// shellWord is a text as a shell takes it for one word, and the command behind
// it not for a flag.
func shellWord(text string) string {
	word := "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
	if strings.HasPrefix(text, "-") {
		return "-- " + word
	}
	return word
}

package integration

import (
	"bufio"
	"bytes"
	"net"
	"net/mail"
	"net/textproto"
	"regexp"
	"strings"
)

// sink takes, by LMTP, whatever a mail server delivers, and keeps it.
type sink struct {
	listener net.Listener
	mail     *feed[*delivery]
}

// delivery is one message as it left the mail server.
type delivery struct {
	recipients []string
	header     mail.Header
	fields     []string // the names of its header, from the top
	body       string
}

const sinkAddress = "127.0.0.1:24"

func openSink() (*sink, error) {
	l, err := net.Listen("tcp", sinkAddress)
	if err != nil {
		return nil, err
	}
	s := &sink{l, newFeed[*delivery]()}
	go s.serve()
	return s, nil
}

func (s *sink) serve() {
	for {
		conn, err := s.listener.Accept()
		if err != nil {
			return
		}
		go s.session(textproto.NewConn(conn))
	}
}

// session is as much of RFC 2033 as the two mail servers use.
func (s *sink) session(c *textproto.Conn) {
	defer c.Close()
	var recipients []string
	c.PrintfLine("220 sink LMTP")
	for {
		line, err := c.ReadLine()
		if err != nil {
			return
		}
		switch verb, arg, _ := strings.Cut(line, " "); strings.ToUpper(verb) {
		case "LHLO":
			c.PrintfLine("250-sink\r\n250-8BITMIME\r\n250 ENHANCEDSTATUSCODES")
		case "RCPT":
			recipients = append(recipients, arg)
			c.PrintfLine("250 2.1.5 ok")
		case "DATA":
			c.PrintfLine("354 go on")
			if !s.take(c, recipients) {
				return
			}
			recipients = nil
		case "QUIT":
			c.PrintfLine("221 2.0.0 bye")
			return
		default:
			c.PrintfLine("250 2.0.0 ok")
		}
	}
}

// take reads one message and answers for each of its recipients.
func (s *sink) take(c *textproto.Conn, recipients []string) bool {
	text, err := c.ReadDotBytes()
	if err != nil {
		return false
	}
	d := &delivery{recipients: recipients}
	if msg, err := mail.ReadMessage(bytes.NewReader(text)); err == nil {
		d.header, d.fields = msg.Header, fieldNames(text)
		body, _ := bufio.NewReader(msg.Body).ReadString(0)
		d.body = body
	}
	s.mail.add(d)
	for range recipients {
		c.PrintfLine("250 2.0.0 delivered")
	}
	return true
}

var fieldName = regexp.MustCompile(`^([!-9;-~]+):`)

// fieldNames are the names of the fields of a message's header, in order.
func fieldNames(message []byte) (names []string) {
	for line := range bytes.Lines(message) {
		if len(bytes.TrimSpace(line)) == 0 {
			break
		}
		if name := fieldName.FindSubmatch(line); name != nil {
			names = append(names, textproto.CanonicalMIMEHeaderKey(string(name[1])))
		}
	}
	return names
}

// await returns the message that a mail server queued under id: the server
// that was asked writes the topmost Received field.
func (s *sink) await(id string) (*delivery, error) {
	return s.mail.await("the delivery of "+id, func(d *delivery) bool {
		received := d.header["Received"]
		return len(received) > 0 && strings.Contains(received[0], id)
	})
}

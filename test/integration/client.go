package integration

import (
	"bufio"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// client is an SMTP client that says what it is told to, right or wrong.
type client struct {
	conn    net.Conn
	reader  *bufio.Reader
	replies []string
	sent    time.Time     // when the client said its last line, or connected
	waited  time.Duration // from then to the last reply
	queued  string        // id under which the server took the last message
}

// dial connects from the address to the server's port of a service.
func dial(m *mta, service string, from netip.Addr) (*client, error) {
	port, ok := services[service]
	if !ok {
		return nil, fmt.Errorf("no service %q; there are %v", service, slices.Sorted(maps.Keys(services)))
	}
	server := m.IPv4
	if from.Is6() {
		server = m.IPv6
	}
	dialer := net.Dialer{
		LocalAddr: &net.TCPAddr{IP: from.AsSlice()},
		Timeout:   patience,
	}
	began := time.Now()
	conn, err := dialer.Dial("tcp", net.JoinHostPort(server, port))
	if err != nil {
		return nil, err
	}
	c := &client{conn: conn, reader: bufio.NewReader(conn), sent: began}
	if service == "submissions" {
		err = c.secure()
	}
	return c, err
}

// services are the ports of both servers. README.md says which milters each
// has.
var services = map[string]string{
	"smtp": "25", "chain": "26", "chain-front": "27", "submissions": "465", "submission": "587", "reinjection": "10025",
	"version2": "2502", "version3": "2503", "version4": "2504",
	"proxied": "2525", "haproxy": "2526",
}

// send writes all lines at once, as a client does that pipelines.
func (c *client) send(lines []string) error {
	c.sent = time.Now() // before the server can begin to answer
	c.conn.SetWriteDeadline(c.sent.Add(patience))
	_, err := c.conn.Write([]byte(strings.Join(lines, "\r\n") + "\r\n"))
	return err
}

// reply reads one reply, all its lines.
func (c *client) reply() (string, error) {
	c.conn.SetReadDeadline(time.Now().Add(patience))
	var reply strings.Builder
	defer func() { c.waited = time.Since(c.sent) }()
	for {
		line, err := c.reader.ReadString('\n')
		if err != nil {
			return reply.String(), err
		}
		line = strings.TrimRight(line, "\r\n")
		reply.WriteString(line)
		if len(line) < 4 || line[3] != '-' {
			break
		}
		reply.WriteByte('\n')
	}
	c.replies = append(c.replies, reply.String())
	if id, ok := queueID(reply.String()); ok {
		c.queued = id
	}
	return reply.String(), nil
}

// queueID finds the id in "250 2.0.0 Ok: queued as ID" and in "250 2.0.0 ID
// Message accepted for delivery".
func queueID(reply string) (string, bool) {
	words := strings.Fields(reply)
	switch {
	case strings.Contains(reply, "queued as"):
		return words[len(words)-1], true
	case strings.Contains(reply, "Message accepted for delivery"):
		return words[2], true
	}
	return "", false
}

// closed waits for the server to close the connection.
func (c *client) closed() error {
	c.conn.SetReadDeadline(time.Now().Add(patience))
	if line, err := c.reader.ReadString('\n'); err == nil {
		return fmt.Errorf("the server is still there and said %q", strings.TrimSpace(line))
	} else if e, ok := err.(net.Error); ok && e.Timeout() {
		return fmt.Errorf("the server did not close the connection within %v", patience)
	}
	return nil
}

// starttls asks the server to secure the connection.
func (c *client) starttls() error {
	if err := c.send([]string{"STARTTLS"}); err != nil {
		return err
	}
	if reply, err := c.reply(); err != nil || !strings.HasPrefix(reply, "220") {
		return fmt.Errorf("STARTTLS was answered %q (%v)", reply, err)
	}
	return c.secure()
}

// secure begins TLS. Whose certificate it is does not matter.
func (c *client) secure() error {
	secured := tls.Client(c.conn, &tls.Config{InsecureSkipVerify: true})
	if err := secured.Handshake(); err != nil {
		return err
	}
	c.conn, c.reader = secured, bufio.NewReader(secured)
	return nil
}

// auth logs in with the mechanism PLAIN.
func (c *client) auth(user, password string) error {
	plain := base64.StdEncoding.EncodeToString([]byte("\x00" + user + "\x00" + password))
	return c.send([]string{"AUTH PLAIN " + plain})
}

// drop disappears without a word.
func (c *client) drop() error { return c.conn.Close() }

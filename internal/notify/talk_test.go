package notify

import (
	"net"
	"net/textproto"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// pausing is an SMTP server that lets time pass before each answer to one command,
// or to the end of the message, "."; "" is the greeting.
type pausing struct {
	at   string
	time time.Duration
}

func (p pausing) serve(conn net.Conn) {
	c := textproto.NewConn(conn)
	answer := func(to, text string) {
		if to == p.at {
			time.Sleep(p.time)
		}
		c.PrintfLine("%s", text)
	}
	answer("", "220 mx.example.com")
	for line, err := c.ReadLine(); err == nil; line, err = c.ReadLine() {
		command, _, _ := strings.Cut(line, " ")
		if command != "DATA" {
			answer(command, "250 fine")
			continue
		}
		answer(command, "354 go on")
		if _, err := c.ReadDotBytes(); err == nil {
			answer(".", "250 taken")
		}
	}
}

// A mail server that has all of a message may scan it before it says so. If it were
// not waited for it would get the message again and again.
func TestHowLongAnSMTPServerIsWaitedFor(t *testing.T) {
	for _, row := range []struct {
		what  string
		pause pausing
		ends  time.Duration
		taken bool
	}{
		{"who does not greet", pausing{"", time.Hour}, 30 * time.Second, false},
		{"who does not answer", pausing{"RCPT", time.Hour}, 30 * time.Second, false},
		{"who does not let the message begin", pausing{"DATA", time.Hour}, 30 * time.Second, false},
		{"who scans the message", pausing{".", 9 * time.Minute}, 9 * time.Minute, true},
		{"who never takes it", pausing{".", time.Hour}, 10 * time.Minute, false},
		{"who does not say goodbye", pausing{"QUIT", time.Hour}, 0, true},
	} {
		synctest.Test(t, func(t *testing.T) {
			here, there := net.Pipe()
			var server sync.WaitGroup
			server.Go(func() { row.pause.serve(there) })
			begin := time.Now()
			err := (&Mail{To: "postmaster@example.com", Server: "mx.example.com:25"}).talk(here, begin.Add(attemptTime), "mx1.example.com", []byte("Subject: x\r\n\r\nx\r\n"))
			if after := time.Since(begin); after != row.ends || (err == nil) != row.taken {
				t.Errorf("%s: %v after %v, want it taken %v after %v", row.what, err, after, row.taken, row.ends)
			}
			here.Close()
			server.Wait()
		})
	}
}

package milter_test

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/audit-milter/audit-milter/milter"
)

func TestTimeouts(t *testing.T) {
	negotiated := string(fromMTA(t, "O 6 0x1ff 0x1fffff"))
	short := milter.Timeouts{Negotiate: 5 * time.Second, Frame: 7 * time.Second, Write: 9 * time.Second, Idle: time.Minute}
	for _, row := range []struct {
		name     string
		first    string // in raw bytes
		timeouts milter.Timeouts
		closed   time.Duration
	}{
		{"nothing comes", "", milter.Timeouts{}, 30 * time.Second},
		{"half a negotiation comes", "\x00\x00", milter.Timeouts{}, 30 * time.Second},
		{"an MTA that has negotiated is gone", negotiated, milter.Timeouts{}, 130 * time.Minute},
		{"a frame is begun", negotiated + "\x00\x00\x00\x05M", milter.Timeouts{}, 30 * time.Second},
		{"a body is begun", negotiated + "\x00\x00\x00\x05B", milter.Timeouts{}, 30 * time.Second},
		{"nothing comes, the timeout being short", "", short, 5 * time.Second},
		{"a frame is begun, the timeout being short", negotiated + "\x00\x00\x00\x05M", short, 7 * time.Second},
		{"an MTA is gone, the timeout being short", negotiated, short, time.Minute},
	} {
		inPlace(t, everything, func(p *place) {
			m := p.dial()
			m.writeRaw([]byte(row.first))
			time.Sleep(row.closed - time.Nanosecond)
			if m.closed() {
				t.Errorf("%s: closed before %v", row.name, row.closed)
			}
			time.Sleep(time.Nanosecond)
			if !m.closed() {
				t.Errorf("%s: open after %v", row.name, row.closed)
			}
		}, func(s *milter.Terms) { s.Timeouts = row.timeouts })
	}
}

func TestAnActiveSessionOutlivesTheIdleTime(t *testing.T) {
	inPlace(t, everything, func(p *place) {
		m := p.mta()
		for range 10 {
			m.hears(`c`, `H "c·"`)
			time.Sleep(2 * time.Hour)
		}
		if m.closed() {
			t.Error("closed")
		}
	})
}

func TestATrickledFrameIsCutOff(t *testing.T) {
	inPlace(t, everything, func(p *place) {
		m := p.mta()
		for _, b := range fromMTA(t, `H "`+strings.Repeat("x", 100)+`·"`) {
			m.conn.Write([]byte{b})
			time.Sleep(time.Second)
		}
		if !m.closed() {
			t.Error("a frame that takes more than 30 s is still read")
		}
	})
}

func TestAnswersThatNobodyReadsHoldNobodyUp(t *testing.T) {
	inPlace(t, everything, func(p *place) {
		theirs, ours := net.Pipe() // a write blocks until it is read
		p.pipes.conns <- ours
		theirs.Write(fromMTA(t, "O 6 0x1ff 0x1fffff"))
		m := p.mta()
		m.hears(`c`, client, `M "<a@b>·"`)
		m.hears(`c`, `E`)
		time.Sleep(29 * time.Second)
		if n := p.seen.said("the answers are not read"); n > 0 {
			t.Error("given up early")
		}
		time.Sleep(2 * time.Second)
		if _, err := theirs.Write([]byte{0}); err == nil {
			t.Error("the session still waits")
		}
		if p.seen.said("the answers are not read") != 1 {
			t.Errorf("logged %v", *p.seen.messages)
		}
		if n := p.server.Stats.TimedOut.Write.Load(); n != 1 {
			t.Errorf("counted %d times", n)
		}
	})
}

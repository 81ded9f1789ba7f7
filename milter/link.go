package milter

import (
	"errors"
	"net"
	"os"
	"sync/atomic"
	"time"
)

// When the server drains, a link outside a message ends as soon as nothing came
// in two waits in a row: what the MTA had sent before is read, at the latest by
// the second one, however late the first was begun. A link on which the MTA goes
// on and on ends when none of its messages is in progress after the limit.
const (
	drainWait  = 50 * time.Millisecond
	drainLimit = time.Second
)

var (
	errDrained  = errors.New("the server drains")
	errNoFirst  = errors.New("no negotiation came")
	errUnended  = errors.New("a frame was begun and not ended")
	errIdle     = errors.New("nothing came for too long")
	errNoReader = errors.New("the answers are not read")
)

// waiting is what a link waits for.
type waiting uint8

const (
	notArmed waiting = iota
	forFirst
	forFrameEnd
	forNext
	forLast
)

// over is what it means when that is waited for too long.
var over = [...]error{
	forFirst:    errNoFirst,
	forFrameEnd: errUnended,
	forNext:     errIdle,
	forLast:     errDrained,
}

// link is a connection with its deadlines. Answers are collected and sent
// before the next read that may block, so that those to frames which came
// together go out together.
type link struct {
	conn    net.Conn
	closing *atomic.Bool // the server drains
	waits   *Timeouts
	ack     acker
	in      frameReader
	out     []byte // answers not yet sent

	known bool // the other end has negotiated
	busy  bool // a message is in progress: a draining server lets it finish

	agreed atomic.Pointer[pact] // what was negotiated last, for Server.Adopt

	came  time.Time // when something came last
	armed waiting   // what the read deadline in force is for
	heard bool      // something came since it was set
	woken bool      // a deadline has passed since the server began to drain
	quiet int       // waits in a row in which nothing came, since then

	lastCall time.Time // when drainLimit ends
	writeBy  time.Time // the write deadline in force
}

// begin serves a new connection. Buffers stay, but for those that something large
// has made.
func (l *link) begin(conn net.Conn, closing *atomic.Bool, waits *Timeouts) {
	l.in.reset(l)
	out := l.out[:0]
	if cap(out) > smallBuffer {
		out = nil
	}
	*l = link{conn: conn, closing: closing, waits: waits, ack: newAcker(conn), in: l.in, out: out}
}

// next reads the next frame.
func (l *link) next() (frame, error) {
	if l.armed == forFrameEnd {
		l.armed = notArmed // each frame has a time of its own
	}
	return l.in.next()
}

// Read is for the frameReader.
func (l *link) Read(p []byte) (int, error) {
	if l.known && len(l.out) == 0 {
		l.ack.now() // no answer will carry it
	}
	if err := l.flush(); err != nil {
		return 0, err
	}
	for {
		l.arm()
		n, err := l.conn.Read(p)
		switch {
		case n > 0:
			l.came, l.heard = time.Now(), true
			return n, nil
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return 0, err
		}
		if err := l.expired(); err != nil {
			return 0, err
		}
	}
}

func (l *link) waitsFor() waiting {
	switch {
	case l.closing.Load() && !l.busy:
		return forLast
	case l.in.begun():
		return forFrameEnd
	case !l.known:
		return forFirst
	}
	return forNext
}

func (l *link) limit(w waiting) time.Duration {
	switch w {
	case forFirst:
		return l.waits.Negotiate
	case forFrameEnd:
		return l.waits.Frame
	case forNext:
		return l.waits.Idle
	}
	return l.lastWait()
}

func (l *link) lastWait() time.Duration {
	now := time.Now()
	if l.lastCall.IsZero() {
		l.lastCall = now.Add(drainLimit)
	}
	return min(drainWait, l.lastCall.Sub(now))
}

// arm sets the read deadline, unless the one in force is for the same: idle
// links cost nothing per frame, see expired. It looks twice, so that a drain
// which begins meanwhile is either seen here or its wake comes later.
func (l *link) arm() {
	for w := l.waitsFor(); l.armed != w; w = l.waitsFor() {
		l.armed, l.heard = w, false
		l.conn.SetReadDeadline(time.Now().Add(l.limit(w)))
	}
}

// wake ends a blocked read. The server calls it once, from its own goroutine,
// after closing has become true.
func (l *link) wake() { l.conn.SetReadDeadline(time.Unix(1, 0)) }

// expired says whether the passed deadline ends the link. The first one after
// the drain's beginning may be its wake and does not. A link is idle when
// nothing came since the deadline was set, so it ends after between one and
// two times its limit.
func (l *link) expired() error {
	was := l.armed
	l.armed = notArmed
	switch {
	case l.closing.Load() && !l.woken:
		l.woken = true
		return nil
	case was == forNext && l.heard:
		return nil
	case was == forLast && time.Now().Before(l.lastCall):
		return l.silence()
	}
	return over[was]
}

// silence ends a draining link at the second one in a row.
func (l *link) silence() error {
	l.quiet++
	if l.heard {
		l.quiet = 0
	}
	if l.quiet < 2 {
		return nil
	}
	return errDrained
}

// pause holds the answer in hand back for d. It ends early, without an error,
// when the server drains or the MTA sends something; with one when the MTA has
// gone.
func (l *link) pause(d time.Duration) error {
	if err := l.flush(); err != nil {
		return err
	}
	l.armed = notArmed
	l.conn.SetReadDeadline(time.Now().Add(d))
	if l.in.buffered() > 0 || l.closing.Load() {
		return nil
	}
	l.in.makeRoom(1)
	n, err := l.conn.Read(l.in.buf)
	l.came, l.in.end = time.Now(), n
	if n > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
		return nil
	}
	return err
}

// flush sends the collected answers.
func (l *link) flush() error {
	if len(l.out) == 0 {
		return nil
	}
	l.armWrite()
	_, err := l.conn.Write(l.out)
	l.out = l.out[:0]
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return errNoReader
	}
	return err
}

// armWrite gives answers to what came last nine tenths of their time at least,
// and seldom sets a deadline.
func (l *link) armWrite() {
	if limit := l.waits.Write; l.writeBy.Sub(l.came) < limit-limit/10 {
		l.writeBy = l.came.Add(limit)
		l.conn.SetWriteDeadline(l.writeBy)
	}
}

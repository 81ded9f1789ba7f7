package milter

import (
	"cmp"
	"time"
)

// Timeouts are how long an MTA is waited for. A zero is the default's.
type Timeouts struct {
	Negotiate time.Duration // for its first frame
	Frame     time.Duration // for the rest of a frame that it began
	Write     time.Duration // to take answers

	// Idle is at least how long nothing may come between two frames, at most
	// twice as long. That is the SMTP client's time: Sendmail keeps idle
	// clients for an hour, libmilter waits for 7210 s. Less than the MTA's own
	// limit is a "milter failure" for a live client. TCP keepalive, which Go
	// turns on, finds dead hosts sooner.
	Idle time.Duration
}

// DefaultTimeouts are those of a [Server] that says nothing else.
var DefaultTimeouts = Timeouts{
	Negotiate: 30 * time.Second,
	Frame:     30 * time.Second,
	Write:     30 * time.Second,
	Idle:      130 * time.Minute,
}

func (t Timeouts) orDefault() Timeouts {
	return Timeouts{
		Negotiate: cmp.Or(t.Negotiate, DefaultTimeouts.Negotiate),
		Frame:     cmp.Or(t.Frame, DefaultTimeouts.Frame),
		Write:     cmp.Or(t.Write, DefaultTimeouts.Write),
		Idle:      cmp.Or(t.Idle, DefaultTimeouts.Idle),
	}
}

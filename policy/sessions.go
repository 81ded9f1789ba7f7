package policy

import (
	"time"

	"github.com/audit-milter/audit-milter/series"
)

// OpenSessions is the name of the built-in series of the connections that are
// open at present, by client address.
const OpenSessions = "open_sessions"

// openSessions is that series as conditions know it.
var openSessions = &Series{Definition: newOpenSessions().Definition}

// newOpenSessions makes the gauge. It belongs to the daemon: all engines that
// follow one another share it.
func newOpenSessions() *Lasting {
	l := lasting(series.DefineGauge(OpenSessions))
	l.parts.own = &ownCount{l.series, l}
	return l
}

// opened is what a session that is open counts in, and under which key.
type opened struct {
	gauge *series.Series // nil for none
	key   series.Key
}

// enter counts the session as open, by the client that it has now.
func (e *Engine) enter(ev *Event, now time.Time) {
	ev.Leave()
	key := series.AddrKey(ev.ClientAddr)
	if gauge := e.open.series; gauge.Takes(key) {
		gauge.Add(key, 1, now)
		ev.state.open = opened{gauge, key}
	}
}

// Leave ends the event's session for open_sessions, under whatever engine it
// began. It is called once the session has ended, however that came about; calling
// it again does nothing.
func (ev *Event) Leave() {
	if o := ev.state.open; o.gauge != nil {
		ev.state.open = opened{}
		o.gauge.Add(o.key, -1, time.Time{}) // times mean nothing to a gauge
	}
}

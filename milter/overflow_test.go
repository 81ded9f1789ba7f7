package milter_test

import (
	"strings"
	"testing"
	"time"

	"github.com/audit-milter/audit-milter/milter"
)

// crowded is a place in which so many sessions are open, and no more may be.
func crowded(t *testing.T, yaml string, sessions int, test func(p *place, open []*mta)) {
	t.Helper()
	inPlace(t, yaml, func(p *place) {
		var open []*mta
		for range sessions {
			m := p.mta()
			m.write(client)
			open = append(open, m)
		}
		test(p, open)
	}, func(s *milter.Terms) { s.MaxSessions = sessions })
}

func TestAConnectionAboveMaxSessions(t *testing.T) {
	for _, row := range []struct{ onError, want string }{
		{"accept", `a`}, // not continue: the MTA would go on, and take the close for a failure
		{"tempfail", `y "451 4.3.0 temporary failure of the policy service·"`},
	} {
		crowded(t, "on_error: "+row.onError+"\n"+everything, 2, func(p *place, open []*mta) {
			m := p.dial()
			const connectOnly = `v6 setsymlist nohelo nomail norcpt nobody nohdrs noeoh nounknown nodata`
			if got := tellAnswer(t, m.ask("O 6 0x1ff 0x1fffff")); got != connectOnly {
				t.Errorf("negotiated %s, want %s", got, connectOnly)
			}
			m.hears(row.want, `D "C{daemon_name}·mx·"`, client)
			m.hangUp() // as Postfix does
			if got := p.counts(); got != "connected 2" {
				t.Errorf("counted %s", got)
			}
			open[0].hears(`c`, `H "c·"`)
			open[0].hangUp()
			p.mta().hears(`c`, client, `H "c·"`) // there is room again
		})
	}
}

func TestAConnectionAboveMaxSessionsEnds(t *testing.T) {
	for _, row := range []struct {
		name   string
		frames []string
		after  time.Duration
		closed bool
	}{
		{"nothing comes", nil, 29 * time.Second, false},
		{"nothing comes", nil, 31 * time.Second, true},
		{"the client's connect does not come", []string{"O 6 0x1ff 0x1fffff"}, 29 * time.Second, false},
		{"the client's connect does not come", []string{"O 6 0x1ff 0x1fffff"}, 31 * time.Second, true},
		{"the MTA does not close", []string{"O 6 0x1ff 0x1fffff", client}, 31 * time.Second, true},
		{"the MTA says QUIT, as Sendmail does", []string{"O 6 0x1ff 0x1fffff", client, `Q`}, 0, true},
		{"the MTA goes on", []string{"O 6 0x1ff 0x1fffff", client, `H "c·"`}, 0, true},
		{"a command before the negotiation", []string{client}, 0, true},
		{"a version that is not spoken", []string{"O 1 0x1ff 0x1fffff"}, 0, true},
	} {
		crowded(t, everything, 1, func(p *place, _ []*mta) {
			m := p.dial()
			m.write(row.frames...)
			time.Sleep(row.after)
			if got := m.closed(); got != row.closed {
				t.Errorf("%s, after %v: closed %v", row.name, row.after, got)
			}
			if got := p.counts(); got != "connected 1" {
				t.Errorf("%s: counted %s", row.name, got)
			}
			if row.frames != nil && p.seen.said("no negotiation came") > 0 {
				t.Errorf("%s: the log says that no negotiation came", row.name)
			}
		})
	}
}

func TestATrickleAboveMaxSessionsEnds(t *testing.T) {
	crowded(t, everything, 1, func(p *place, _ []*mta) {
		m := p.dial()
		m.write("O 6 0x1ff 0x1fffff")
		for range 31 {
			m.write(`D "C"`)
			time.Sleep(time.Second)
		}
		if !m.closed() {
			t.Error("it goes on")
		}
	})
}

func TestThoseAboveMaxSessionsAreBounded(t *testing.T) {
	crowded(t, everything, 1, func(p *place, open []*mta) {
		var above []*mta
		for range 105 {
			above = append(above, p.dial())
		}
		for i, m := range above {
			if got, want := m.closed(), i >= 100; got != want {
				t.Errorf("connection %d: closed %v, want %v", i+1, got, want)
			}
		}
		open[0].hears(`c`, `H "c·"`)
		time.Sleep(time.Minute) // the hundred have ended
		p.dial()
		for text, want := range map[string]int{
			"max_sessions are open; answering on_error max_sessions=1":                                        2,
			"max_sessions are open; answering on_error max_sessions=1 left_out=99":                            1,
			"max_sessions are open, and as many more are answered on_error as may be; closing max_sessions=1": 1,
		} {
			if got := p.seen.said(text); got != want {
				t.Errorf("%q said %d times, want %d, in\n%s", text, got, want, strings.Join(*p.seen.messages, "\n"))
			}
		}
	})
}

func TestADrainEndsThoseAboveMaxSessions(t *testing.T) {
	crowded(t, everything, 1, func(p *place, open []*mta) {
		open[0].write(`M "<a@b>·"`) // is waited for
		m, late := p.dial(), p.dial()
		late.write("O 6 0x1ff 0x1fffff")
		late.answers()
		go p.close()
		late.hears(`a`, client)
		time.Sleep(time.Second)
		if !m.closed() || !late.closed() || open[0].closed() {
			t.Errorf("closed: %v and %v, want both; the session's %v", m.closed(), late.closed(), open[0].closed())
		}
	})
}

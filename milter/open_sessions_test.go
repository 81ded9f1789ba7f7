package milter_test

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/audit-milter/audit-milter/milter"
	"github.com/audit-milter/audit-milter/policy"
)

// counting makes the MTA wait at connect.
const counting = `
series:
  mailed: {type: string, interval: 1h, windows: 2, add: {at: mail, key: sender}}
  gone:   {type: string, interval: 1h, windows: 2, add: {at: end, key: helo_name}}
rules:
  - {name: many, at: connect, if: {series: open_sessions, above: 20}, then: tempfail, reply: "450 4.7.1 {count} open"}
`

// open is how many addresses have sessions that are open.
func (p *place) open() int {
	synctest.Wait()
	return p.server.InForce().Engine.Counter(policy.OpenSessions).Len()
}

func TestASessionIsGivenBackHoweverItEnds(t *testing.T) {
	for _, row := range []struct {
		name string
		end  func(p *place, m *mta)
	}{
		{"QUIT", func(_ *place, m *mta) { m.write(`Q`) }},
		{"the MTA closes", func(_ *place, m *mta) { m.hangUp() }},
		{"it closes in a message", func(_ *place, m *mta) { m.write(`M "<a@b>·"`, `R "<u@c>·"`); m.hangUp() }},
		{"it closes in a frame", func(_ *place, m *mta) { m.writeRaw([]byte("\x00\x00\x00\x09M<a")); m.hangUp() }},
		{"an abort, then QUIT", func(_ *place, m *mta) { m.write(`M "<a@b>·"`, `A`, `Q`) }},
		{"malformed input", func(_ *place, m *mta) { m.writeRaw([]byte("GET / HTTP/1.0\r\n\r\n")) }},
		{"an unknown command", func(_ *place, m *mta) { m.write(`Z`) }},
		{"connect is said twice", func(_ *place, m *mta) { m.write(client, `Q`) }},
		{"a new client on the connection, which leaves", func(_ *place, m *mta) { m.write(`K`, client, `Q`) }},
		{"a new client that is never told", func(_ *place, m *mta) { m.write(`K`); m.hangUp() }},
		{"a new negotiation", func(_ *place, m *mta) { m.write(negotiated); m.hangUp() }},
		{"a panic", func(_ *place, m *mta) { m.write(`M "<panic@b>·"`) }},
		{"a panic while the end is counted", func(_ *place, m *mta) { m.write(`H "later·"`, `Q`) }},
		{"nothing comes for hours", func(*place, *mta) { time.Sleep(5 * time.Hour) }},
		{"a reload, then QUIT", func(p *place, m *mta) { p.reload(counting); m.write(`Q`) }},
		{"a reload that asks nothing of connect", func(p *place, m *mta) { p.reload(`series: {}`); m.write(`M "<a@b>·"`, `Q`) }},
		{"the server drains", func(p *place, _ *mta) { p.close() }},
		{"the server drains, and the message does not end", func(p *place, m *mta) { m.write(`M "<a@b>·"`); p.close() }},
	} {
		synctest.Test(t, func(t *testing.T) {
			p := &place{t: t, seen: newObserver(), pipes: newPipes()}
			log := slog.New(failsAtEnd{fragile{p.seen, "panic@b"}})
			engine, err := policy.NewEngine(parse(t, counting).Policy, policy.Options{Log: log})
			if err != nil {
				t.Fatal(err)
			}
			p.server = &milter.Server{Log: log}
			p.server.Adopt(milter.Terms{Engine: engine})
			go p.server.Serve(p.pipes, nil)
			m := p.mta()
			m.write(client)
			if n := p.open(); n != 1 {
				t.Errorf("%s: before, %d are open", row.name, n)
			}
			row.end(p, m)
			if n := p.open(); n != 0 {
				t.Errorf("%s: after, %d are open", row.name, n)
			}
			p.close()
		})
	}
}

// failsAtEnd panics where the end of a session with a certain greeting is counted.
type failsAtEnd struct{ fragile }

func (f failsAtEnd) Handle(ctx context.Context, r slog.Record) error {
	var stage, key string
	r.Attrs(func(a slog.Attr) bool {
		switch a.Key {
		case "stage":
			stage = a.Value.String()
		case "key":
			key = a.Value.String()
		}
		return true
	})
	if stage == "end" && key == "later" {
		panic("a mistake")
	}
	return f.fragile.Handle(ctx, r)
}

func TestNumber21IsRefused(t *testing.T) {
	inPlace(t, counting, func(p *place) {
		var first *mta
		for range 20 {
			m := p.mta()
			m.hears(`c`, client)
			if first == nil {
				first = m
			}
		}
		m := p.mta()
		m.hears(`y "450 4.7.1 21 open·"`, client)
		m.hangUp()
		first.hangUp()
		p.mta().hears(`c`, client)
		p.mta().hears(`y "450 4.7.1 21 open·"`, client)
	})
}

// What is turned away above max_sessions is no session.
func TestATurnedAwayConnectionIsNotOpen(t *testing.T) {
	crowded(t, counting, 1, func(p *place, open []*mta) {
		m := p.dial()
		m.write(negotiated, `C "x·4\x10\x92192.0.2.8·"`)
		if n := p.open(); n != 1 {
			t.Errorf("%d addresses are open, want 1", n)
		}
		m.hangUp()
		open[0].hangUp()
		if n := p.open(); n != 0 {
			t.Errorf("%d are open after all have gone", n)
		}
	})
}

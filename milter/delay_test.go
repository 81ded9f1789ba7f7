package milter_test

import (
	"context"
	"runtime/pprof"
	"testing"
	"time"

	"github.com/audit-milter/audit-milter/milter"
)

// slowly delays what it refuses and counts what went out.
const slowly = `
max_delayed: 2
series:
  refused: {type: ip, interval: 1h, windows: 2, add: {at: refused}}
  aborted: {type: ip, interval: 1h, windows: 2, add: {at: abort}}
  gone:    {type: ip, interval: 1h, windows: 2, add: {at: end}}
rules:
  - {name: slow, at: mail, when: sender startsWith "slow", then: tempfail, reply: "450 4.7.1 slowly", delay: 5s}
  - {name: tarpit, at: mail, when: sender startsWith "tar", delay: 8s}
`

func TestAnAnswerIsDelayed(t *testing.T) {
	inPlace(t, slowly, func(p *place) {
		m := p.mta()
		m.write(client)
		m.hears(``, `M "<slow@b>·"`)
		if got := p.counts(); got != "" {
			t.Errorf("before the answer is out, counted %s", got)
		}
		time.Sleep(5*time.Second - time.Nanosecond)
		m.hears(``)
		time.Sleep(time.Nanosecond)
		m.hears(`y "450 4.7.1 slowly·"`)
		if got := p.counts(); got != "refused 1" {
			t.Errorf("counted %s", got)
		}
		m.hears(``, `M "<tar@b>·"`)
		time.Sleep(8 * time.Second)
		m.hears(`c`)
	})
}

func TestADelayEndsWhenTheMTAGoes(t *testing.T) {
	inPlace(t, slowly, func(p *place) {
		m := p.mta()
		m.write(client, `M "<slow@b>·"`)
		m.hangUp()
		if got, want := p.counts(), "aborted 1, gone 1"; got != want {
			t.Errorf("counted %s, want %s: the refusal never went out", got, want)
		}
	})
}

func TestADelayEndsWhenTheMTASends(t *testing.T) {
	inPlace(t, slowly, func(p *place) {
		m := p.mta()
		m.write(client)
		m.hears(``, `M "<slow@b>·"`)
		m.hears(`y "450 4.7.1 slowly·"`, `A`)
	})
}

func TestADelayEndsWhenTheServerDrains(t *testing.T) {
	inPlace(t, slowly, func(p *place) {
		m := p.mta()
		m.write(client)
		m.hears(``, `M "<slow@b>·"`)
		begin := time.Now()
		p.close()
		m.hears(`y "450 4.7.1 slowly·"`)
		if d := time.Since(begin); d > time.Second || !m.closed() {
			t.Errorf("drained after %v, closed: %v", d, m.closed())
		}
	})
}

func TestDelaysAreBounded(t *testing.T) {
	inPlace(t, slowly, func(p *place) {
		var mtas []*mta
		for range 4 {
			m := p.mta()
			m.write(client, `M "<slow@b>·"`)
			mtas = append(mtas, m)
		}
		for i, want := range []string{``, ``, `y "450 4.7.1 slowly·"`, `y "450 4.7.1 slowly·"`} {
			if got := mtas[i].answers(); got != want {
				t.Errorf("session %d was answered %q at once, want %q", i+1, got, want)
			}
		}
		if n := p.seen.said("max_delayed answers are waiting"); n != 1 {
			t.Errorf("said %d times", n)
		}
		time.Sleep(5 * time.Second)
		mtas[0].hears(`y "450 4.7.1 slowly·"`)
		mtas[2].hears(``, `M "<slow@b>·"`) // there is room again
	})
}

// TestThousandsOfDelays lets 5,000 sessions wait at one time, on real sockets:
// no thread waits with them, and nobody else does. All must begin before the
// first delay ends; with the race detector, which slows them down, 500 do.
func TestThousandsOfDelays(t *testing.T) {
	many := 5000
	if raceEnabled {
		many = 500
	}
	const longest = `rules: [{name: slow, at: mail, when: sender startsWith "slow", then: tempfail, delay: 8s}]`
	needDescriptors(t, uint64(2*many+100))
	server, socket := onSocket(t, longest, func(s *milter.Terms) { s.MaxSessions, s.MaxDelayed = many+10, many })
	var waiting []*peer
	for range many {
		waiting = append(waiting, greetedPeer(t, socket))
	}
	undelayed, oneMore := greetedPeer(t, socket), greetedPeer(t, socket)
	threads := pprof.Lookup("threadcreate").Count()

	for _, p := range waiting {
		p.tell(`M "<slow@b>·"`)
	}
	eventually(t, func() bool { return int(server.Stats.Delayed.Load()) == many })
	if code, err := undelayed.say(`M "<a@b>·"`); code != 'c' {
		t.Errorf("one that is not delayed is answered %c, %v", code, err)
	}
	undelayed.tell(`A`)
	if code, err := oneMore.say(`M "<slow@b>·"`); code != 'y' {
		t.Errorf("one above max_delayed is answered %c, %v", code, err)
	}

	waiting[0].conn.Close()
	eventually(t, func() bool { return int(server.Stats.Delayed.Load()) == many-1 })
	oneMore.tell(`M "<slow@b>·"`) // there is room again
	eventually(t, func() bool { return int(server.Stats.Delayed.Load()) == many })
	waiting[0] = oneMore

	if more := pprof.Lookup("threadcreate").Count() - threads; more > many/10 {
		t.Errorf("%d more threads", more)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := server.Shutdown(ctx); err != nil {
		t.Errorf("sessions were cut off: %v", err)
	}
	for _, p := range waiting {
		if code, err := p.hear(); code != 'y' {
			t.Fatalf("a delay that a drain ends is answered %c, %v", code, err)
		}
	}
}

// greetedPeer is an MTA that has shown its client.
func greetedPeer(t testing.TB, socket string) *peer {
	t.Helper()
	p := connect(t, socket)
	if code, err := p.say("O 6 0x1ff 0x1fffff"); code != 'O' {
		t.Fatalf("the negotiation is answered %c, %v", code, err)
	}
	p.tell(client)
	return p
}

package milter_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestDrain(t *testing.T) {
	for _, row := range []struct {
		name   string
		frames []string
		begun  string // bytes of a frame
		closed bool
	}{
		{"a session that has not negotiated", nil, "", true},
		{"a session between messages", []string{negotiated, client, `H "c·"`}, "", true},
		{"a session behind a message", []string{negotiated, client, `M "<a@b>·"`, `E`}, "", true},
		{"a session whose message was refused", []string{negotiated, client, `M "<bad@mail>·"`}, "", true},
		{"a session in the middle of a frame", []string{negotiated, client}, "\x00\x00\x00\x09M<a", true},
		{"a session in a message", []string{negotiated, client, `M "<a@b>·"`}, "", false},
		{"a session in the middle of a frame of a message", []string{negotiated, client, `M "<a@b>·"`}, "\x00\x00\x00\x09R<u", false},
	} {
		inPlace(t, everything, func(p *place) {
			m := p.dial()
			m.write(row.frames...)
			m.writeRaw([]byte(row.begun))
			go p.close()
			time.Sleep(time.Second)
			if got := m.closed(); got != row.closed {
				t.Errorf("%s: closed %v, want %v", row.name, got, row.closed)
			}
		})
	}
}

// A session on which the MTA goes on without a pause ends all the same, long
// before it would be cut off, and not in a message.
func TestADrainingServerEndsSessionsThatGoOn(t *testing.T) {
	for _, row := range []struct {
		name   string
		frames []string
	}{
		{"with greetings", []string{`H "c·"`}},
		{"with senders that are refused", []string{`M "<bad@mail>·"`}},
		{"with messages", []string{`M "<a@b>·"`, `R "<u@c>·"`, `T`, `E`}},
		{"with messages that are reset", []string{`M "<a@b>·"`, `A`}},
	} {
		inPlace(t, everything, func(p *place) {
			m := p.mta()
			m.write(client)
			go p.close()
			for begin := time.Now(); !m.closed(); {
				for i, f := range row.frames {
					got := m.ask(f)
					if i > 0 && got == "" && f != `A` {
						t.Errorf("%s: %s, in a message, has no answer", row.name, f)
					}
					time.Sleep(9 * time.Millisecond)
				}
				if time.Since(begin) > 2*time.Second {
					t.Fatalf("%s: it goes on", row.name)
				}
			}
		})
	}
}

func TestADrainingServerLetsAMessageEnd(t *testing.T) {
	inPlace(t, everything, func(p *place) {
		m := p.mta()
		m.write(client, `M "<a@b>·"`)
		m.answers()
		go p.close()
		time.Sleep(5 * time.Second)
		m.hears(`c`, `R "<u@c>·"`)
		m.hears(`c`, `E`)
		time.Sleep(time.Second)
		if !m.closed() {
			t.Error("the session goes on behind its message")
		}
		if got := p.counts(); !strings.Contains(got, "accepted 1") || strings.Contains(got, "aborted") {
			t.Errorf("counted %s", got)
		}
	})
}

func TestADrainingServerWaitsNoLongerThanItIsGiven(t *testing.T) {
	inPlace(t, everything, func(p *place) {
		m := p.mta()
		m.write(client, `M "<a@b>·"`)
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		begin := time.Now()
		if err := p.server.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		if d := time.Since(begin); d != 10*time.Second || !m.closed() {
			t.Errorf("after %v, closed: %v", d, m.closed())
		}
		if got := p.counts(); !strings.Contains(got, "aborted 1") || !strings.Contains(got, "gone 1") {
			t.Errorf("counted %s", got)
		}
	})
}

func TestADrainingServerAnswersWhatItHasReceived(t *testing.T) {
	inPlace(t, everything, func(p *place) {
		m := p.mta()
		m.write(client)
		go p.close()
		m.hears(`c, c, c, c`, `H "c·"`, `M "<a@b>·"`, `R "<u@c>·"`, `E`)
		time.Sleep(time.Second)
		if !m.closed() {
			t.Error("the session goes on")
		}
	})
}

func TestADrainedServerTakesNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := open(t, everything)
		p.close()
		if err := p.server.Serve(newPipes(), nil); err != nil {
			t.Error(err)
		}
	})
}

// TestADrainUnderLoadLosesNoAnswer drains a server whose 64 MTAs send message
// after message without a pause.
func TestADrainUnderLoadLosesNoAnswer(t *testing.T) {
	server, socket := onSocket(t, everything)
	var draining atomic.Bool
	var clients sync.WaitGroup
	enough, messages := make(chan bool), atomic.Int64{}
	for range 64 {
		m := connect(t, socket)
		clients.Go(func() {
			m.say("O 6 0x1ff 0x1fffff")
			m.tell(client)
			for {
				for i, f := range []string{`M "<a@b>·"`, `R "<u@c>·"`, `R "<bad@rcpt>·"`, `T`, `E`} {
					m.tell(f)
					before := !draining.Load() // so the frame has come before the drain
					if _, err := m.hear(); err != nil {
						if before || i > 0 {
							t.Errorf("%s, sent before the drain: %v, in a message: %v, has no answer: %v", f, before, i > 0, err)
						}
						return
					}
				}
				m.tell(`A`)
				if messages.Add(1) == 1000 {
					close(enough)
				}
			}
		})
	}
	<-enough
	draining.Store(true)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := server.Shutdown(ctx); err != nil {
		t.Errorf("sessions were cut off: %v", err)
	}
	clients.Wait()
}

// The race detector sees what this is about.
func TestShutdownMayComeAsServiceBegins(t *testing.T) {
	conf := parse(t, everything)
	for range 20 {
		server := serverFor(t, conf, newObserver())
		served := make(chan error)
		go func() { served <- server.Serve(newPipes(), nil) }()
		if err := server.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
	}
}

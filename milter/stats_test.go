package milter_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/audit-milter/audit-milter/milter"
	"github.com/audit-milter/audit-milter/policy"
)

// did are the numbers that are not zero.
func did(s *milter.Stats) string {
	var told []string
	for _, n := range []struct {
		name string
		of   interface{ Load() uint64 }
	}{
		{"sessions", &s.Sessions}, {"turned away", &s.TurnedAway}, {"overflow", &s.Overflow},
		{"not allowed", &s.NotAllowed}, {"accept failures", &s.AcceptFailures},
		{"delays", &s.Delays}, {"undelayed", &s.Undelayed}, {"malformed", &s.Malformed}, {"panics", &s.Panics},
		{"no negotiation", &s.TimedOut.Negotiate}, {"half a frame", &s.TimedOut.Frame},
		{"not read", &s.TimedOut.Write}, {"idle", &s.TimedOut.Idle},
	} {
		if v := n.of.Load(); v > 0 {
			told = append(told, fmt.Sprint(n.name, " ", v))
		}
	}
	return strings.Join(told, ", ")
}

func TestStatsCountConnections(t *testing.T) {
	for _, row := range []struct {
		name string
		what func(p *place)
		want string
	}{
		{"nobody comes", func(p *place) {}, ""},
		{"a session", func(p *place) { p.mta().write(client, `Q`) }, "sessions 1"},
		{"two clients on one connection", func(p *place) { p.mta().write(client, `K`, client) }, "sessions 1"},
		{"an MTA that goes", func(p *place) { p.mta().hangUp() }, "sessions 1"},
		{"one more than may be", func(p *place) { p.mta(); p.mta(); p.dial() }, "sessions 2, turned away 1"},
		{"more than are turned away", func(p *place) {
			for range 105 {
				p.dial()
			}
		}, "sessions 2, turned away 100, overflow 3"},
		{"garbage", func(p *place) { p.dial().writeRaw([]byte("EHLO x\r\n")) }, "sessions 1, malformed 1"},
		{"a command that is none", func(p *place) { p.mta().write(`x`) }, "sessions 1, malformed 1"},
		{"no negotiation", func(p *place) { p.dial(); time.Sleep(time.Minute) }, "sessions 1, no negotiation 1"},
		{"half a frame", func(p *place) { p.mta().writeRaw([]byte{0}); time.Sleep(time.Minute) }, "sessions 1, half a frame 1"},
		{"silence", func(p *place) { p.mta(); time.Sleep(5 * time.Hour) }, "sessions 1, idle 1"},
		{"one delay more than may be", func(p *place) {
			p.mta().write(client, `M "<slow@b>·"`)
			p.mta().write(client, `M "<slow@b>·"`)
		}, "sessions 2, delays 1, undelayed 1"},
	} {
		inPlace(t, slowly, func(p *place) {
			row.what(p)
			if got := did(&p.server.Stats); got != row.want {
				t.Errorf("%s: %s; want %s", row.name, got, row.want)
			}
		}, func(s *milter.Terms) { s.MaxSessions, s.MaxDelayed = 2, 1 })
	}
}

func TestStatsTellWhatIsOpenAndWaits(t *testing.T) {
	inPlace(t, slowly, func(p *place) {
		check := func(when string, sessions int, delayed int64) {
			t.Helper()
			open, max := p.server.Sessions()
			if now := p.server.Stats.Delayed.Load(); open != sessions || now != delayed || max != 7 {
				t.Errorf("%s: %d sessions of %d, %d delayed; want %d and %d", when, open, max, now, sessions, delayed)
			}
		}
		check("at first", 0, 0)
		one, two := p.mta(), p.mta()
		check("two have come", 2, 0)
		one.write(client, `M "<slow@b>·"`)
		check("one is delayed", 2, 1)
		two.hangUp()
		check("the other one has gone", 1, 1)
		one.hangUp()
		check("both have gone", 0, 0)
	}, func(s *milter.Terms) { s.MaxSessions = 7 })
}

// The bubble's time stands still while a session works, and goes on while it
// waits: what a rule delays must not look like a slow daemon.
func TestADelayIsNoLatency(t *testing.T) {
	inPlace(t, slowly, func(p *place) {
		m := p.mta()
		m.write(client)
		for range 3 {
			m.write(`M "<slow@b>·"`)
			time.Sleep(time.Minute)
		}
		buckets, sum := p.server.Stats.Latency[policy.Mail].Read()
		if buckets[0] != 3 || sum != 0 {
			t.Errorf("%v, in sum %v; want three that took no time", buckets, sum)
		}
		if buckets, _ := p.server.Stats.Latency[policy.Helo].Read(); buckets[0] != 0 {
			t.Errorf("helo, which never came: %v", buckets)
		}
	})
}

func TestARefusedRecipientHasALatency(t *testing.T) {
	inPlace(t, everything, func(p *place) {
		p.mta().write(client, `M "<a@b>·"`, `D "R{rcpt_mailer}·error·{rcpt_host}·5.1.1·{rcpt_addr}·User unknown·"`, `R "<x@c>·"`, `R "<u@c>·"`)
		for _, stage := range []policy.Stage{policy.Rcpt, policy.RcptRefused} {
			if buckets, _ := p.server.Stats.Latency[stage].Read(); buckets[0] != 1 {
				t.Errorf("%s: %v", stage, buckets)
			}
		}
	})
}

// Postfix has no queue id at MAIL. What was decided there is found by it all the
// same, also where only the end of the message is shown after MAIL.
func TestADecisionIsFoundByAQueueIDThatCameLater(t *testing.T) {
	for _, row := range []struct{ name, rule string }{
		{"RCPT is shown", "{name: seen, at: [mail, rcpt], header: 'X-A: b'}"},
		{"RCPT is not shown", "{name: seen, at: mail, header: 'X-A: b'}"},
	} {
		inPlace(t, "rules: ["+row.rule+"]", func(p *place) {
			m := p.mta()
			m.write(strings.Split(postfixClient+` | M "<a@b>·" | D "Ri·Q1·" | R "<u@c>·" | D "Ti·Q1·" | T | `+postfixBody+` | A`, " | ")...)
			m.write(`M "<other@b>·"`)
			found := p.server.InForce().Engine.Stats().Recent.Find(policy.Query{QueueID: "Q1"})
			if len(found) == 0 {
				t.Fatalf("%s: nothing is found", row.name)
			}
			if d := found[len(found)-1]; d.Stage != policy.Mail || d.Sender != "a@b" || d.QueueID != "Q1" {
				t.Errorf("%s: found %+v", row.name, d)
			}
		})
	}
}

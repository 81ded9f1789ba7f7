package milter_test

import (
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/audit-milter/audit-milter/milter"
	"github.com/audit-milter/audit-milter/policy"
)

// reload replaces the server's policy, as SIGHUP does, and tells how many
// sessions lack which stages.
func reload(t testing.TB, server *milter.Server, log slog.Handler, yaml string) (behind int, lacking policy.StageSet) {
	t.Helper()
	terms := server.InForce()
	before := terms.Engine
	next, _, err := before.Successor(parse(t, yaml).Policy, policy.Options{Log: slog.New(log), Start: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	terms.Engine = next
	behind, lacking = server.Adopt(terms)
	before.Retire(next)
	return behind, lacking
}

func (p *place) reload(yaml string) (behind int, lacking policy.StageSet) {
	p.t.Helper()
	return reload(p.t, p.server, p.seen, yaml)
}

// Two policies that answer at the same stages, each in its own words.
const (
	first = `
series:
  both:  {type: string, interval: 1h, windows: 2, add: {at: [mail, rcpt], key: sender}}
  old:   {type: string, interval: 1h, windows: 2, add: {at: rcpt, key: sender}}
rules:
  - {name: r, at: [mail, rcpt, eom], when: sender == "no@b", then: reject, reply: "550 5.7.1 first"}
`
	second = `
series:
  both:  {type: string, interval: 1h, windows: 2, add: {at: [mail, rcpt], key: sender}}
  young: {type: string, interval: 1h, windows: 2, add: {at: rcpt, key: sender}}
rules:
  - {name: r, at: [mail, rcpt, eom], then: reject, reply: "550 5.7.1 second"}
`
)

func TestAMessageInProgressEndsUnderItsPolicy(t *testing.T) {
	inPlace(t, first, func(p *place) {
		m := p.mta()
		m.write(client, `M "<a@b>·"`)
		m.hears(`c, c`, `R "<u@c>·"`)
		p.reload(second)
		m.hears(`c`, `R "<v@c>·"`)
		m.hears(`c`, `E`)
		m.hears(`y "550 5.7.1 second·"`, `M "<a@b>·"`)
		m.hangUp()
		if got, want := p.counts(), "both 4, old 1"; got != want { // old has gone, and takes no more
			t.Errorf("counted %s, want %s", got, want)
		}
	})
}

func TestEachWayToANewPolicy(t *testing.T) {
	for _, row := range []struct {
		name          string
		before, after []string // the reload is between them
		want          string   // the last one's answer
	}{
		{"a session turns to it with its next message", []string{client, `M "<a@b>·"`, `E`}, []string{`M "<a@b>·"`}, `y "550 5.7.1 second·"`},
		{"and with the one after a refused one", []string{client, `M "<no@b>·"`}, []string{`M "<a@b>·"`}, `y "550 5.7.1 second·"`},
		{"and with one that ends another", []string{client, `M "<a@b>·"`}, []string{`M "<a@b>·"`}, `y "550 5.7.1 second·"`},
		{"and with one whose macros come first", []string{client, `M "<a@b>·"`, `A`}, []string{`D "Mi·Q1·"`, `M "<a@b>·"`}, `y "550 5.7.1 second·"`},
		{"not with a macro in a message", []string{client, `M "<a@b>·"`}, []string{`D "Ri·Q1·"`, `R "<u@c>·"`}, `c`},
		{"nor at the end of that message", []string{client, `M "<a@b>·"`, `R "<u@c>·"`}, []string{`D "Ei·Q1·"`, `E`}, `c`},
		{"a client on a connection that is used again", []string{client, `M "<a@b>·"`}, []string{`K`, client, `M "<a@b>·"`}, `y "550 5.7.1 second·"`},
		{"a session that negotiates again", []string{client, `M "<a@b>·"`}, []string{negotiated, client, `M "<a@b>·"`}, `y "550 5.7.1 second·"`},
	} {
		inPlace(t, first, func(p *place) {
			m := p.mta()
			m.write(row.before...)
			p.reload(second)
			last := len(row.after) - 1
			m.write(row.after[:last]...)
			m.answers()
			if got := m.ask(row.after[last]); got != row.want {
				t.Errorf("%s: answered %s, want %s", row.name, got, row.want)
			}
			p.mta().hears(`y "550 5.7.1 second·"`, client, `M "<a@b>·"`)
		})
	}
}

// A session whose MTA waits for recipients and the end only, and a policy that
// would answer at every stage, each with the next one's number, so that an
// answer too many would show.
func TestARuleAtAStageThatWasNotNegotiatedIsNotHeard(t *testing.T) {
	const narrow = `
series:
  refused: {type: ip, interval: 1h, windows: 2, add: {at: refused}}
  quota:   {type: ip, interval: 1h, windows: 2, add: {at: mail, leaky: true}}
rules:
  - {name: r, at: rcpt, when: recipient == "no@c", then: reject, reply: "550 5.7.1 narrow"}
`
	const wide = `
series:
  refused: {type: ip, interval: 1h, windows: 2, add: {at: refused}}
  quota:   {type: ip, interval: 1h, windows: 2, add: {at: mail, leaky: true}}
rules:
  - {name: m, at: mail, then: reject, reply: "550 5.7.1 mail"}
  - {name: r, at: rcpt, when: recipient == "u@c", then: reject, reply: "550 5.7.1 wide"}
  - {name: t, at: data, then: reject, reply: "550 5.7.1 data"}
  - {name: n, at: eoh, then: reject, reply: "550 5.7.1 eoh"}
  - {name: h, at: eom, when: 'header["Subject"] != ""', header: "X-Audit: seen"}
  - {name: e, at: eom, then: tempfail, reply: "450 4.7.1 eom"}
`
	inPlace(t, narrow, func(p *place) {
		m := p.mta()
		m.hears(``, client)
		m.hears(``, `M "<a@b>·"`)
		m.hears(`y "550 5.7.1 narrow·"`, `R "<no@c>·"`)
		m.write(`A`)
		if behind, lacking := p.reload(wide); behind != 1 || lacking != policy.Stages(policy.Mail, policy.Data, policy.EOH, policy.EOM) {
			t.Errorf("%d sessions lack %s", behind, lacking)
		}
		m.hears(``, `M "<a@b>·"`)
		m.hears(`y "550 5.7.1 wide·"`, `R "<u@c>·"`)
		m.hears(`c`, `R "<v@c>·"`)
		m.hears(`y "450 4.7.1 eom·"`, `E`)
		if got, want := p.counts(), "quota 2, refused 3"; got != want {
			t.Errorf("counted %s, want %s", got, want)
		}
		if p.seen.said("rule=m shadow=true") != 1 {
			t.Errorf("the log does not say that rule m was not heard: %q", *p.seen.messages)
		}
		if n := p.server.InForce().Engine.Stats().Decisions()[policy.RuleVerdict{Rule: "m", Verdict: policy.Reject, Shadow: true}]; n != 1 {
			t.Errorf("rule m is counted %d times as not enforced", n)
		}
		p.mta().hears(`y "550 5.7.1 mail·"`, client, `M "<a@b>·"`)
		if behind, _ := p.reload(wide); behind != 1 {
			t.Errorf("%d sessions lack something of what one of two negotiated for", behind)
		}
		m.hangUp()
		if behind, _ := p.reload(wide); behind != 0 {
			t.Errorf("%d sessions lack something after the last one has gone", behind)
		}
	})
}

func TestALoginIsKnownInTheFirstMessageUnderANewPolicy(t *testing.T) {
	const without = `series: {s: {type: ip, interval: 1h, windows: 2, add: {at: mail}}}`
	const with = `series: {users: {type: string, interval: 1h, windows: 2, add: {at: mail, key: sasl_username}}}`
	inPlace(t, without, func(p *place) {
		m := p.mta()
		m.write(client, `D "M{auth_authen}·bob·"`, `M "<a@b>·"`, `E`)
		p.reload(with)
		m.write(`D "M{auth_authen}·bob·"`, `M "<a@b>·"`)
		if got, want := p.counts(), "s 1, users 1"; got != want {
			t.Errorf("counted %s, want %s", got, want)
		}
	})
}

// The MTA goes on to show the recipients that it refused, as it was asked to.
func TestARefusedRecipientIsNoneUnderANewPolicy(t *testing.T) {
	const with = `series: {s: {type: ip, interval: 1h, windows: 2, add: {at: rcpt}}, refused: {type: ip, interval: 1h, windows: 2, add: {at: rcpt_refused}}}`
	const without = `series: {s: {type: ip, interval: 1h, windows: 2, add: {at: rcpt}}}
rules: [{name: r, at: rcpt, when: recipient_count > 1, then: reject}]`
	unknown := []string{`D "R{rcpt_mailer}·error·{rcpt_host}·5.1.1·{rcpt_addr}·User unknown·"`, `R "<no@c>·"`}
	inPlace(t, with, func(p *place) {
		m := p.mta()
		m.write(client, `M "<a@b>·"`)
		m.write(unknown...)
		m.write(`A`)
		p.reload(without)
		m.write(`M "<a@b>·"`)
		m.write(unknown...)
		m.write(`D "R{rcpt_mailer}·local·{rcpt_host}··{rcpt_addr}·u·"`, `R "<u@c>·"`)
		if got, want := p.counts(), "refused 1, s 1"; got != want {
			t.Errorf("counted %s, want %s", got, want)
		}
	})
}

// The headers that came with a message are counted by name; the next policy
// has other names.
func TestHeadersOfANewPolicyReplaceReceivedOnes(t *testing.T) {
	const one = `rules: [{name: h, at: eom, header: "X-One: 1"}]`
	const two = `rules: [{name: h, at: eom, header: ["X-Two: 2", "X-Three: 3"]}]`
	inPlace(t, one, func(p *place) {
		m := p.mta()
		m.write(client, `M "<a@b>·"`, `L "X-Three·forged·"`, `E`)
		p.reload(two)
		m.answers()
		m.write(`M "<a@b>·"`, `L "X-One·kept·"`, `L "X-Three·forged·"`)
		m.hears(`m "···\x01X-Three··", i "····X-Three·3·", i "····X-Two·2·", c`, `E`)
	})
}

func TestATimeoutOfNewTermsHoldsFromTheNextMessageOn(t *testing.T) {
	inPlace(t, everything, func(p *place) {
		m := p.mta()
		m.write(client)
		terms := p.server.InForce()
		terms.Timeouts.Frame = time.Second
		p.server.Adopt(terms)
		m.write(`M "<a@b>·"`)
		m.writeRaw([]byte("\x00\x00\x00\x05B"))
		time.Sleep(2 * time.Second)
		if !m.closed() {
			t.Error("the frame that does not end is waited for")
		}
	})
}

func TestMaxSessionsOfNewTerms(t *testing.T) {
	inPlace(t, everything, func(p *place) {
		p.mta().write(client)
		terms := p.server.InForce()
		for _, row := range []struct {
			most int
			want string
		}{
			{1, "on_error"},
			{2, "served"},
		} {
			terms.MaxSessions = row.most
			p.server.Adopt(terms)
			m := p.mta()
			got := "on_error"
			if m.ask(client); m.ask(`H "c·"`) == `c` {
				got = "served"
			}
			if got != row.want {
				t.Errorf("max_sessions %d: the second session is %s, want %s", row.most, got, row.want)
			}
			m.hangUp()
		}
	})
}

// Sessions go on from message to message while one policy follows the other:
// each of their commands is answered once, and nothing is counted twice or
// lost in the series that both policies have.
func TestReloadsInMidTraffic(t *testing.T) {
	const sessions, messages = 8, 200
	seen := newObserver()
	server, pipes := serverFor(t, parse(t, first), seen), newPipes()
	go server.Serve(pipes, nil)
	var all sync.WaitGroup
	for range sessions {
		all.Go(func() {
			stream := fromMTA(t, negotiated)
			stream = append(stream, fromMTA(t, client)...)
			for range messages {
				for _, f := range []string{`M "<a@b>·"`, `R "<u@c>·"`, `E`} {
					stream = append(stream, fromMTA(t, f)...)
				}
			}
			answers := codesIn(pipes.play(stream, 100))
			if want := 1 + 3*messages; len(answers) != want { // connect has no answer
				t.Errorf("%d answers, want %d", len(answers), want)
			}
		})
	}
	ended := make(chan struct{})
	go func() { all.Wait(); close(ended) }()
	for on := true; on; {
		for _, yaml := range []string{second, first} {
			reload(t, server, seen, yaml)
		}
		select {
		case <-ended:
			on = false
		default:
		}
	}
	server.Shutdown(t.Context())
	if n := seen.said("a session failed"); n > 0 {
		t.Errorf("%d sessions failed", n)
	}
	// A message is counted at mail and, where the policy did not refuse it
	// there, at rcpt.
	mails, rcpts := int64(sessions*messages), seen.sum("old")+seen.sum("young")
	if got := seen.sum("both"); got < mails || got > 2*mails || rcpts > mails {
		t.Errorf("counted %d at mail and rcpt, and %d at rcpt, of %d messages", got, rcpts, mails)
	}
}

// What a verdict does to a message is agreed on as the stages are.
func TestASessionMayLackTheRightToChangeMessages(t *testing.T) {
	const before = `series: {s: {type: ip, interval: 1h, windows: 2, add: {at: mail}}}`
	for _, row := range []struct {
		what, rules string
		lacking     policy.StageSet
	}{
		{"quarantine", `[{name: q, at: eom, when: 'sender != "<>"', then: quarantine}]`, policy.Stages(policy.EOM)},
		{"a header", `[{name: h, at: eom, when: 'sender != "<>"', header: "X-Audit: seen"}]`, policy.Stages(policy.EOM)},
		{"discard, which needs none", `[{name: d, at: eom, when: 'sender != "<>"', then: discard}]`, 0},
	} {
		inPlace(t, before, func(p *place) {
			p.mta().write(client)
			if _, lacking := p.reload("rules: " + row.rules); lacking != row.lacking {
				t.Errorf("%s: sessions lack %q, want %q", row.what, lacking, row.lacking)
			}
		})
	}
}

// A session that negotiated for an earlier policy lacks what only the new one reads.
// Nobody is refused for that.
func TestNobodyIsRefusedForWhatASessionDoesNotKnow(t *testing.T) {
	const before = `series: {s: {type: ip, interval: 1h, windows: 2, add: {at: [connect, mail, rcpt]}}}
rules: [{name: r, at: rcpt, when: recipient == "no@c", then: reject}]`
	for _, row := range []struct {
		what, rules, want string
		lacking           policy.StageSet
	}{
		{"a macro of connect", `[{name: r, at: rcpt, when: 'reverse_client_name == ""', then: reject}]`, "c", policy.Stages(policy.Connect)},
		{"another one", `[{name: r, at: rcpt, when: 'daemon_name != "smtp"', then: reject}]`, "c", policy.Stages(policy.Connect)},
		{"what a stage brings that is not shown", `[{name: r, at: rcpt, when: 'helo_name == ""', then: reject}]`, "c", policy.Stages(policy.Helo)},
		{"an accept by it is taken to hold", `[{name: a, at: rcpt, when: 'daemon_name == "smtp"', then: accept}, {name: r, at: rcpt, then: reject}]`, "c", policy.Stages(policy.Connect)},
		{"what the session knows", `[{name: r, at: rcpt, when: 'client_name != "unknown"', then: reject}]`, `y "550 5.7.1 refused by rule r·"`, 0},
	} {
		inPlace(t, before, func(p *place) {
			m := p.mta()
			m.write(`D "C{client_ptr}·h.example·{daemon_name}·smtp·"`, client, `M "<a@b>·"`, `A`)
			m.answers()
			behind, lacking := p.reload("rules: " + row.rules)
			if lacking != row.lacking || (behind == 1) != (lacking != 0) {
				t.Errorf("%s: %d sessions lack %q, want %q", row.what, behind, lacking, row.lacking)
			}
			m.write(`M "<a@b>·"`)
			m.answers()
			if got := m.ask(`R "<u@c>·"`); got != row.want {
				t.Errorf("%s: %s", row.what, got)
			}
		})
	}
}

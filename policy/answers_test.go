package policy

import (
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/expr-lang/expr"

	"github.com/audit-milter/audit-milter/internal/short"
	"github.com/audit-milter/audit-milter/series"
)

// dialogue does to an event what the milter room does at each frame.
type dialogue struct {
	*Event
	engine *Engine
	choose func(n int) int // what the client and the MTA choose: one of n
	before func(*Event)    // called before each event that counts
	open   bool            // a message is in progress
	out    io.Writer       // what the engine answers
}

var noon = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

func (d *dialogue) decide(s Stage) {
	d.before(d.Event)
	v, err := d.engine.Decide(d.Event, s, noon)
	fmt.Fprintln(d.out, s, v.Action, v.Rule, err)
	if v.RefusesAt(s) {
		d.before(d.Event)
		d.engine.Refuse(d.Event, v, noon)
	}
}

func (d *dialogue) count(s Stage) {
	d.before(d.Event)
	d.engine.Count(d.Event, s, noon)
}

func (d *dialogue) endMessage() {
	if d.open {
		d.count(Abort)
	}
	d.open = false
	d.ResetMessage()
}

func (d *dialogue) text() string    { return []string{"x", "y", ""}[d.choose(3)] }
func (d *dialogue) address() string { return []string{"x", "<y@x>", ""}[d.choose(3)] }

// macros sets the attributes that the MTA gives a macro for.
func (d *dialogue) macros(attributes ...Attribute) {
	for _, a := range attributes {
		if text := d.text(); text != "" {
			d.SetText(a, text)
		}
	}
}

var frames = map[string]func(*dialogue){
	"connect": func(d *dialogue) {
		d.SetClient(netip.AddrFrom4([4]byte{byte(d.choose(2))}), d.choose(2), d.text())
		d.SetServer(netip.AddrFrom4([4]byte{byte(d.choose(2))}))
		d.ServerPort = d.choose(2)
		d.macros(ReverseClientName, DaemonName)
		d.decide(Connect)
	},
	"helo": func(d *dialogue) {
		d.endMessage()
		d.ResetGreeting()
		d.SetHelo(d.text())
		d.macros(EncryptionProtocol, EncryptionCipher)
		d.decide(Helo)
	},
	"mail": func(d *dialogue) {
		d.endMessage()
		d.SetSender(d.address())
		d.Size = d.choose(2)
		d.macros(SASLUsername, SASLMethod, SASLSender, QueueID)
		d.open = true
		d.decide(Mail)
	},
	"rcpt": func(d *dialogue) {
		d.SetRecipient(d.address())
		d.macros(QueueID)
		d.RecipientCount++
		d.decide(Rcpt)
		d.ResetRecipient()
		d.RecipientCount -= d.choose(2)
	},
	"rcpt_refused": func(d *dialogue) {
		d.SetRecipient(d.address())
		d.macros(QueueID, RefusedStatus, RefusedText)
		d.count(RcptRefused)
		d.ResetRecipient()
	},
	"data": func(d *dialogue) {
		d.macros(QueueID)
		d.decide(Data)
	},
	"header": func(d *dialogue) {
		d.SetHeader("From", d.address())
		d.SetHeader("X-Mark", d.text())
		d.MessageSize += d.choose(2)
	},
	"eoh": func(d *dialogue) {
		d.macros(QueueID)
		d.decide(EOH)
	},
	"eom": func(d *dialogue) {
		d.macros(QueueID)
		d.MessageSize += d.choose(2)
		d.decide(EOM)
		d.count(Accepted)
		d.open = false
		d.ResetMessage()
	},
	"reset":          (*dialogue).endMessage,
	"reset greeting": func(d *dialogue) { d.ResetGreeting() },
	"end": func(d *dialogue) {
		d.endMessage()
		d.count(End)
		*d.Event = Event{}
	},
}

// knownAt is where all that the `when` reads is known.
func (w *When) knownAt() StageSet {
	known := fromConnect
	for _, term := range w.terms() {
		known &= term.Attribute.KnownAt()
	}
	return known
}

// asks counts an event wherever the `when` can be asked.
func asks(w *When) Add {
	return Add{At: w.knownAt(), When: w, Key: Key{{Attribute: ClientPort}}, Amount: Amount{N: 1}}
}

func seriesOf(name string, adds ...Add) *Series {
	return &Series{Definition: series.Definition{Name: name, Type: series.String, Interval: time.Minute, Windows: 1}, Adds: adds}
}

func TestWhenIsAskedOnceWhileItsAnswerHolds(t *testing.T) {
	for _, row := range []struct {
		name, when, frames string
		asked              int
	}{
		{"what connect brings stays for the session", `client_address == "192.0.2.1"`, "connect helo helo mail rcpt data header eoh eom mail rcpt reset end", 1},
		{"the next session is another", `session == "x"`, "connect helo end connect helo end", 2},
		{"a client that changes is another", `client_port > 0`, "connect helo connect helo", 2},
		{"a greeting stays for its messages", `helo_name == "x"`, "connect helo mail rcpt eom mail rcpt eom end", 1},
		{"a second EHLO is another", `helo_name == "x"`, "helo mail rcpt helo mail rcpt", 2},
		{"and brings what STARTTLS made of the first", `encryption_protocol == "x" and client_address == "192.0.2.1"`, "connect helo helo mail rcpt", 2},
		{"a message stays for its recipients and to its end", `sender == "x" and size > 0`, "helo mail rcpt rcpt rcpt_refused data header eoh eom", 1},
		{"a second message is another", `sender == "x"`, "mail rcpt rcpt eom mail rcpt rcpt eom", 2},
		{"one behind a reset too", `sasl_username == "x" and helo_name == "x"`, "helo mail rcpt reset mail rcpt rcpt", 2},
		{"a second EHLO ends the message too", `sender == "x" and helo_name == "x"`, "helo mail rcpt helo mail rcpt", 2},
		{"each recipient is its own", `recipient == "x" and client_address == "192.0.2.1"`, "connect mail rcpt rcpt rcpt_refused", 3},
		{"the number of recipients grows", `recipient_count > 0`, "mail rcpt rcpt data", 3},
		{"a queue id may come late", `queue_id == "x"`, "mail rcpt rcpt data", 4},
		{"headers come until they have ended", `header["X-Mark"] == "x"`, "mail eoh header eom", 3}, // at accepted, too
		{"what failed is asked again", `10 % size == 0`, "mail rcpt rcpt", 3},
		{"and kept once it does not", `10 % client_port == 0`, "connect helo ported-connect helo helo", 3},
	} {
		w, err := CompileWhen(row.when, nil)
		if err != nil {
			t.Fatal(err)
		}
		asked := 0
		count := expr.Function("asked", func(...any) (any, error) { asked++; return true, nil }, new(func() bool))
		if w.program, err = expr.Compile("asked() and ("+row.when+")", expr.Env(Event{}), count); err != nil {
			t.Fatal(err)
		}
		port := 0
		d := newDialogue(t, &Policy{Series: []*Series{seriesOf("asks", asks(w))}}, nil)
		d.choose = func(int) int { return port }
		for _, name := range strings.Fields(row.frames) {
			name, ported := strings.CutPrefix(name, "ported-")
			if ported {
				port = 1
			}
			frames[name](d)
		}
		if asked != row.asked {
			t.Errorf("%s: asked %d times, want %d", row.name, asked, row.asked)
		}
	}
}

func newDialogue(t *testing.T, p *Policy, out io.Writer) *dialogue {
	t.Helper()
	if out == nil {
		out = io.Discard
	}
	timeless := func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}
	log := slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: slog.LevelDebug, ReplaceAttr: timeless}))
	engine, err := NewEngine(p, Options{Log: log})
	if err != nil {
		t.Fatal(err)
	}
	return &dialogue{Event: &Event{}, engine: engine, before: func(*Event) {}, out: out}
}

// Random dialogues, in order and out of it, against an engine that forgets all
// answers before each event.
func TestKeptAnswersAreThoseOfAskingEachTime(t *testing.T) {
	p := everyWhen(t)
	names := slices.Sorted(maps.Keys(frames))
	play := func(seed uint64, before func(*Event)) string {
		var out strings.Builder
		random := rand.New(rand.NewPCG(seed, 1))
		d := newDialogue(t, p, &out)
		d.choose, d.before = random.IntN, before
		for range 50 {
			frames[names[random.IntN(len(names))]](d)
		}
		return out.String()
	}
	for seed := range uint64(short.Part(12, 2)) {
		kept := strings.Split(play(seed, func(*Event) {}), "\n")
		asked := strings.Split(play(seed, func(ev *Event) { ev.state.answers.forget(perSession) }), "\n")
		for i := range kept {
			if kept[i] != asked[i] {
				t.Fatalf("dialogue %d: %s\nwant %s", seed, kept[i], asked[i])
			}
		}
	}
}

// everyWhen counts by a `when` for each attribute, alone and beside one of each
// scope, wherever they are known, and refuses by some.
func everyWhen(t *testing.T) *Policy {
	compile := func(source string) *When {
		w, err := CompileWhen(source, nil)
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	var parts []string
	for a := range numAttributes {
		switch {
		case a == Header:
			parts = append(parts, `header["X-Mark"] == "x"`)
		case a == VerdictName:
			parts = append(parts, `verdict == "reject"`)
		case a == RuleName:
			parts = append(parts, `rule == "x"`)
		case a == StageName:
			parts = append(parts, `stage == "mail"`)
		case a.Kind() == Number:
			parts = append(parts, a.String()+" == 1")
		case a.Kind() == Address:
			parts = append(parts, a.String()+` == "0.0.0.0"`)
		default:
			parts = append(parts, a.String()+` == "x"`)
		}
	}
	p := &Policy{Series: []*Series{seriesOf("fails", asks(compile("10 % size == 0")), asks(compile("10 % client_port == 0")))}}
	for _, one := range parts {
		p.Series = append(p.Series, seriesOf(one, asks(compile(one))))
		for _, other := range []Attribute{DaemonName, HeloName, SASLUsername, QueueID, Recipient} {
			source := fmt.Sprintf(`(%s) != (%s == "x")`, one, other)
			p.Series = append(p.Series, seriesOf(source, asks(compile(source))))
		}
	}
	for name, source := range map[string]string{"x": `client_port == 1`, "y": `helo_name == "x"`, "z": `sender_domain == "x"`} {
		w := compile(source)
		p.Rules = append(p.Rules, &Rule{Name: name, At: w.knownAt() & Stages(Connect, Helo, Mail, Rcpt, Data, EOH, EOM), When: w, Then: Reject})
	}
	slices.SortFunc(p.Rules, func(a, b *Rule) int { return strings.Compare(a.Name, b.Name) })
	return p
}

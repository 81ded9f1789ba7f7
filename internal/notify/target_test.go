package notify

import (
	"fmt"
	"log/slog"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/audit-milter/audit-milter/policy"
	"github.com/audit-milter/audit-milter/series"
)

// idle is a target that delivers nothing, and an engine whose only rule fires
// for each client.
type idle struct {
	*target
	engine *policy.Engine
	now    time.Time
}

func newIdle(t testing.TB, every time.Duration) *idle {
	t.Helper()
	conf := Target{Name: "chat", Every: every}
	b := &idle{target: newTarget(conf, &Notifier{log: slog.New(slog.DiscardHandler)}), now: time.Unix(0, 0)}
	b.configure(conf)
	rule := &policy.Rule{Name: "everyone", At: policy.Stages(policy.Connect), Then: policy.Tempfail, Notify: []string{"chat"}}
	engine, err := policy.NewEngine(&policy.Policy{OnError: policy.Accept, Rules: []*policy.Rule{rule}}, policy.Options{Notify: b.fired})
	if err != nil {
		t.Fatal(err)
	}
	b.engine = engine
	return b
}

// connect is a connection of the i-th client.
func (b *idle) connect(t testing.TB, i int) {
	ev := &policy.Event{}
	ev.SetClient(netip.AddrFrom4([4]byte{198, byte(i >> 16), byte(i >> 8), byte(i)}), 40000, "")
	if _, err := b.engine.Decide(ev, policy.Connect, b.now); err != nil {
		t.Fatal(err)
	}
}

// taken is the client of what is queued; "" when nothing is.
func (b *idle) taken() string {
	select {
	case n := <-b.queue:
		return n.Key
	default:
		return ""
	}
}

// What is remembered has a bound: the oldest leaves, and is told again.
func TestMemoryIsBounded(t *testing.T) {
	b := newIdle(t, 31*24*time.Hour)
	for i := range maxTold + 1 {
		b.connect(t, i)
		if b.taken() == "" {
			t.Fatalf("client %d was not told", i)
		}
		b.now = b.now.Add(time.Minute)
	}
	if n := len(b.told); n != maxTold {
		t.Errorf("%d are remembered", n)
	}
	for _, row := range []struct {
		what string
		i    int
		want string
	}{
		{"the newest is remembered", maxTold, ""},
		{"the second one, too", 1, ""},
		{"the first one is not", 0, "198.0.0.0"},
	} {
		b.connect(t, row.i)
		if got := b.taken(); got != row.want {
			t.Errorf("%s: told %q, want %q", row.what, got, row.want)
		}
	}
}

// What may be told again anyway leaves first, all of it.
func TestMemoryForgetsWhatIsOver(t *testing.T) {
	b := newIdle(t, 24*time.Hour)
	for i := range maxTold + 1 {
		b.connect(t, i)
		b.taken()
		b.now = b.now.Add(time.Minute)
	}
	if n := len(b.told); n != 24*60 {
		t.Errorf("%d are remembered, want those of a day, one a minute", n)
	}
}

func TestAStepBackOfTheClockDoesNotSilence(t *testing.T) {
	b := newIdle(t, time.Hour)
	b.now = b.now.Add(48 * time.Hour)
	b.connect(t, 1)
	b.now = b.now.Add(-24 * time.Hour)
	b.connect(t, 1)
	if got, want := fmt.Sprint(b.taken(), " ", b.taken()), "198.0.0.1 198.0.0.1"; got != want {
		t.Errorf("told %q, want %q", got, want)
	}
}

// BenchmarkSuppressed is a decision whose rule fires and is not told again: what
// a flood costs.
func BenchmarkSuppressed(b *testing.B) {
	for _, row := range []struct {
		name   string
		notify func(policy.Firing)
	}{{"without notify", nil}, {"with notify", newIdle(b, time.Hour).fired}} {
		b.Run(row.name, func(b *testing.B) {
			rule := &policy.Rule{Name: "everyone", At: policy.Stages(policy.Connect), Then: policy.Tempfail, Notify: []string{"chat"}}
			engine, err := policy.NewEngine(&policy.Policy{OnError: policy.Accept, Rules: []*policy.Rule{rule}}, policy.Options{Notify: row.notify})
			if err != nil {
				b.Fatal(err)
			}
			ev := &policy.Event{}
			ev.SetClient(netip.MustParseAddr("198.51.100.7"), 40000, "")
			now := time.Unix(0, 0)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := engine.Decide(ev, policy.Connect, now); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// A key may be a piece of a client's longer text, which is not remembered with it.
func TestAKeyIsRememberedWithoutTheTextThatItIsAPieceOf(t *testing.T) {
	b := newIdle(t, time.Hour)
	domains := &policy.Series{
		Definition: series.Definition{Name: "domains", Type: series.String, Interval: time.Minute, Windows: 1, MaxKeys: 1000},
		Adds:       []policy.Add{{At: policy.Stages(policy.Mail), Key: policy.Key{{Attribute: policy.SenderDomain}}, Amount: policy.Amount{N: 1}}},
	}
	rule := &policy.Rule{
		Name: "each", At: policy.Stages(policy.Mail), Then: policy.Reject, Notify: []string{"chat"},
		If: []policy.Condition{{Reading: policy.Reading{Series: "domains"}}},
	}
	var err error
	b.engine, err = policy.NewEngine(&policy.Policy{OnError: policy.Accept, Series: []*policy.Series{domains}, Rules: []*policy.Rule{rule}}, policy.Options{Notify: b.fired})
	if err != nil {
		t.Fatal(err)
	}
	before := heap()
	for i := range PerHour {
		ev := &policy.Event{}
		ev.SetSender("<@" + strings.Repeat("a", 50_000) + fmt.Sprintf(":a@d%d.test>", i))
		if _, err := b.engine.Decide(ev, policy.Mail, b.now); err != nil {
			t.Fatal(err)
		}
		b.taken()
	}
	if kept := heap() - before; len(b.told) != PerHour || kept > 1e6 {
		t.Errorf("%d keys take %d bytes", len(b.told), kept)
	}
}

func heap() int {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

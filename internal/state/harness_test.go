package state

import (
	"bytes"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/audit-milter/audit-milter/internal/deltas"
	"github.com/audit-milter/audit-milter/policy"
	"github.com/audit-milter/audit-milter/series"
)

// node counts as a daemon does, and tells a store by the tick of a clock that the test
// owns.
type node struct {
	now       time.Time
	kept      []policy.Kept
	snapshots []series.Snapshot // of the one that is under way
	penalties map[penalized]policy.Penalty
	changed   []policy.Penalty
	number    uint64
}

// These have few trees on any machine: a snapshot takes a step for each at least.
var (
	byAddress = series.Definition{Name: "connections", Type: series.IP, Interval: time.Minute, Windows: 4, MaxKeys: 4096}
	byText    = series.Definition{Name: "recipients", Type: series.String, Interval: 10 * time.Minute, Windows: 3, MaxKeys: 4096}
	ofValues  = series.Definition{Name: "senders", Type: series.IP, Interval: time.Minute, Windows: 3, MaxKeys: 4096}

	sender = policy.Term{Attribute: policy.Sender}
)

// penalized is whose penalty it is.
type penalized struct {
	rule   string
	shadow bool
	policy.Subject
}

func newNode() *node {
	n := &node{now: time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC), penalties: make(map[penalized]policy.Penalty)}
	n.keep(newLasting(byAddress, nil))
	n.keep(newLasting(byText, nil))
	n.keep(newLasting(ofValues, &policy.Distinct{Of: sender, Mask: series.Host}))
	for _, k := range n.kept {
		k.Counter.Begin(n.now)
	}
	return n
}

func newLasting(def series.Definition, of *policy.Distinct) *policy.Lasting {
	var masks []series.Mask
	if of != nil {
		masks = []series.Mask{{IPv4: 24, IPv6: 64}}
	}
	l, err := policy.NewLasting(def, of, masks)
	if err != nil {
		panic(err)
	}
	return l
}

func (n *node) keep(l *policy.Lasting) {
	l.Counter.Follow()
	n.kept = append(n.kept, policy.Kept{Lasting: l, Persist: true})
}

// restart goes on with what was restored.
func (n *node) restart(r Restored) {
	n.kept, n.snapshots, n.changed = nil, nil, nil
	n.penalties = make(map[penalized]policy.Penalty)
	for _, l := range r.Series {
		n.keep(l)
	}
	for _, p := range r.Penalties {
		n.penalties[penalized{p.Rule, p.Shadow, p.Subject}] = p
	}
	n.number = r.Number
}

// act lets something happen.
func (n *node) act(r *rand.Rand) {
	ip := series.AddrKey(netip.AddrFrom4([4]byte{10, 0, byte(r.IntN(3)), byte(r.IntN(40))}))
	if r.IntN(4) == 0 {
		ip = series.AddrKey(netip.AddrFrom16([16]byte{0x20, 1, 15: byte(r.IntN(20))}))
	}
	text := series.TextKey(fmt.Sprintf("user%d", r.IntN(60)))
	switch r.IntN(30) {
	case 0:
		n.kept[0].Counter.Remove(ip)
	case 1:
		n.kept[2].Counter.Remove(ip)
	case 2, 3:
		n.penalize(policy.Subject{Text: text.String()}, n.now.Add(time.Duration(r.IntN(600))*time.Second))
	case 4:
		n.penalize(policy.Subject{Network: netip.PrefixFrom(ip.Addr(), 20).Masked()}, n.now.Add(time.Hour))
	case 5:
		for who := range n.penalties {
			n.penalize(who.Subject, time.Time{})
			break
		}
	default:
		n.kept[0].Counter.(*series.Series).Add(ip, 1+int64(r.IntN(3)), n.now)
		n.kept[1].Counter.(*series.Series).Add(text, 1, n.now)
		n.kept[2].Counter.(*series.Distinct).Add(ip, fmt.Sprint(r.IntN(300)), n.now)
	}
}

func (n *node) penalize(s policy.Subject, until time.Time) {
	p := policy.Penalty{Rule: "flood", Subject: s, Until: until}
	if until.IsZero() {
		delete(n.penalties, penalized{"flood", false, s})
	} else {
		n.penalties[penalized{"flood", false, s}] = p
	}
	n.changed = append(n.changed, p)
}

// tick makes the next batch; a snapshot goes on by a few keys.
func (n *node) tick(begin bool, step int) *deltas.Batch {
	n.number++
	b := &deltas.Batch{Number: n.number, Now: n.now, Begin: begin, Series: make([]deltas.Series, len(n.kept))}
	if begin {
		n.snapshots = nil
		for _, k := range n.kept {
			n.snapshots = append(n.snapshots, k.Counter.Snapshot())
		}
	}
	for i, k := range n.kept {
		b.Series[i] = deltas.Series{Kept: k, Begun: k.Counter.Begun(n.now)}
		k.Counter.Deltas(func(d series.Delta) { b.Series[i].Deltas = append(b.Series[i].Deltas, d) })
	}
	b.End = n.goOn(b, step)
	b.Penalties, n.changed = n.changed, nil
	if begin {
		b.Penalties = slices.AppendSeq(b.Penalties, maps.Values(n.penalties))
	}
	return b
}

func (n *node) goOn(b *deltas.Batch, step int) (end bool) {
	if n.snapshots == nil {
		return false
	}
	for i, snapshot := range n.snapshots {
		for snapshot != nil {
			if step--; step < 0 {
				return false
			}
			if !snapshot.Next(func(d series.Delta) { b.Series[i].Deltas = append(b.Series[i].Deltas, d) }) {
				n.snapshots[i], snapshot = nil, nil
			}
		}
	}
	n.snapshots = nil
	return true
}

// told is all that counts and all penalties that run, as a text that is the same for
// the same state.
func told(all []*policy.Lasting, penalties []policy.Penalty, now time.Time) string {
	var lines []string
	for _, l := range all {
		for k, counts := range l.Counter.All(now) {
			lines = append(lines, fmt.Sprintf("%s %v %v", l.Definition.Name, k, counts))
		}
		if len(l.Masks) > 0 {
			network := series.AddrKey(netip.MustParseAddr("10.0.1.0"))
			lines = append(lines, fmt.Sprintf("%s network %d", l.Definition.Name, l.Counter.Count(network, l.Masks[0], 0, 2, now)))
		}
	}
	for _, p := range penalties {
		if p.Until.After(now) {
			lines = append(lines, fmt.Sprintf("%s %v %v %v", p.Rule, p.Shadow, p.Subject, p.Until.UnixNano()))
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// mustBeIn fails unless the directory has what the node has counted.
func (n *node) mustBeIn(t *testing.T, dir string) {
	t.Helper()
	s, restored := mustOpen(t, dir)
	defer mustClose(t, s)
	if got, want := told(restored.Series, restored.Penalties, n.now), n.told(); got != want {
		t.Errorf("restored\n%s\nwant\n%s", got, want)
	}
}

func (n *node) told() string {
	var all []*policy.Lasting
	for _, k := range n.kept {
		all = append(all, k.Lasting)
	}
	return told(all, slices.Collect(maps.Values(n.penalties)), n.now)
}

// logged is what was logged.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (l *logged) options() Options {
	return Options{Log: slog.New(slog.NewTextHandler(l, nil))}
}

// mustOpen opens a state of which the log hears.
func (l *logged) mustOpen(t testing.TB, dir string) (*Store, Restored) {
	t.Helper()
	s, restored, err := Open(dir, l.options())
	if err != nil {
		t.Fatal(err)
	}
	return s, restored
}

func mustOpen(t testing.TB, dir string) (*Store, Restored) {
	t.Helper()
	return new(logged).mustOpen(t, dir)
}

func mustClose(t testing.TB, s *Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

package policy

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/audit-milter/audit-milter/series"
)

// decisionLog writes what the engine did. Its callers choose the event, never
// the format. It keeps a flood out of the log: of one rule's refusals for one
// key only the first ten in a minute are written, then their number.
type decisionLog struct {
	log  *slog.Logger
	adds bool // each add is a debug line
	all  bool // write every refusal

	held    *held
	repeats *atomic.Uint64 // how many refusals were not written
}

// held is what the log holds back.
type held struct {
	minute atomic.Int64 // Unix minute

	mu   sync.Mutex // owns seen and said
	seen map[ruleKey]int
	said map[topic]time.Time // what is worth a line now and then, and when it last had one
}

type ruleKey struct {
	rule, key string
	verdict   Action
	shadow    bool
}

const (
	loggedEach  = 10          // refusals by one rule for one key in a minute that are logged each
	maxSeen     = 10_000      // rules and keys that are told apart in a minute; about 2 MB
	sharedEvery = time.Hour   // one line about a rule's shared key
	failedEvery = time.Minute // one line about failures at a stage
)

func newDecisionLog(log *slog.Logger, all bool, held *held, repeats *atomic.Uint64) decisionLog {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return decisionLog{
		log:  log,
		adds: log.Enabled(context.Background(), slog.LevelDebug),
		all:  all,
		held: held,

		repeats: repeats,
	}
}

func newHeld() *held {
	return &held{seen: make(map[ruleKey]int), said: make(map[topic]time.Time)}
}

// verdict writes the one line of a verdict; accept at debug level.
func (l *decisionLog) verdict(ev *Event, v *Verdict, now time.Time) {
	level := slog.LevelInfo
	if v.Action == Accept {
		level = slog.LevelDebug
	}
	if !l.log.Enabled(context.Background(), level) || v.Refuses() && !l.first(ev, v) {
		return
	}
	attrs := []slog.Attr{
		slog.String("stage", v.Stage.String()),
		slog.String("verdict", v.Action.String()),
		slog.String("rule", v.Rule),
	}
	if v.Shadow {
		attrs = append(attrs, slog.Bool("shadow", true))
	}
	if v.Series != "" {
		attrs = append(attrs,
			slog.String("series", v.Series),
			clientText("key", v.Subject()),
			slog.String("windows", v.Windows()),
			slog.Int64("count", v.Count),
			v.Threshold.attr())
		attrs = v.appendBase(attrs)
	}
	if v.Penalty > 0 {
		attrs = append(attrs, slog.String("penalty", FullSeconds(v.Penalty).String()))
	}
	for _, a := range logged {
		if text := (Term{Attribute: a}).text(ev); text != "" {
			attrs = append(attrs, clientText(a.String(), text))
		}
	}
	l.log.LogAttrs(context.Background(), level, "verdict", attrs...)
}

// attr is a number where the threshold is one.
func (t Threshold) attr() slog.Attr {
	if t.Unit == Plain {
		return slog.Int64("threshold", t.N)
	}
	return slog.String("threshold", t.String())
}

// appendBase adds what a share or a multiple is of: a count, or a sum by the
// number of windows that it is over.
func (m *Measure) appendBase(attrs []slog.Attr) []slog.Attr {
	switch m.Threshold.Unit {
	case Percent:
		return append(attrs, slog.Int64("of", m.Base))
	case Times:
		return append(attrs, slog.String("baseline", fmt.Sprintf("%d/%d", m.Base, m.Baseline.windows())))
	}
	return attrs
}

// clientText is an attribute of a line whose value a client chose.
func clientText(name, text string) slog.Attr { return slog.String(name, shown(text)) }

// shown is a client's text as a line of the log has it: no longer than a key, and
// cut as one, so that the one is found by the other. The handler escapes what
// would end the line; JSON's leaves what harms a terminal all the same, such as
// C1 controls and changes of direction.
func shown(text string) string {
	return strings.Map(func(r rune) rune {
		if r >= 0x7f && !unicode.IsPrint(r) {
			return utf8.RuneError
		}
		return r
	}, boundedKey(text))
}

// first reports whether a refusal is still to be written in this minute. A rule
// without conditions has no key; the client stands for it.
func (l *decisionLog) first(ev *Event, v *Verdict) bool {
	if l.all {
		return true
	}
	k := ruleKey{v.Rule, v.Subject(), v.Action, v.Shadow}
	if v.Series == "" {
		k.key = ev.ClientAddress
	}
	l.held.mu.Lock()
	defer l.held.mu.Unlock()
	if _, known := l.held.seen[k]; !known && len(l.held.seen) < maxSeen {
		k.key = strings.Clone(k.key) // it may be a piece of something larger
	} else if !known {
		k.key = "" // one line for all further keys of the rule
	}
	l.held.seen[k]++
	if l.held.seen[k] <= loggedEach {
		return true
	}
	l.repeats.Add(1)
	return false
}

// tick writes, once a minute is over, what it held back, and reports that it
// was.
func (l *decisionLog) tick(now time.Time) bool {
	minute := now.Unix() / 60
	before := l.held.minute.Load()
	if before == minute || !l.held.minute.CompareAndSwap(before, minute) {
		return false
	}
	l.flush()
	return true
}

// flush writes how many verdicts of each rule and key were not logged.
func (l *decisionLog) flush() {
	l.held.mu.Lock()
	defer l.held.mu.Unlock()
	for k, n := range l.held.seen {
		if n <= loggedEach {
			continue
		}
		attrs := []slog.Attr{slog.String("verdict", k.verdict.String()), slog.String("rule", k.rule)}
		if k.key != "" {
			attrs = append(attrs, clientText("key", k.key))
		}
		if k.shadow {
			attrs = append(attrs, slog.Bool("shadow", true))
		}
		attrs = append(attrs, slog.Int("times", n-loggedEach))
		l.log.LogAttrs(context.Background(), slog.LevelInfo, "verdict repeated", attrs...)
	}
	clear(l.held.seen)
}

// add writes what was added, or taken back: an amount, or a value.
func (l *decisionLog) add(ev *Event, s Stage, name string, key series.Key, what slog.Attr) {
	if !l.adds {
		return
	}
	l.log.LogAttrs(context.Background(), slog.LevelDebug, "add",
		slog.String("stage", s.String()),
		slog.String("series", name),
		clientText("key", key.String()),
		what,
		slog.String("session", ev.Session))
}

// topic is what may be said only every so often, of one of few: a rule, or a
// stage.
type topic struct{ what, of string }

// due reports whether it may be said now.
func (l *decisionLog) due(what topic, every time.Duration, now time.Time) bool {
	l.held.mu.Lock()
	defer l.held.mu.Unlock()
	if last, ok := l.held.said[what]; ok && now.Sub(last).Abs() < every {
		return false
	}
	l.held.said[what] = now
	return true
}

// failure writes, once a minute, an error that no verdict could tell.
func (l *decisionLog) failure(ev *Event, s Stage, err error, now time.Time) {
	if l.due(topic{"failure", s.String()}, failedEvery, now) {
		l.log.Error("not counted", "stage", s.String(), "session", ev.Session, "error", err)
	}
}

// sharedKey writes once an hour that a rule would have fired for a key that
// many share.
func (l *decisionLog) sharedKey(rule, name string, key series.Key, now time.Time) {
	if l.due(topic{"shared key", rule}, sharedEvery, now) {
		l.log.Warn("a rule does not fire for a shared key; allow_shared_key: true in the rule would let it",
			"rule", rule, "series", name, clientText("key", key.String()))
	}
}

// limit writes that counts of a series stopped at the limit of 64 bits.
func (l *decisionLog) limit(name string, adds uint64) {
	l.log.Warn("counts stopped at the limit of 64 bits", "series", name, "adds", adds)
}

// evicted writes that keys of a series had to leave, and which networks still
// count what they had counted.
func (l *decisionLog) evicted(d series.Definition, evicted []series.Evicted) {
	var keys uint64
	var amount int64
	var folded []string
	for _, e := range evicted {
		keys, amount = keys+e.Keys, series.Plus(amount, e.Amount)
		if e.Bits != series.Nowhere {
			folded = append(folded, fmt.Sprintf("%d in %s", e.Amount, blocksOf(e)))
		}
	}
	attrs := []slog.Attr{
		slog.String("series", d.Name),
		slog.Int("max_keys", d.MaxKeys),
		slog.Uint64("keys", keys),
		slog.Int64("amount", amount),
	}
	if d.Type.IsAddress() && folded != nil {
		attrs = append(attrs, slog.String("still_counted", strings.Join(folded, ", ")))
	}
	l.log.LogAttrs(context.Background(), slog.LevelWarn, "max_keys reached: keys were evicted", attrs...)
}

// blocksOf names the blocks that still count what was evicted.
func blocksOf(e series.Evicted) string {
	if e.IPv6 {
		return fmt.Sprintf("IPv6 /%d", e.Bits)
	}
	return fmt.Sprintf("IPv4 /%d", e.Bits)
}

// step writes that the wall clock was set.
func (l *decisionLog) step(by time.Duration) {
	l.log.Warn("the clock was set", "by", by.String())
}

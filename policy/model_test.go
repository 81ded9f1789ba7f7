package policy_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/audit-milter/audit-milter/internal/short"
	"github.com/audit-milter/audit-milter/policy"
	"github.com/audit-milter/audit-milter/series"
)

// A model is a random policy written down in the plainest way: a list of all that was
// added, and rules that go through it. It is compared with the engine in random
// dialogues, while the clock is set.
type model struct {
	*rand.Rand
	now    time.Time
	shadow bool
	plain  bool // all rules tempfail, by counts above a number, and the clock goes on
	series []*modelSeries
	rules  []*modelRule
	line   time.Duration // what has passed for penalties
	newest time.Time     // what the line has seen
}

type modelSeries struct {
	name       string
	key        string // "" for an address
	interval   time.Duration
	windows    int
	adds       []modelAdd
	counted    []*modelCount
	newest     time.Time
	window     int64
	firstWhole int64 // the first window that it has counted from its begin
}

type modelAdd struct {
	at     []policy.Stage
	amount int64
	leaky  bool
}

type modelCount struct {
	key    string
	amount int64
	window int64
}

type modelCondition struct {
	of               *modelSeries
	mask             int // of IPv4; of IPv6 it is four times that
	op               string
	threshold        int64
	from, to         int
	sliding          bool
	share            *modelSeries // a percentage of its current window
	baseFrom, baseTo int          // a multiple of their mean, where there are any
	minimum          int64
	allow            bool
}

type modelRule struct {
	name, then string
	at         []policy.Stage
	all, any   []modelCondition
	shadow     bool
	header     bool
	delay      int
	penalty    time.Duration
	ends       map[string]time.Duration // of penalties, on the line
}

// modelSession is a dialogue, and what rules have left for its message.
type modelSession struct {
	ev             *policy.Event
	exempt         bool
	exemptMessage  bool
	marked, marker string
	wouldDiscard   bool
	headers        []string
}

var modelStages = []policy.Stage{policy.Connect, policy.Helo, policy.Mail, policy.Rcpt, policy.Data, policy.EOM}

func (m *model) chance(n int) bool { return m.IntN(n) == 0 }

// stages are some from the given one on.
func (m *model) stages(from policy.Stage) (at []policy.Stage) {
	for len(at) == 0 {
		for _, s := range modelStages {
			if s >= from && m.chance(3) {
				at = append(at, s)
			}
		}
	}
	return at
}

func stagesText(at []policy.Stage) string { return policy.Stages(at...).String() }

func (m *model) yaml() string {
	var b strings.Builder
	if m.shadow = m.chance(6) && !m.plain; m.shadow {
		b.WriteString("mode: shadow\n")
	}
	b.WriteString("series:\n")
	for i := range 1 + m.IntN(3) {
		s := &modelSeries{name: fmt.Sprint("s", i), interval: []time.Duration{10 * time.Second, time.Minute, 7 * time.Minute}[m.IntN(3)], windows: 1 + m.IntN(6)}
		typ, from := "ip", policy.Connect
		if m.chance(2) {
			s.key, typ, from = "sender", "string", policy.Mail
		}
		fmt.Fprintf(&b, "  %s: {type: %s, interval: %d, windows: %d, add: [", s.name, typ, s.interval/time.Second, s.windows)
		for range 1 + m.IntN(2) {
			a := modelAdd{m.stages(from), []int64{1, 1, 3, -1}[m.IntN(4)], m.chance(2)}
			fmt.Fprintf(&b, "{at: [%s], count: %d, leaky: %v", stagesText(a.at), a.amount, a.leaky)
			if s.key != "" {
				b.WriteString(", key: " + s.key)
			}
			b.WriteString("}, ")
			s.adds = append(s.adds, a)
		}
		b.WriteString("]}\n")
		m.series = append(m.series, s)
	}
	b.WriteString("rules:\n")
	for i := range 1 + m.IntN(5) {
		b.WriteString(m.rule(i))
	}
	return b.String()
}

func (m *model) rule(i int) string {
	r := &modelRule{
		name: fmt.Sprint("r", i), then: []string{"tempfail", "reject", "disconnect", "accept", "discard", "quarantine", ""}[m.IntN(7)],
		shadow: m.chance(5) && !m.plain, delay: max(0, m.IntN(12)-4), ends: make(map[string]time.Duration),
	}
	if m.plain {
		r.then = "tempfail"
	}
	r.header = r.then == "" || m.chance(4)
	from := policy.Connect
	if r.header || r.then == "discard" || r.then == "quarantine" {
		from = policy.Mail
	}
	allow := m.chance(3)
	var conditions strings.Builder
	for _, list := range []struct {
		name string
		to   *[]modelCondition
		n    int
	}{{"if", &r.all, m.IntN(3)}, {"any", &r.any, 1 + m.IntN(2)}} {
		fmt.Fprintf(&conditions, ", %s: [", list.name)
		for range list.n {
			c, text := m.condition()
			c.allow = allow
			if c.of.key != "" {
				from = max(from, policy.Mail)
			}
			*list.to = append(*list.to, c)
			conditions.WriteString(text + ", ")
		}
		conditions.WriteString("]")
	}
	r.at = m.stages(from)
	if m.chance(3) {
		r.penalty = []time.Duration{20 * time.Second, 5 * time.Minute, time.Hour}[m.IntN(3)]
	}
	text := fmt.Sprintf("  - {name: %s, at: [%s], allow_shared_key: %v", r.name, stagesText(r.at), allow)
	for _, part := range []struct {
		given bool
		text  string
	}{
		{r.then != "", "then: " + r.then},
		{r.shadow, "mode: shadow"},
		{r.header, "header: 'X-Rule: " + r.name + "'"},
		{r.delay > 0, fmt.Sprintf("delay: %d", r.delay)},
		{r.penalty > 0, fmt.Sprintf("penalty: %d", r.penalty/time.Second)},
	} {
		if part.given {
			text += ", " + part.text
		}
	}
	m.rules = append(m.rules, r)
	return strings.ReplaceAll(text+conditions.String(), ", if: []", "") + "}\n"
}

func (m *model) condition() (c modelCondition, text string) {
	c.of = m.series[m.IntN(len(m.series))]
	last := c.of.windows
	if m.chance(3) {
		c.from = m.IntN(last)
	}
	c.to = c.from + m.IntN(last-c.from)
	c.op = []string{"above", "above", "at_least", "below", "at_most"}[m.IntN(5)]
	c.threshold, c.mask, c.minimum = int64(m.IntN(9)), 32, 1+int64(m.IntN(4))
	unit := ""
	other := m.series[m.IntN(len(m.series))]
	if m.plain {
		c.op, c.threshold = []string{"above", "at_least"}[m.IntN(2)], c.threshold+1
	}
	switch kind := m.IntN(4); {
	case kind == 0 && c.from == 0 && c.to > 0:
		c.sliding = true
		unit = ", sliding: true"
	case kind == 1 && c.to+1 < last && !m.plain:
		c.baseFrom = c.to + 1 + m.IntN(last-c.to-1)
		c.baseTo = c.baseFrom + m.IntN(last-c.baseFrom)
		unit = fmt.Sprintf("x, baseline: {windows: %d-%d}, min: %d", c.baseFrom, c.baseTo, c.minimum)
	case kind == 2 && other.key == c.of.key && !m.plain:
		c.share = other
		c.threshold *= 20
		unit = fmt.Sprintf("%%, of: {series: %s, windows: 0}, min: %d", other.name, c.minimum)
	}
	text = fmt.Sprintf("{series: %s, windows: %d-%d, %s: %d%s", c.of.name, c.from, c.to, c.op, c.threshold, unit)
	if c.of.key == "" && m.chance(2) {
		c.mask = []int{16, 23, 24, 31}[m.IntN(4)]
		text += fmt.Sprintf(", mask: {ipv4: %d, ipv6: %d}", c.mask, 4*c.mask)
	}
	return c, text + "}"
}

// set sets the clock for all series and penalties.
func (m *model) set(now time.Time) {
	m.now = now
	for _, s := range m.series {
		number := func(t time.Time) int64 { return t.Unix() / int64(s.interval/time.Second) }
		switch {
		case s.newest.IsZero():
			s.window, s.newest = number(now), now
			s.firstWhole = number(now.Add(s.interval - 1))
		case !now.Before(s.newest):
			s.window += number(now) - number(s.newest)
			s.newest = now
		case s.newest.Sub(now) >= s.interval:
			s.newest = now
		}
	}
	switch passed := now.Sub(m.newest); {
	case m.newest.IsZero() || passed < -time.Minute:
		m.newest = now
	case passed > 0:
		m.newest, m.line = now, m.line+passed
	}
}

func (s *modelSeries) keyOf(ev *policy.Event) string {
	if s.key == "" {
		return ev.ClientAddress
	}
	return ev.Sender
}

// block is what counts as one with a key.
func (c *modelCondition) block(key string) string {
	addr, err := netip.ParseAddr(key)
	if err != nil {
		return key
	}
	return netip.PrefixFrom(addr, addr.BitLen()*c.mask/32).Masked().String()
}

// counts are all windows of a key, under a mask.
func (c *modelCondition) counts(s *modelSeries, key string, block func(string) string) []int64 {
	counts := make([]int64, s.windows)
	for _, n := range s.counted {
		if age := s.window - n.window; age < int64(s.windows) && block(n.key) == block(key) {
			counts[age] += n.amount
		}
	}
	return counts
}

func (c *modelCondition) holds(ev *policy.Event) bool {
	key := c.of.keyOf(ev)
	if !c.asks(key) {
		return false
	}
	counts := c.counts(c.of, key, c.block)
	count := policy.Sum(counts, c.from, c.to)
	switch interval := int64(c.of.interval); {
	case c.sliding:
		rest := interval - c.of.newest.UnixNano()%interval
		return compared(policy.Sum(counts, 0, c.to-1)*interval+counts[c.to]*rest, c.op, c.threshold*interval)
	case c.baseTo > 0:
		sum := max(0, policy.Sum(counts, c.baseFrom, c.baseTo))
		return c.of.window-c.of.firstWhole >= int64(c.baseTo) && count >= c.minimum &&
			compared(count*int64(c.baseTo-c.baseFrom+1), c.op, c.threshold*sum)
	case c.share != nil:
		of := c.counts(c.share, key, func(key string) string { return key })[0]
		return of >= c.minimum && compared(count*100, c.op, c.threshold*of)
	}
	return compared(count, c.op, c.threshold)
}

func compared(a int64, op string, b int64) bool {
	return a > b && (op == "above" || op == "at_least") || a < b && (op == "below" || op == "at_most") ||
		a == b && (op == "at_least" || op == "at_most")
}

// asks reports whether the key is one that a rule may hold against somebody.
func (c *modelCondition) asks(key string) bool {
	return c.allow || key != "<>" && key != "127.0.0.1" && (key != "192.0.2.1" || c.mask < 24)
}

// fires is the condition that a firing is about; nil if the rule does not fire.
func (r *modelRule) fires(ev *policy.Event) *modelCondition {
	for i := range r.all {
		if !r.all[i].holds(ev) {
			return nil
		}
	}
	for i := range r.any {
		if r.any[i].holds(ev) {
			return &r.decisive()[min(i, len(r.decisive())-1)]
		}
	}
	return nil
}

func (r *modelRule) decisive() []modelCondition {
	if len(r.all) > 0 {
		return r.all[:1]
	}
	return r.any
}

// judge is whether the rule fires, by its conditions or by a penalty.
func (m *model) judge(r *modelRule, ev *policy.Event) bool {
	if c := r.fires(ev); c != nil {
		about := c.block(c.of.keyOf(ev))
		r.ends[about] = max(r.ends[about], m.line+r.penalty)
		return true
	}
	return m.penalized(r, ev)
}

// decide is what the engine has to answer.
func (m *model) decide(s *modelSession, at policy.Stage) string {
	var leaky []*modelCount
	for _, each := range m.series {
		for _, a := range each.adds {
			if !slices.Contains(a.at, at) {
				continue
			}
			n := &modelCount{each.keyOf(s.ev), a.amount, each.window}
			each.counted = append(each.counted, n)
			if a.leaky {
				leaky = append(leaky, n)
			}
		}
	}
	action, rule, delay := "continue", "", 0
	takeBack := at == policy.EOM && s.wouldDiscard
	for _, r := range m.rules {
		if s.exempt || s.exemptMessage || action != "continue" {
			break
		}
		if !slices.Contains(r.at, at) || !m.judge(r, s.ev) {
			continue
		}
		refuses := refusal(r.then, at)
		switch {
		case r.shadow:
			takeBack = takeBack || refuses
			s.wouldDiscard = s.wouldDiscard || r.then == "discard"
			continue
		case refuses && s.ev.Unheard.Has(at):
			continue
		}
		delay = max(delay, r.delay)
		if r.header && !slices.Contains(s.headers, r.name) {
			s.headers = append(s.headers, r.name)
		}
		if r.then != "" {
			action, rule = r.then, r.name
		}
	}
	switch {
	case action == "accept" && at <= policy.Helo:
		s.exempt = true
	case action == "accept" && at != policy.Rcpt:
		s.exemptMessage = true
	case action == "discard", action == "quarantine" && s.marked != "discard":
		s.marked, s.marker = action, rule
	}
	if at == policy.EOM && s.marked != "" && !refusal(action, at) {
		action, rule = s.marked, s.marker
	}
	if takeBack || refusal(action, at) {
		for _, n := range leaky {
			n.amount = 0
		}
	}
	var headers []string
	if at == policy.EOM && !refusal(action, at) {
		headers = s.headers
	}
	if m.shadow {
		action, rule, delay, headers = "continue", "", 0, nil
	}
	return fmt.Sprint(action, " ", rule, " ", delay, " ", headers)
}

// firesUntil is when the event, coming again at the stage, does not fire the rule, in
// full seconds; 0 where that is never.
func (m *model) firesUntil(r *modelRule, ev *policy.Event, at policy.Stage) time.Duration {
	for wait := time.Second; wait < 90*time.Minute; wait += time.Second {
		if !m.firesAgain(r, ev, at, wait) {
			return wait
		}
	}
	return 0
}

// firesAgain reports whether the rule fires when the event comes again after a while,
// of which nothing is kept.
func (m *model) firesAgain(r *modelRule, ev *policy.Event, at policy.Stage, after time.Duration) bool {
	then := &model{now: m.now, newest: m.newest, line: m.line}
	for _, s := range m.series {
		was := *s
		defer func() { *s = was }()
		then.series = append(then.series, s)
	}
	then.set(m.now.Add(after))
	for _, s := range m.series {
		for _, a := range s.adds {
			if slices.Contains(a.at, at) {
				s.counted = append(slices.Clip(s.counted), &modelCount{s.keyOf(ev), a.amount, s.window})
			}
		}
	}
	return r.fires(ev) != nil || then.penalized(r, ev)
}

// penalized reports whether a penalty of the rule runs for the event.
func (m *model) penalized(r *modelRule, ev *policy.Event) bool {
	return r.penalty > 0 && slices.ContainsFunc(r.decisive(), func(c modelCondition) bool {
		key := c.of.keyOf(ev)
		return c.asks(key) && r.ends[c.block(key)] > m.line
	})
}

func refusal(action string, at policy.Stage) bool {
	return action == "tempfail" || action == "reject" || action == "disconnect" || action == "discard" && at == policy.EOM
}

// said is the engine's answer in the words of the model.
func said(v policy.Verdict) string {
	var headers []string
	for _, h := range v.Headers {
		headers = append(headers, h.Value)
	}
	return fmt.Sprint(v.Action, " ", v.Rule, " ", int(v.Delay/time.Second), " ", headers)
}

// steps of the clock, some of which are no more than time that passes.
func (m *model) step() time.Duration {
	d := time.Duration(m.IntN(30)) * time.Second
	return []time.Duration{d, d, d, d, 10 * d, -d, -10 * d, time.Hour, -time.Hour, 87600 * time.Hour, -87600 * time.Hour}[m.IntN(11)]
}

// setClock does so now and then, and lets all know of it.
func (m *model) setClock(w *world) {
	if d := m.step(); m.chance(3) && w.now.Add(d).Year() > 1980 && w.now.Add(d).Year() < 2100 {
		w.now = w.now.Add(d)
	}
	m.set(w.now)
	w.engine.Penalties(w.now)
	for _, c := range w.engine.Counters() {
		c.Begin(w.now)
	}
}

// agrees is the engine's verdict, which has to be what the model says.
func (m *model) agrees(t *testing.T, w *world, text string, s *modelSession, at policy.Stage) policy.Verdict {
	t.Helper()
	want := m.decide(s, at)
	v, err := w.engine.Decide(s.ev, at, w.now)
	if got := said(v); err != nil || got != want {
		t.Fatalf("%s\nat %s, %s from %s at %s: %s, want %s; %v", text, w.now, at, s.ev.Sender, s.ev.ClientAddress, got, want, err)
	}
	return v
}

func TestTheEngineIsTheModel(t *testing.T) {
	for seed := range uint64(short.Part(400, 40)) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			m := &model{Rand: rand.New(rand.NewPCG(seed, 1))}
			text := m.yaml()
			w := newWorld(t, text)
			m.talk(w, func(s *modelSession, at policy.Stage) {
				m.setClock(w)
				m.agrees(t, w, text, s, at)
			})
			m.compare(t, w, text)
		})
	}
}

// Who is told when to try again gets through then, and not before; and so long rules
// fire that explain says when they do not any more.
func TestRulesFireUntilTheySay(t *testing.T) {
	for seed := range uint64(short.Part(120, 12)) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			m := &model{Rand: rand.New(rand.NewPCG(seed, 2)), plain: true}
			text := m.yaml()
			w := newWorld(t, text)
			m.talk(w, func(s *modelSession, at policy.Stage) {
				if m.chance(3) {
					w.now = w.now.Add(time.Duration(m.IntN(100)) * time.Second)
				}
				m.set(w.now)
				v := m.agrees(t, w, text, s, at)
				if !m.chance(8) {
					return
				}
				check := func(who string, r *modelRule, at policy.Stage, got time.Duration) {
					if want := m.firesUntil(r, s.ev, at); want > 0 && max(policy.FullSeconds(got), time.Second) != want {
						t.Fatalf("%s\nat %s, %s from %s: %s says %s of %s, want %s", text, w.now, s.ev.Sender, s.ev.ClientAddress, who, got, r.name, want)
					}
				}
				if v.Rule != "" {
					check(at.String(), m.ruleNamed(v.Rule), at, v.RetryAfter)
				}
				x, _ := w.engine.Explain(s.ev.ClientAddress, false, w.now)
				for i := 0; x != nil && i < len(x.Rules); i++ {
					if one := &x.Rules[i]; one.Fires == policy.Yes && one.Ends.Known {
						check("explain", m.ruleNamed(one.Rule.Name), policy.End, one.Ends.After) // where nothing is added
					}
				}
			})
		})
	}
}

func (m *model) ruleNamed(name string) *modelRule {
	return m.rules[slices.IndexFunc(m.rules, func(r *modelRule) bool { return r.name == name })]
}

// A reload that gives series other numbers of windows changes no decision and no count
// that is left, wherever the clock has been set.
func TestTheEngineIsTheModelOverReloads(t *testing.T) {
	for seed := range uint64(short.Part(200, 20)) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			m := &model{Rand: rand.New(rand.NewPCG(seed, 5))}
			text := m.yaml()
			w := newWorld(t, text)
			fewest := make(map[*modelSeries]int) // as many as conditions read
			for _, s := range m.series {
				fewest[s] = s.windows
			}
			m.talk(w, func(s *modelSession, at policy.Stage) {
				m.setClock(w)
				if at == policy.Mail && m.chance(3) {
					for _, s := range m.series {
						text = s.rewind(text, fewest[s]+m.IntN(4))
					}
					w.follow(text)
				}
				m.agrees(t, w, text, s, at)
			})
			m.compare(t, w, text)
		})
	}
}

// rewind gives the series another number of windows, also in the policy.
func (s *modelSeries) rewind(text string, windows int) string {
	s.counted = slices.DeleteFunc(s.counted, func(n *modelCount) bool { return s.window-n.window >= int64(min(windows, s.windows)) })
	begin, rest, _ := strings.Cut(text, s.name+": {type")
	was := fmt.Sprintf("windows: %d", s.windows)
	s.windows = windows
	return begin + s.name + ": {type" + strings.Replace(rest, was, fmt.Sprintf("windows: %d", windows), 1)
}

// talk goes through dialogues.
func (m *model) talk(w *world, next func(*modelSession, policy.Stage)) {
	for range 30 {
		s := &modelSession{ev: w.client([]string{"198.51.100.1", "198.51.100.2", "198.51.101.9", "2001:db8:1::1", "2001:db8:1::ff:1", "127.0.0.1", "192.0.2.1", "192.0.2.77"}[m.IntN(8)])}
		if m.chance(3) {
			s.ev.Unheard = policy.StageSet(m.IntN(1 << policy.EOM))
		}
		next(s, policy.Connect)
		next(s, policy.Helo)
		for range 1 + m.IntN(3) {
			s.ev.ResetMessage()
			*s = modelSession{ev: s.ev, exempt: s.exempt}
			s.ev.SetSender([]string{"<>", "<a@b.test>", "<c@d.test>"}[m.IntN(3)])
			next(s, policy.Mail)
			for range m.IntN(3) {
				next(s, policy.Rcpt)
			}
			if m.chance(4) {
				continue // RSET
			}
			next(s, policy.Data)
			next(s, policy.EOM)
		}
	}
}

// compare looks at the counts that are left.
func (m *model) compare(t *testing.T, w *world, text string) {
	for _, s := range m.series {
		c := modelCondition{of: s, mask: 32}
		for _, n := range s.counted {
			key := series.TextKey(n.key)
			if addr, err := netip.ParseAddr(n.key); err == nil {
				key = series.AddrKey(addr)
			}
			got, _ := w.engine.Counter(s.name).Counts(nil, key, series.Host, w.now)
			if want := c.counts(s, n.key, c.block); !slices.Equal(got, want) {
				t.Fatalf("%s\n%s of %s: %d, want %d", text, s.name, n.key, got, want)
			}
		}
	}
}

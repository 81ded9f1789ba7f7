package policy

import (
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"github.com/expr-lang/expr/vm"
)

// Engine counts and judges. It is safe for use by all sessions at one time;
// an [Event] belongs to one of them.
type Engine struct {
	policy *Policy
	uses   Uses
	stages [numStages]plan
	series []*Lasting
	open   *Lasting // open_sessions
	own    map[netip.Addr]bool
	clock  clockWatch
	log    decisionLog
	stats  *Stats
	notify func(Firing)

	rules      []*rule // in the order of the configuration
	penalizing []*rule // those that give penalties
}

// plan is what happens at one stage, in the order of the configuration.
type plan struct {
	adds  []*add
	rules []*rule
}

// Options are an engine's surroundings.
type Options struct {
	Log *slog.Logger // nil for none

	// Start is when all series begin to count; the zero Time stands for the first
	// event of each.
	Start time.Time

	// OwnAddresses are this host's: keys that no rule may hold against a
	// client (allow_shared_key).
	OwnAddresses []netip.Addr

	// Monotonic reads a clock that no step touches, in nanoseconds, at the
	// moment that now tells. The default uses the monotonic part of now.
	Monotonic func(now time.Time) time.Duration

	// Notify hears of each firing of a rule with `notify`, in the path of the
	// decision: it must return at once. Nil hears nothing.
	Notify func(Firing)
}

// NewEngine prepares a policy that passed [Policy.Check].
func NewEngine(p *Policy, o Options) (*Engine, error) {
	e, _, err := noEngine(o).Successor(p, o)
	return e, err
}

// noEngine is what the first one follows.
func noEngine(o Options) *Engine {
	return &Engine{
		open:  newOpenSessions(),
		clock: newClockWatch(o.Monotonic),
		log:   decisionLog{held: newHeld()},
		stats: new(Stats),
	}
}

func (e *Engine) planAdds(s *Series, to *Lasting) {
	for _, each := range s.Adds {
		a := &add{Add: each, Lasting: to}
		a.Key = a.Key.orClient(s.Type)
		for at := range a.At.All {
			e.stages[at].adds = append(e.stages[at].adds, a)
		}
	}
}

func (e *Engine) planRule(r *Rule) error {
	compiled, err := e.newRule(r)
	if err != nil {
		return err
	}
	e.rules = append(e.rules, compiled)
	for at := range r.At.All {
		e.stages[at].rules = append(e.stages[at].rules, compiled)
	}
	if compiled.penalties != nil {
		e.penalizing = append(e.penalizing, compiled)
	}
	return nil
}

// Rules are those of the policy, in its order. They are not to be changed.
func (e *Engine) Rules() []*Rule { return e.policy.Rules }

// Uses is what the engine needs of the MTA.
func (e *Engine) Uses() Uses { return e.uses }

// Stats are what the engine did, and those before it.
func (e *Engine) Stats() *Stats { return e.stats }

// Close writes what the log still holds back.
func (e *Engine) Close() {
	e.log.flush()
	e.tellLimits()
}

// tellLimits logs what there is to say of each series since the last time.
func (e *Engine) tellLimits() {
	for _, r := range e.series {
		r.tell(&e.log)
	}
}

// state is what the engine remembers of a session between its events.
type state struct {
	open    opened
	exempt  bool // accept at connect or helo
	message messageState
	answers answers
	counted []counted // what the event in hand has added, for leaky and {retry_after}
	counts  []int64   // scratch: the windows of the condition in hand
	vm      vm.VM
}

// messageState is what rules before eom left for the message.
type messageState struct {
	exempt  bool // accept at mail, data or eoh
	marked  Verdict
	headers []ruleHeaders
	lateID  *lateID // once there was a decision

	wouldDiscard bool // a shadow rule has marked it so
}

// ruleHeaders are what one rule puts into the message. Each firing replaces
// what the one before it said, so a message of many recipients stays small.
type ruleHeaders struct {
	rule   *rule
	fields []HeaderField
}

func (m *messageState) mark(r *rule, fields []HeaderField) {
	if len(fields) == 0 {
		return
	}
	for i := range m.headers {
		if m.headers[i].rule == r {
			m.headers[i].fields = fields
			return
		}
	}
	m.headers = append(m.headers, ruleHeaders{r, fields})
}

// fields are the headers of all rules, in the order in which they first fired.
func (m *messageState) fields() (all []HeaderField) {
	for _, h := range m.headers {
		all = append(all, h.fields...)
	}
	return all
}

// Decide counts the event at its stage and judges it. At EOM the verdict
// carries what earlier rules marked. The adds happen whatever the verdict.
//
// An error says that the daemon itself failed at this event; the verdict is
// then what on_error says.
func (e *Engine) Decide(ev *Event, s Stage, now time.Time) (Verdict, error) {
	e.watch(now)
	e.stats.events[s].Add(1)
	ev.state.answers.forget(s.begins())
	ev.state.counted = ev.state.counted[:0]
	if s == Connect {
		e.enter(ev, now)
	}
	err := e.add(ev, s, now)
	v := Verdict{Stage: s}
	takeBack := false
	if err == nil {
		v, takeBack, err = e.judge(ev, s, now)
	}
	if err != nil {
		e.stats.failures[s].Add(1)
		v = e.Failure()
		v.Stage = s
	}
	e.remember(ev, &v, s)
	if takeBack || v.RefusesAt(s) && (e.policy.Shadow || e.heard(ev, s)) {
		e.takeBack(ev, s) // an answer that nobody waits for refuses nothing
	}
	if e.policy.Shadow {
		return Verdict{Stage: s, Shadow: true}, err
	}
	return v, err
}

// heard reports whether the MTA waits for the answer at the stage.
func (e *Engine) heard(ev *Event, s Stage) bool {
	return e.uses.Answered.Has(s) && !ev.Unheard.Has(s)
}

// Failure is the verdict of a daemon that cannot judge: what on_error says; in
// global shadow, nothing.
func (e *Engine) Failure() (v Verdict) {
	if e.policy.OnError == Tempfail && !e.policy.Shadow {
		v.Action = Tempfail
		v.Reply = Reply{451, "4.3.0", v.sentence()}
	}
	return v
}

// judge asks the stage's rules in file order; the first one that fires and is
// enforced decides. It also reports whether a shadow rule would have refused, at
// eom also by a discard from an earlier stage.
func (e *Engine) judge(ev *Event, s Stage, now time.Time) (v Verdict, shadowRefusal bool, err error) {
	v = Verdict{Stage: s}
	m := &ev.state.message
	shadowRefusal = s == EOM && m.wouldDiscard
	for _, r := range e.stages[s].rules {
		if ev.state.exempt || m.exempt {
			break
		}
		fired, err := r.judge(e, ev, s, now)
		if err != nil {
			return v, shadowRefusal, fmt.Errorf("rule %s: %w", r.Name, err)
		}
		if fired == nil {
			continue
		}
		unheard := fired.RefusesAt(s) && ev.Unheard.Has(s)
		fired.Shadow = r.shadow || unheard
		e.record(ev, r, fired, now)
		if r.Shadow || unheard {
			shadowRefusal = shadowRefusal || r.Shadow && fired.RefusesAt(s)
			m.wouldDiscard = m.wouldDiscard || r.Shadow && fired.Action == Discard
			continue
		}
		v.Delay = max(v.Delay, fired.Delay)
		m.mark(r, fired.Headers)
		if fired.Action != Continue {
			fired.Delay, fired.Headers = v.Delay, nil
			v = *fired
			break
		}
	}
	return v, shadowRefusal, nil
}

// record counts and keeps that a rule fired, and tells who wants to hear of it.
func (e *Engine) record(ev *Event, r *rule, v *Verdict, now time.Time) {
	decisions := r.decisions
	if v.Shadow != r.shadow { // it went unheard
		decisions = e.stats.decisions(RuleVerdict{r.Name, r.Then, true})
	}
	decisions.Add(1)
	e.stats.Recent.add(ev, v, now)
	e.log.verdict(ev, v, now)
	e.tell(ev, r, v, now)
}

// remember keeps what a verdict means for later stages, and at eom brings it
// out again: a refusal wins over a discard, a discard over a quarantine.
func (e *Engine) remember(ev *Event, v *Verdict, s Stage) {
	m := &ev.state.message
	switch {
	case v.Action == Accept && v.Stage <= Helo:
		ev.state.exempt = true
	case v.Action == Accept && v.Stage != Rcpt:
		m.exempt = true
	case v.Action == Quarantine && m.marked.Action != Discard, v.Action == Discard:
		m.marked = *v
		m.marked.Delay = 0
	}
	if s != EOM {
		return
	}
	if m.marked.Action != Continue && !v.Refuses() {
		delay := v.Delay
		*v = m.marked
		v.Delay = delay
	}
	if !v.Refuses() {
		v.Headers = m.fields()
	}
}

// Count counts an outcome. For a refusal, see [Engine.Refuse].
func (e *Engine) Count(ev *Event, outcome Stage, now time.Time) {
	e.watch(now)
	e.stats.events[outcome].Add(1)
	ev.state.counted = ev.state.counted[:0]
	if err := e.add(ev, outcome, now); err != nil {
		e.stats.failures[outcome].Add(1)
		e.log.failure(ev, outcome, err, now)
	}
}

// Refuse counts a verdict that refuses and really goes out.
func (e *Engine) Refuse(ev *Event, v Verdict, now time.Time) {
	ev.Outcome = v.outcome()
	e.Count(ev, Refused, now)
	ev.Outcome = Outcome{}
}

// watch notices steps of the clock and the end of a minute of the log.
func (e *Engine) watch(now time.Time) {
	if step := e.clock.step(now); step != 0 {
		e.log.step(step)
	}
	e.EndMinute(now)
}

// EndMinute lets the log tell, once a minute is over, what it held back. Events do so
// as well; it is for when none come.
func (e *Engine) EndMinute(now time.Time) {
	if e.log.tick(now) {
		e.tellLimits()
	}
}

// ruleNamed is the one of that name; nil when there is none.
func ruleNamed(rules []*rule, name string) *rule {
	for _, r := range rules {
		if r.Name == name {
			return r
		}
	}
	return nil
}

func ruleNames(rules []*rule) []string {
	names := make([]string, len(rules))
	for i, r := range rules {
		names[i] = r.Name
	}
	return names
}

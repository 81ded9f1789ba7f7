package milter

import (
	"cmp"

	wire "github.com/emersion/go-milter"

	"github.com/audit-milter/audit-milter/policy"
)

// Terms are what a [Server] serves by, and what a reload can change.
type Terms struct {
	Engine *policy.Engine

	// MaxSessions is how many connections may be served at one time; those
	// above are answered on_error at connect. 0 means DefaultMaxSessions.
	MaxSessions int

	// MaxDelayed is how many answers may wait at one time; those above go out
	// without delay.
	MaxDelayed int

	Timeouts Timeouts
}

// DefaultMaxSessions is the bound of a [Server] whose terms have none.
const DefaultMaxSessions = 2000

// regime is terms in force, with what their engine needs of an MTA.
type regime struct {
	Terms
	wants *demand
}

// InForce are the terms that new sessions begin by.
func (s *Server) InForce() Terms { return s.inForce.Load().Terms }

// Adopt puts terms in force: once before the first Serve, and then at every
// reload. New sessions begin by them. Those that are there turn to them with
// their next message, as far as what they negotiated reaches; a message in
// progress ends as it began.
//
// It reports how many sessions lack something that the new policy needs, since
// they negotiated for another one, and of which stages.
func (s *Server) Adopt(t Terms) (behind int, lacking policy.StageSet) {
	t.MaxSessions = cmp.Or(t.MaxSessions, DefaultMaxSessions)
	t.Timeouts = t.Timeouts.orDefault()
	current := &regime{t, newDemand(t.Engine.Uses())}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inForce.Store(current)
	s.sessions.max = t.MaxSessions
	for l := range s.sessions.links {
		agreed := l.agreed.Load()
		if agreed == nil {
			continue
		}
		if lacks := current.wants.beyond(*agreed); lacks != 0 {
			behind++
			lacking |= lacks
		}
	}
	return behind, lacking
}

// follow takes terms, between two messages. What was negotiated stays, so that
// the MTA waits for the answers that it waited for before: a rule of the new
// policy at another stage is not heard there.
func (s *session) follow(r *regime) {
	if s.by == r {
		return
	}
	s.by = r
	s.link.waits = &r.Timeouts
	s.ev.Unheard, s.ev.Unknown = r.wants.unheard(s.agreed), r.wants.unknown(s.agreed)
	s.msg.received = make([]int, len(r.wants.uses.Replaced))
}

// pact is what an MTA has agreed to, and the demand that asked for it.
type pact struct {
	offer
	asked *demand
}

// unheard are the stages at which the policy answers, and where an MTA with
// which this was agreed does not wait.
func (d *demand) unheard(agreed pact) (stages policy.StageSet) {
	for _, s := range switches {
		if d.uses.Answered.Has(s.stage) && agreed.protocol&(s.off|s.noReply) != 0 {
			stages = stages.With(s.stage)
		}
	}
	return stages
}

// unknown are the attributes that the policy reads and that do not come where this
// was agreed: their macros were not asked for, or where they come from is not shown.
func (d *demand) unknown(agreed pact) (set policy.AttributeSet) {
	if agreed.asked == d {
		return 0
	}
	for a := range (d.uses.Attributes &^ agreed.asked.uses.Attributes).All {
		if !agreed.brings(a) {
			set = set.With(a)
		}
	}
	return set
}

// brings reports whether an attribute comes although nobody has asked for it. The
// queue id counts as such: it is often not there at all.
func (p pact) brings(a policy.Attribute) bool {
	switch a {
	case policy.Header, policy.FromDomain:
		return p.protocol&wire.OptNoHeaders == 0
	case policy.MessageSize:
		return p.protocol&(wire.OptNoHeaders|wire.OptNoBody) == 0
	case policy.QueueID:
		return true
	}
	return !isMacro(a) && p.hidden()&a.Source() == 0
}

// hidden are the stages that are not shown.
func (p pact) hidden() (stages policy.StageSet) {
	for _, s := range switches {
		if p.protocol&s.off != 0 {
			stages = stages.With(s.stage)
		}
	}
	return stages
}

// beyond are the stages that the policy needs, and that are not shown, not waited
// for, or shown without something that it reads or may do, where this was agreed.
func (d *demand) beyond(agreed pact) policy.StageSet {
	stages := d.unheard(agreed) | d.uses.Shown&agreed.hidden()
	if d.uses.Shown.Has(policy.RcptRefused) && agreed.protocol&wire.OptRcptRej == 0 {
		stages = stages.With(policy.RcptRefused)
	}
	if d.actions&^agreed.actions&^wire.OptSetSymList != 0 { // a header or quarantine goes out at eom
		stages = stages.With(policy.EOM)
	}
	for a := range d.unknown(agreed).All {
		stages |= comesWith(a)
	}
	return stages
}

// comesWith is the stages with which an attribute comes.
func comesWith(a policy.Attribute) policy.StageSet {
	switch a {
	case policy.Header, policy.FromDomain:
		return policy.Stages(policy.EOH)
	case policy.MessageSize:
		return policy.Stages(policy.EOM)
	}
	return a.Source()
}

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
// It reports how many sessions lack a stage that the new policy needs, since
// they negotiated for another one, and which stages those are.
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
	s.ev.Unheard = r.wants.unheard(s.agreed)
	s.msg.received = make([]int, len(r.wants.uses.Replaced))
}

// unheard are the stages at which the policy answers, and where an MTA with
// which this was agreed does not wait.
func (d *demand) unheard(agreed offer) (stages policy.StageSet) {
	for _, s := range switches {
		if d.uses.Answered.Has(s.stage) && agreed.protocol&(s.off|s.noReply) != 0 {
			stages = stages.With(s.stage)
		}
	}
	return stages
}

// beyond are the stages that the policy needs, and that are not shown or not
// waited for where this was agreed.
func (d *demand) beyond(agreed offer) policy.StageSet {
	stages := d.unheard(agreed)
	for _, s := range switches {
		if d.uses.Shown.Has(s.stage) && agreed.protocol&s.off != 0 {
			stages = stages.With(s.stage)
		}
	}
	if d.uses.Shown.Has(policy.RcptRefused) && agreed.protocol&wire.OptRcptRej == 0 {
		stages = stages.With(policy.RcptRefused)
	}
	return stages
}

package cluster

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/audit-milter/audit-milter/internal/deltas"
	"github.com/audit-milter/audit-milter/policy"
)

const (
	maxWishes = 256 << 10 // bytes, as they are told: 700 removals of the longest texts, some 4,000 of addresses
	maxEnds   = 10_000    // of penalties

	minForeign = 10_000 // penalties of others, before it is looked which of them run here
)

// standing are the removals that some node may still have to hear of, whoever has told
// them: so it does not matter which node, or whether the server, forgets them. Each
// snapshot of the penalties has all.
type standing struct {
	wishes []deltas.Wish
	size   int                             // bytes
	heard  map[wisher]uint64               // the number of the last wish that is known
	ends   map[policy.PenaltyKey]time.Time // when one was removed last, by the server's clock
}

// wisher numbers its wishes: a node in one of its lives.
type wisher struct{ node, life string }

func wisherOf(w *deltas.Wish) wisher { return wisher{w.Node, w.Life} }

func newStanding() standing {
	return standing{heard: make(map[wisher]uint64), ends: make(map[policy.PenaltyKey]time.Time)}
}

// put adds wishes, and reports whether older ones had to leave for them.
func (s *standing) put(all []deltas.Wish) (full bool) {
	for i := range all {
		s.size += all[i].Size()
	}
	s.wishes = append(s.wishes, all...)
	for s.size > maxWishes {
		full = true
		s.size -= s.wishes[0].Size()
		s.wishes = s.wishes[1:]
	}
	return full
}

// hear adds wishes that were not known. All tell those of one wisher in the order of their
// numbers, from some on without a gap.
func (s *standing) hear(all []deltas.Wish) {
	for _, w := range all {
		if who := wisherOf(&w); w.Number > s.heard[who] {
			s.heard[who] = w.Number
			s.put([]deltas.Wish{w})
		}
	}
}

// end notes that a penalty was removed and reports whether it was not known.
func (s *standing) end(p policy.Penalty) (isNew bool) {
	if s.isEnded(p) {
		return false
	}
	s.ends[p.Key()] = p.Since
	if len(s.ends) > maxEnds {
		times := slices.SortedFunc(maps.Values(s.ends), time.Time.Compare)
		s.forgetEnds(times[maxEnds/10]) // many at once, since to find them takes its time
	}
	return true
}

func (s *standing) forgetEnds(until time.Time) {
	maps.DeleteFunc(s.ends, func(_ policy.PenaltyKey, removed time.Time) bool { return !removed.After(until) })
}

// isEnded reports whether the penalty has been removed, of a removal whether one as late is
// known.
func (s *standing) isEnded(p policy.Penalty) bool {
	removed, ever := s.ends[p.Key()]
	return ever && p.IsEnded(removed)
}

// number gives numbers, from one on, to wishes of this life that have none, and returns
// them.
func (s *standing) number(from uint64) (fresh []deltas.Wish) {
	for i := range s.wishes {
		w := &s.wishes[i]
		if w.Number == 0 {
			who := wisherOf(w)
			s.heard[who] = max(s.heard[who]+1, from)
			w.Number = s.heard[who]
			fresh = append(fresh, *w)
		}
	}
	return fresh
}

// all are those that are still of use.
func (s *standing) all(now time.Time) (o deltas.Orders) {
	s.wishes = slices.DeleteFunc(s.wishes, func(w deltas.Wish) bool {
		if w.Until.After(now) {
			return false
		}
		s.size -= w.Size()
		return true
	})
	s.forgetEnds(now.Add(-policy.MaxPenalty))
	for k, removed := range s.ends {
		o.Ended = append(o.Ended, policy.Penalty{Rule: k.Rule, Shadow: k.Shadow, Subject: k.Subject, Since: removed})
	}
	o.Wishes = slices.SortedStableFunc(slices.Values(s.wishes), func(a, b deltas.Wish) int {
		return cmp.Or(cmp.Compare(a.Node, b.Node), cmp.Compare(a.Life, b.Life), cmp.Compare(a.Number, b.Number))
	})
	return o
}

// note notes what a batch has removed, whether it is taken or not, and returns which
// penalties it has ended.
func (c *Cluster) note(b *deltas.Batch) (ended []policy.Penalty) {
	wishes := c.wishesIn(b)
	c.mu.Lock()
	full := c.standing.put(wishes)
	for _, p := range b.Penalties {
		if p.Until.IsZero() && c.standing.end(c.byServer(p)) {
			ended = append(ended, c.byServer(p))
			c.foreign.Merge(p)
			c.Engine().EndPenalty(p, b.Now) // another node may have told it since then
		}
	}
	isNews := full && c.isNews("removals")
	c.mu.Unlock()
	if isNews {
		c.Log.Warn("cluster: so many keys were removed by hand that nodes which are away will not hear of the oldest removals", "bytes", maxWishes)
	}
	return ended
}

func (c *Cluster) wishesIn(b *deltas.Batch) (all []deltas.Wish) {
	for i := range b.Series {
		s := &b.Series[i]
		until := b.Now.Add(time.Duration(s.Definition.Windows+1) * s.Definition.Interval)
		for _, d := range s.Deltas {
			if !d.IsWish() {
				break // they are the first
			}
			all = append(all, deltas.Wish{Node: c.Node, Life: c.incarnation, Until: until, Series: s.Definition.Name, Delta: d})
		}
	}
	return all
}

// orders are the penalties that this node has imposed itself, and removals. A snapshot of
// them is whole at once: at its begin a batch tells all penalties that run.
func (c *Cluster) orders(all []entry, ch *chain, b *deltas.Batch, ended []policy.Penalty) []entry {
	c.mu.Lock()
	fresh := deltas.Orders{Imposed: c.ownPenalties(b.Penalties), Ended: ended, Wishes: c.standing.number(c.number)}
	var whole deltas.Orders
	if b.Begin {
		whole = c.standing.all(b.Now)
		whole.Imposed = fresh.Imposed
	}
	c.mu.Unlock()
	if b.Begin || len(fresh.Imposed)+len(fresh.Ended)+len(fresh.Wishes) > 0 {
		all = append(all, ch.batch(c.number, deltas.AppendOrders(nil, &fresh)))
	}
	if b.Begin {
		all = append(all, ch.part(c.number, deltas.AppendOrders(nil, &whole), true))
	}
	return all
}

// byServer is a penalty of this node with its times by the server's clock, as nodes tell
// them and removals stand, and byOwn one that was told by this node's. The lock is held.
func (c *Cluster) byServer(p policy.Penalty) policy.Penalty { return shifted(p, -c.ahead) }
func (c *Cluster) byOwn(p policy.Penalty) policy.Penalty    { return shifted(p, c.ahead) }

func shifted(p policy.Penalty, by time.Duration) policy.Penalty {
	if !p.Since.IsZero() {
		p.Since = p.Since.Add(by)
	}
	if !p.Until.IsZero() {
		p.Until = p.Until.Add(by)
	}
	return p
}

// hearOrders does what a node has told: it notes removals, ends penalties and runs those
// that have not been ended. Of the node "", this one, that is what it had told before.
func (c *Cluster) hearOrders(node string, o *deltas.Orders, now time.Time) {
	e := c.Engine()
	c.mu.Lock() // no end is noted between the two
	defer c.mu.Unlock()
	c.standing.hear(o.Wishes)
	for _, p := range o.Ended {
		if c.standing.end(p) {
			c.foreign.Merge(p)
		}
		e.EndPenalty(c.byOwn(p), now)
	}
	for _, p := range o.Imposed {
		if c.standing.isEnded(p) {
			continue
		}
		p = c.byOwn(p)
		if node != "" && !c.tellsOn(e, p.Key(), node, now) {
			c.foreign.Merge(p)
		}
		e.MergePenalty(p, now)
		if len(c.foreign) > c.foreignRoom {
			c.forgetForeign(e, now)
		}
	}
}

// tellsOn reports whether this node goes on to tell a penalty that it has imposed, and another
// one too: one of the two does, else a node that starts later would hear it from none. The
// lock is held.
func (c *Cluster) tellsOn(e Engine, k policy.PenaltyKey, node string, now time.Time) bool {
	_, isTheirs := c.foreign[k]
	return c.Node < node && !isTheirs && e.HasPenalty(k, now)
}

// forgetForeign forgets what others have told and does not run here: it has ended, it had to
// leave since a rule has too many, or the rule is none here. The lock is held.
func (c *Cluster) forgetForeign(e Engine, now time.Time) {
	maps.DeleteFunc(c.foreign, func(k policy.PenaltyKey, _ time.Time) bool { return !e.HasPenalty(k, now) })
	c.foreignRoom = 2*len(c.foreign) + minForeign
}

// ownPenalties are those that were imposed but for what others have told, so that each is
// told once, not by every node. What is left of a second is no reason to tell it again.
// The lock is held.
func (c *Cluster) ownPenalties(all []policy.Penalty) (own []policy.Penalty) {
	for _, p := range all {
		if theirs, ok := c.foreign[p.Key()]; !p.Until.IsZero() && (!ok || p.Until.Sub(theirs) > time.Second) {
			own = append(own, c.byServer(p))
		}
	}
	return own
}

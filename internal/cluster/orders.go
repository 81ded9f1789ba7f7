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
	maxWishes = 256 << 10 // bytes, as they are told: 900 removals of the longest texts, 8,000 of addresses
	maxEnds   = 10_000    // of penalties
)

// standing are the removals that some node may still have to hear of, whoever has told
// them: so it does not matter which node, or whether the server, forgets them. Each
// snapshot of the penalties has all.
type standing struct {
	node   string // this one
	wishes []deltas.Wish
	size   int                          // bytes
	heard  map[string]uint64            // by node: the number of its last wish that is known
	ends   map[policy.Penalty]time.Time // by penalty without its times: when all are over that ended with it
}

func newStanding(node string) standing {
	return standing{node: node, heard: make(map[string]uint64), ends: make(map[policy.Penalty]time.Time)}
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

// hear adds wishes that were not known. Each node tells those of a node in the order of
// their numbers, from some on without a gap.
func (s *standing) hear(all []deltas.Wish) (full bool) {
	var fresh []deltas.Wish
	for _, w := range all {
		if w.Number > s.heard[w.Node] {
			s.heard[w.Node] = w.Number
			fresh = append(fresh, w)
		}
	}
	return s.put(fresh)
}

// end notes the end of a penalty and reports whether it says anything new.
func (s *standing) end(p policy.Penalty) (isNew bool) {
	over := p.Over
	p.Over = time.Time{}
	if known, ended := s.ends[p]; ended && (policy.Penalty{Until: over}).IsOver(known) {
		return false
	}
	if s.ends[p] = over; len(s.ends) > maxEnds {
		delete(s.ends, s.firstOver())
	}
	return true
}

// firstOver is the penalty whose end is of no use first.
func (s *standing) firstOver() (first policy.Penalty) {
	var at time.Time
	for p, over := range s.ends {
		if at.IsZero() || over.Before(at) {
			first, at = p, over
		}
	}
	return first
}

// isOver reports whether the penalty has been ended.
func (s *standing) isOver(p policy.Penalty) bool {
	who := p
	who.Until = time.Time{}
	over, ended := s.ends[who]
	return ended && p.IsOver(over)
}

// number gives numbers, from one on, to wishes of this node that have none, and returns
// them.
func (s *standing) number(from uint64) (fresh []deltas.Wish) {
	for i := range s.wishes {
		w := &s.wishes[i]
		if w.Number == 0 {
			s.heard[s.node] = max(s.heard[s.node]+1, from)
			w.Number = s.heard[s.node]
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
	maps.DeleteFunc(s.ends, func(_ policy.Penalty, over time.Time) bool { return !over.After(now) })
	for p, over := range s.ends {
		p.Over = over
		o.Ended = append(o.Ended, p)
	}
	o.Wishes = slices.SortedStableFunc(slices.Values(s.wishes), func(a, b deltas.Wish) int {
		return cmp.Or(cmp.Compare(a.Node, b.Node), cmp.Compare(a.Number, b.Number))
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
		if p.Until.IsZero() && c.standing.end(p) {
			ended = append(ended, p)
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
			all = append(all, deltas.Wish{Node: c.Node, Until: until, Series: s.Definition.Name, Delta: d})
		}
	}
	return all
}

// orders are the penalties that this node has imposed itself, and removals. A snapshot of
// them is whole at once: at its begin a batch tells all penalties that run.
func (c *Cluster) orders(all []entry, ch *chain, b *deltas.Batch, ended []policy.Penalty) []entry {
	fresh := deltas.Orders{Imposed: c.ownPenalties(b.Penalties, b.Now), Ended: ended}
	var whole deltas.Orders
	c.mu.Lock()
	fresh.Wishes = c.standing.number(c.number)
	if b.Begin {
		whole = c.standing.all(b.Now)
	}
	c.mu.Unlock()
	if b.Begin || len(fresh.Imposed)+len(fresh.Ended)+len(fresh.Wishes) > 0 {
		all = append(all, ch.batch(c.number, deltas.AppendOrders(nil, &fresh)))
	}
	if b.Begin {
		whole.Imposed = fresh.Imposed
		all = append(all, ch.part(c.number, deltas.AppendOrders(nil, &whole), true))
	}
	return all
}

// hearOrders does what a node has told: it notes removals, ends penalties and runs those
// that have not been ended. Of the node "", this one, that is what it had told before.
func (c *Cluster) hearOrders(node string, o *deltas.Orders, now time.Time) {
	e := c.Engine()
	c.mu.Lock() // no end is noted between the two
	defer c.mu.Unlock()
	c.standing.hear(o.Wishes)
	for _, p := range o.Ended {
		c.standing.end(p)
		c.foreign.Merge(p)
		e.EndPenalty(p, now)
	}
	for _, p := range o.Imposed {
		if c.standing.isOver(p) {
			continue
		}
		if node != "" {
			c.foreign.Merge(p)
		}
		e.MergePenalty(p, now)
	}
}

// ownPenalties are those that were imposed but for what others have told, so that each is
// told once, not by every node. What is left of a second is no reason to tell it again.
func (c *Cluster) ownPenalties(all []policy.Penalty, now time.Time) (own []policy.Penalty) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.foreign.Running(now)
	for _, p := range all {
		who := p
		who.Until = time.Time{}
		if theirs, ok := c.foreign[who]; !p.Until.IsZero() && (!ok || p.Until.Sub(theirs) > time.Second) {
			own = append(own, p)
		}
	}
	return own
}

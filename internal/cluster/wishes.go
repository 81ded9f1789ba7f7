package cluster

import (
	"slices"
	"time"

	"github.com/audit-milter/audit-milter/internal/deltas"
	"github.com/audit-milter/audit-milter/policy"
)

// maxWishes is how many bytes of wishes a node keeps, as they are told: 3,000 removals of
// the longest texts, or some 50,000 of addresses. The oldest leave first.
const maxWishes = 1 << 20

// wishes are those of this node which others may still have to hear: until all has left
// that they are about, each snapshot of the penalties has them.
type wishes struct {
	kept []wish // in the order of their numbers; last those that have none yet
	size int    // bytes
	last uint64 // the highest number
}

type wish struct {
	deltas.Wish
	size int
}

// wishesIn are those that a batch has.
func (c *Cluster) wishesIn(b *deltas.Batch) (all []deltas.Wish) {
	for i := range b.Series {
		s := &b.Series[i]
		until := b.Now.Add(time.Duration(s.Definition.Windows+1) * s.Definition.Interval)
		for _, d := range s.Deltas {
			if !d.IsWish() {
				break // they are the first
			}
			all = append(all, deltas.Wish{Until: until, Series: s.Definition.Name, Delta: d})
		}
	}
	for _, p := range b.Penalties {
		if p.Until.IsZero() {
			all = append(all, deltas.Wish{Until: b.Now.Add(c.Engine().PenaltyLength(p.Rule)), Penalty: p})
		}
	}
	return all
}

// keep keeps wishes that have no number yet, and reports whether older ones had to leave
// for them.
func (w *wishes) keep(all []deltas.Wish) (full bool) { return w.put(len(w.kept), all) }

// readBack keeps what this node has wished in an earlier life, in its order.
func (w *wishes) readBack(all []deltas.Wish) (full bool) {
	all = slices.DeleteFunc(all, func(one deltas.Wish) bool { return one.Number <= w.last })
	if len(all) == 0 {
		return false
	}
	w.last = all[len(all)-1].Number
	return w.put(w.numbered(), all)
}

func (w *wishes) put(at int, all []deltas.Wish) (full bool) {
	for i, one := range all {
		size := len(deltas.AppendWishes(nil, []deltas.Wish{one}))
		w.kept = slices.Insert(w.kept, at+i, wish{one, size})
		w.size += size
	}
	for w.size > maxWishes {
		full = true
		w.size -= w.kept[0].size
		w.kept = w.kept[1:]
	}
	return full
}

// numbered is how many have a number.
func (w *wishes) numbered() int {
	at := slices.IndexFunc(w.kept, func(one wish) bool { return one.Number == 0 })
	if at < 0 {
		return len(w.kept)
	}
	return at
}

// ended reports whether the penalty was ended in this life.
func (w *wishes) ended(p policy.Penalty) bool {
	p.Until = time.Time{}
	return slices.ContainsFunc(w.kept[w.numbered():], func(one wish) bool { return one.Penalty == p })
}

// number gives numbers, from one on, to those that have none, and returns them.
func (w *wishes) number(from uint64) (fresh []deltas.Wish) {
	for i := w.numbered(); i < len(w.kept); i++ {
		w.last = max(w.last+1, from)
		w.kept[i].Number = w.last
		fresh = append(fresh, w.kept[i].Wish)
	}
	return fresh
}

// standing are all that are still of use.
func (w *wishes) standing(now time.Time) (all []deltas.Wish) {
	w.kept = slices.DeleteFunc(w.kept, func(one wish) bool {
		if one.Until.After(now) {
			return false
		}
		w.size -= one.size
		return true
	})
	for _, one := range w.kept {
		all = append(all, one.Wish)
	}
	return all
}

// keep keeps the wishes of a batch, for as long as others may still have to hear them.
func (c *Cluster) keep(all []deltas.Wish) { c.tellFull(c.ownWishes.keep, all) }

// readBack keeps those of an earlier life, and returns which of its penalties have not
// been ended in this one.
func (c *Cluster) readBack(imposed []policy.Penalty, all []deltas.Wish) []policy.Penalty {
	c.tellFull(c.ownWishes.readBack, all)
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.DeleteFunc(imposed, c.ownWishes.ended)
}

func (c *Cluster) tellFull(keep func([]deltas.Wish) bool, all []deltas.Wish) {
	c.mu.Lock()
	isNews := keep(all) && c.isNews("wishes")
	c.mu.Unlock()
	if isNews {
		c.Log.Warn("cluster: so many keys were removed by hand that nodes which are away will not hear of the oldest removals", "bytes", maxWishes)
	}
}

// wishesFor are the wishes that a batch tells, and those that a snapshot does which begins with
// it.
func (c *Cluster) wishesFor(b *deltas.Batch) (fresh, standing []deltas.Wish) {
	c.mu.Lock()
	defer c.mu.Unlock()
	fresh = c.ownWishes.number(c.number)
	if b.Begin {
		standing = c.ownWishes.standing(b.Now)
	}
	return fresh, standing
}

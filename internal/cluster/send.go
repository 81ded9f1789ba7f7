package cluster

import (
	"context"
	"time"

	"github.com/audit-milter/audit-milter/internal/deltas"
)

// send sends what waits, until the context ends, and then what still waits, if that
// takes no longer than a second.
func (c *Cluster) send(ctx context.Context, l *link) {
	retry := time.NewTicker(deltas.Interval)
	defer retry.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-c.wake:
		case <-retry.C: // what could not be sent
		}
		for ctx.Err() == nil && c.sendSome(ctx, l) {
		}
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	for c.sendSome(last, l) {
	}
}

// sendSome sends the first that waits and reports whether that worked and was not all.
func (c *Cluster) sendSome(ctx context.Context, l *link) (more bool) {
	some, size := c.first()
	if len(some) == 0 {
		return false
	}
	answers, err := l.append(ctx, some)
	if len(answers) > 0 && !c.sent(some, answers, size) {
		return false
	}
	if err != nil {
		if ctx.Err() == nil {
			c.failing(writing, err)
		}
		return false
	}
	c.works(writing)
	return true
}

// first is what waits for the longest time.
func (c *Cluster) first() (some []entry, size int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range c.waiting {
		if size += c.waiting[i].size(); size > sendAtOnce && i > 0 {
			return c.waiting[:i:i], size - c.waiting[i].size()
		}
	}
	return c.waiting[:len(c.waiting):len(c.waiting)], size
}

// sent takes away what the server has written, and lets go the rest if it has lost what
// that stands on.
func (c *Cluster) sent(some []entry, answers []int64, size int64) (whole bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.waiting) == 0 || c.waiting[0].chain != some[0].chain || c.waiting[0].number != some[0].number {
		return false // it was let go meanwhile
	}
	for i, answer := range answers {
		if answer != written {
			c.lost(&some[i], answer)
			return false
		}
		if some[i].last && some[i].lasting != nil { // a snapshot is whole
			c.rest = beginEvery
		}
		c.status.Sent += some[i].size()
		c.waitingBytes -= some[i].size()
		c.waiting[0] = entry{}
		c.waiting = c.waiting[1:]
	}
	return true
}

// lost begins anew. The lock is held.
func (c *Cluster) lost(e *entry, answer int64) {
	c.letGo()
	name := ""
	if e.lasting != nil {
		name = e.lasting.Definition.Name
	}
	if answer < 0 {
		c.above = max(c.above, uint64(-answer))
		return
	}
	if c.isNews("lost") {
		c.Log.Warn("cluster: the server has lost what this node has sent, or another process uses its name: all is sent again", "node", c.Node, "series", name)
	}
}

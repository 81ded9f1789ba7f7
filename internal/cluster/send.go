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
	some := c.first()
	if len(some) == 0 {
		return false
	}
	begun := time.Now()
	answers, err := l.append(ctx, some)
	c.pace(time.Since(begun), err)
	if len(answers) > 0 && !c.sent(some, answers) {
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

// pace lets a slow link have less at once: all that was sent comes again if the answer does
// not come in time, and what the reader asks meanwhile waits behind it.
func (c *Cluster) pace(took time.Duration, err error) {
	switch slow := answerWithin / 10; {
	case err != nil || took > slow:
		c.atOnce = max(c.atOnce/2, minAtOnce)
	case took < slow/4:
		c.atOnce = min(2*c.atOnce, maxAtOnce)
	}
}

// first is what waits for the longest time.
func (c *Cluster) first() []entry {
	c.mu.Lock()
	defer c.mu.Unlock()
	var size int64
	for i := range c.waiting {
		if size += c.waiting[i].size(); size > c.atOnce && i > 0 {
			return c.waiting[:i:i]
		}
	}
	return c.waiting[:len(c.waiting):len(c.waiting)]
}

// sent takes away what the server has written, and lets go the rest if it has lost what
// that stands on.
func (c *Cluster) sent(some []entry, answers []int64) (whole bool) {
	whole, lost := c.noteSent(some, answers)
	if lost != nil {
		c.Log.Warn("cluster: the server has lost what this node has sent, or another process uses its name: all is sent again", "node", c.Node, "series", titleOf(lost.name()))
	}
	return whole
}

// noteSent is sent without the log; lost is an entry that was refused, if that is to be
// told.
func (c *Cluster) noteSent(some []entry, answers []int64) (whole bool, lost *entry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.waiting) == 0 || c.waiting[0].chain != some[0].chain || c.waiting[0].number != some[0].number {
		return false, nil // it was let go meanwhile
	}
	for i, answer := range answers {
		if answer != written {
			if c.refused(answer) {
				lost = &some[i]
			}
			return false, lost
		}
		if some[i].last && some[i].lasting != nil { // a snapshot is whole
			c.rest = beginEvery
		}
		c.status.Sent += some[i].size()
		c.waitingBytes -= some[i].size()
		c.waiting[0] = entry{}
		c.waiting = c.waiting[1:]
	}
	return true, nil
}

// refused begins anew, and reports whether that is to be told. The lock is held.
func (c *Cluster) refused(answer int64) (isNews bool) {
	c.letGo()
	if answer < 0 {
		c.above = max(c.above, uint64(-answer))
		return false
	}
	return c.isNews("lost")
}

// name is the series'; "" of the penalties.
func (ch *chain) name() string {
	if ch.lasting == nil {
		return ""
	}
	return ch.lasting.Definition.Name
}

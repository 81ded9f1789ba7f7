package cluster

import (
	"context"
	"time"
)

// watch says which nodes go and come, until the context ends.
func (c *Cluster) watch(ctx context.Context) {
	ticks := time.NewTicker(heartbeat)
	defer ticks.Stop()
	away := make(map[string]bool)
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticks.C:
			c.tellChanges(away)
		}
	}
}

// tellChanges says what has changed since the last time, which away has. While the
// server does not answer nothing is known of any node, and that is said elsewhere.
func (c *Cluster) tellChanges(away map[string]bool) {
	s, now := c.Status(), c.Now()
	if !s.IsReachable() {
		return
	}
	for _, n := range s.Nodes {
		was, known := away[n.Name]
		is := n.IsAway(now)
		away[n.Name] = is
		switch {
		case is && (!known || !was):
			c.Log.Warn("cluster: a node is away: what it counts comes when it is back", "node", n.Name, "seen", n.Seen, "counts", s.Remote(now))
		case !is && !known:
			c.Log.Info("cluster: a node is there", "node", n.Name, "role", n.Role, "version", n.Version, "counts", s.Remote(now))
		case !is && was:
			c.Log.Info("cluster: a node is back", "node", n.Name, "counts", s.Remote(now))
		}
	}
}

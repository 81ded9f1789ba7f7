package cluster

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/audit-milter/audit-milter/policy"
)

// Status is how the cluster looks from this node. Times are by this node's clock.
type Status struct {
	Name      string // of the cluster
	Node      string // this one
	Role      string // its: node or manager
	Version   string // its program's
	Addresses []string

	Contact time.Time // when the server has answered last; zero: never
	Error   string    // why it does not answer now; "": it does

	Waiting    int64     // bytes that wait for the server, at most 16 MiB beside what a snapshot begins with
	Sent       int64     // bytes
	LetGo      int64     // batches and parts of snapshots that snapshots made up for
	SnapshotAt time.Time // when the last one was begun; zero: there is none yet

	Ahead  time.Duration // of this node's clock to the server's; negative: it is behind
	Margin time.Duration // that this may be wrong

	Nodes []NodeStatus // the others, by name
}

// NodeStatus is how another node looks from this one.
type NodeStatus struct {
	Name     string
	Role     string // node or manager
	Version  string
	Sessions int64 // that are open there

	Seen time.Time     // when it was heard of last
	UpTo time.Time     // all that it had sent by then counts here; zero: not all yet
	Lag  time.Duration // from a batch's making to its counting here, of the last one
	Read int64         // bytes that it has told

	Ahead  time.Duration // of its clock to this node's; negative: it is behind
	Skewed bool          // that is more than one interval of a series

	Behind  []string // series whose snapshot is waited for; "" stands for the penalties
	Differs []string // series that are defined in another way there
}

// Status is for any goroutine.
func (c *Cluster) Status() Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.status
	s.Name, s.Node, s.Role, s.Version, s.Addresses = c.Name, c.Node, c.role(), c.Version, c.Addresses
	s.Waiting, s.SnapshotAt = c.waitingBytes, c.begun
	s.Nodes = slices.Clone(s.Nodes)
	for _, who := range slices.Sorted(maps.Keys(c.errors)) { // several are told as one of them, always the same
		s.Error = who + ": " + policy.Printable(c.errors[who].Error())
	}
	return s
}

// publish lets Status tell of the others.
func (r *reader) publish() {
	nodes := make([]NodeStatus, 0, len(r.nodes))
	for name, p := range r.nodes {
		nodes = append(nodes, r.nodeStatus(name, p))
	}
	slices.SortFunc(nodes, func(a, b NodeStatus) int { return cmp.Compare(a.Name, b.Name) })
	r.mu.Lock()
	defer r.mu.Unlock()
	r.status.Nodes, r.status.Ahead, r.status.Margin = nodes, r.clock.ahead, r.clock.margin
}

func (r *reader) nodeStatus(name string, p *presence) NodeStatus {
	h := r.heard[name]
	s := NodeStatus{
		Name: name, Role: p.Role, Version: p.Version, Sessions: int64(p.Sessions),
		Seen: p.seen, Lag: h.lag, Read: h.bytes,
		Ahead: p.skew() - r.clock.ahead, Skewed: r.isSkewed(p),
	}
	for _, t := range r.topics {
		switch f := t.feeds[name]; {
		case f == nil:
		case f.other:
			s.Differs = append(s.Differs, t.name)
		case f.behind:
			s.Behind = append(s.Behind, t.name)
		}
	}
	slices.Sort(s.Differs)
	slices.Sort(s.Behind)
	if s.Behind == nil {
		h.upTo = r.Now()
		if r.Now().Sub(p.seen) > 3*heartbeat {
			h.upTo = p.seen
		}
	}
	s.UpTo = h.upTo
	return s
}

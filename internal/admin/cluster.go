package admin

import (
	"net/http"
	"time"

	"github.com/audit-milter/audit-milter/internal/cluster"
)

// Cluster is the answer of /api/v1/cluster: how the cluster looks from this node.
type Cluster struct {
	Name    string `json:"name"`
	Node    string `json:"node"` // this one
	Role    string `json:"role"` // node or manager
	Version string `json:"version"`

	Remote         string        `json:"remote"` // how much of the cluster the counts have, in words
	Server         ClusterServer `json:"server"`
	WaitingBatches int           `json:"waiting_batches"` // that this node has not told yet
	WaitingBytes   int64         `json:"waiting_bytes"`
	DroppedBatches uint64        `json:"dropped_batches"` // since the start; a snapshot makes up for them
	SentBytes      int64         `json:"sent_bytes"`      // since the start
	Nodes          []ClusterNode `json:"nodes"`           // the others, ordered by name
}

// ClusterServer is the server by which the nodes hear of each other.
type ClusterServer struct {
	Addresses   []string   `json:"addresses"`
	Reachable   bool       `json:"reachable"`
	Since       *time.Time `json:"since,omitempty"` // missing before the first attempt
	Error       string     `json:"error,omitempty"`
	Epoch       string     `json:"epoch"`              // another one: the server had lost its data
	SkewSeconds float64    `json:"clock_skew_seconds"` // by which its clock is ahead of this node's
}

// ClusterNode is another node, as this one knows it.
type ClusterNode struct {
	Name          string     `json:"name"`
	Role          string     `json:"role"`
	Version       string     `json:"version"`
	State         string     `json:"state"` // ok, or what is wrong
	Away          bool       `json:"away"`
	LastSeen      *time.Time `json:"last_seen,omitempty"`   // missing: never
	LagSeconds    *float64   `json:"lag_seconds,omitempty"` // how old its counts are here; missing: there are none
	SkewSeconds   float64    `json:"clock_skew_seconds"`    // by which its clock is ahead of this node's
	ReceivedBytes int64      `json:"received_bytes"`        // since the start
	Mismatched    []string   `json:"mismatched_series"`     // defined otherwise there, so that their counts are not mixed
}

// errNoCluster answers what only a cluster has.
var errNoCluster = fail(http.StatusNotFound, "this daemon is in no cluster; the key cluster of its configuration joins one")

func showCluster(q *question) (Cluster, error) {
	if q.Cluster == nil {
		return Cluster{}, errNoCluster
	}
	s := q.Cluster()
	answer := Cluster{
		Name: s.Name, Node: s.Node, Role: s.Role, Version: s.Version, Remote: s.Remote(q.now),
		Server: ClusterServer{
			Addresses: s.Server.Addresses, Reachable: s.Server.Reachable, Since: moment(s.Server.Since),
			Error: s.Server.Err, Epoch: s.Server.Epoch, SkewSeconds: s.Skew.Seconds(),
		},
		WaitingBatches: s.Waiting.Batches, WaitingBytes: s.Waiting.Bytes, DroppedBatches: s.Waiting.Dropped,
		SentBytes: s.Sent, Nodes: []ClusterNode{},
	}
	for _, n := range s.Nodes {
		answer.Nodes = append(answer.Nodes, nodeOf(n, q.now))
	}
	return answer, nil
}

func nodeOf(n cluster.NodeStatus, now time.Time) ClusterNode {
	node := ClusterNode{
		Name: n.Name, Role: n.Role, Version: n.Version, State: n.State(), Away: n.Away, LastSeen: moment(n.Seen),
		SkewSeconds: n.Skew.Seconds(), ReceivedBytes: n.Bytes, Mismatched: append([]string{}, n.Mismatched...),
	}
	if age, known := n.Age(now); known {
		lag := age.Seconds()
		node.LagSeconds = &lag
	}
	return node
}

// moment is a time in UTC to the full second; nil for none.
func moment(at time.Time) *time.Time {
	if at.IsZero() {
		return nil
	}
	at = at.UTC().Truncate(time.Second)
	return &at
}

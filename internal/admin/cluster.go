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
	WaitingBytes   int64         `json:"waiting_bytes"`   // that the server has not taken yet
	DroppedBatches int64         `json:"dropped_batches"` // since the start; a snapshot makes up for them
	SentBytes      int64         `json:"sent_bytes"`      // since the start
	SnapshotAt     *time.Time    `json:"last_snapshot,omitempty"`
	Nodes          []ClusterNode `json:"nodes"` // the others, ordered by name
}

// ClusterServer is the server by which the nodes hear of each other.
type ClusterServer struct {
	Addresses   []string   `json:"addresses"`
	Reachable   bool       `json:"reachable"`
	Contact     *time.Time `json:"last_answer,omitempty"` // missing: there was none
	Error       string     `json:"error,omitempty"`
	SkewSeconds float64    `json:"clock_skew_seconds"` // by which its clock is ahead of this node's
}

// ClusterNode is another node, as this one knows it.
type ClusterNode struct {
	Name          string    `json:"name"`
	Role          string    `json:"role"`
	Version       string    `json:"version"`
	State         string    `json:"state"` // ok, or what is wrong
	Away          bool      `json:"away"`
	LastSeen      time.Time `json:"last_seen"`
	OpenSessions  int64     `json:"open_sessions"`
	AgeSeconds    *float64  `json:"age_seconds,omitempty"` // of its counts here; missing: not all have come yet
	LagSeconds    float64   `json:"lag_seconds"`           // from the making of its last batch to its counting here
	SkewSeconds   float64   `json:"clock_skew_seconds"`    // by which its clock is ahead of this node's
	ReceivedBytes int64     `json:"received_bytes"`        // since the start
	Mismatched    []string  `json:"mismatched_series"`     // defined otherwise there, so that their counts are not mixed
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
			Addresses: s.Addresses, Reachable: s.IsReachable(), Contact: moment(s.Contact), Error: s.Error, SkewSeconds: -s.Ahead.Seconds(),
		},
		WaitingBytes: s.Waiting, DroppedBatches: s.LetGo, SentBytes: s.Sent, SnapshotAt: moment(s.SnapshotAt), Nodes: []ClusterNode{},
	}
	for _, n := range s.Nodes {
		answer.Nodes = append(answer.Nodes, nodeOf(n, q.now))
	}
	return answer, nil
}

func nodeOf(n cluster.NodeStatus, now time.Time) ClusterNode {
	node := ClusterNode{
		Name: n.Name, Role: n.Role, Version: n.Version, State: n.State(now), Away: n.IsAway(now), LastSeen: n.Seen.UTC().Truncate(time.Second),
		OpenSessions: n.Sessions, LagSeconds: n.Lag.Seconds(), SkewSeconds: n.Ahead.Seconds(), ReceivedBytes: n.Read,
		Mismatched: append([]string{}, n.Differs...),
	}
	if age, known := n.Age(now); known {
		old := age.Seconds()
		node.AgeSeconds = &old
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

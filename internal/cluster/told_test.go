package cluster

import (
	"testing"
	"time"
)

func TestAStatusSaysHowOldTheRemotePartIs(t *testing.T) {
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	node := func(age, silent time.Duration) NodeStatus {
		return NodeStatus{UpTo: now.Add(-age), Seen: now.Add(-silent)}
	}
	for _, test := range []struct {
		name  string
		nodes []NodeStatus
		want  string
	}{
		{"alone", nil, "no other node"},
		{"all are here", []NodeStatus{node(200*time.Millisecond, 0), node(4300*time.Millisecond, AwayAfter)}, "3 of 3 nodes, oldest 4 s"},
		{"one is away, and what it told is old", []NodeStatus{node(time.Second, 0), node(14*time.Minute, 14*time.Minute)}, "2 of 3 nodes, oldest 14 min"},
		{"one has told nothing yet", []NodeStatus{node(time.Second, 0), {Seen: now}}, "2 of 3 nodes, oldest 1 s"},
		{"none has told anything", []NodeStatus{{Seen: now}}, "1 of 2 nodes"},
		{"one is ahead by its clock", []NodeStatus{node(-time.Second, 0)}, "2 of 2 nodes, oldest 0 s"},
		{"one is away since yesterday", []NodeStatus{node(25*time.Hour, 25*time.Hour)}, "1 of 2 nodes, oldest 25 h"},
	} {
		if got := (Status{Nodes: test.nodes}).Remote(now); got != test.want {
			t.Errorf("%s: %q; want %q", test.name, got, test.want)
		}
	}
}

func TestANodesStateSaysAllThatIsWrong(t *testing.T) {
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	for _, test := range []struct {
		node NodeStatus
		want string
	}{
		{NodeStatus{Seen: now}, "ok"},
		{NodeStatus{Seen: now.Add(-AwayAfter - 1)}, "away"},
		{NodeStatus{Seen: now, Skewed: true, Differs: []string{"a", "b"}, Behind: []string{"", "c"}},
			"its clock differs; other definition of a, b; waiting for penalties, c"},
	} {
		if got := test.node.State(now); got != test.want {
			t.Errorf("%q; want %q", got, test.want)
		}
	}
}

func TestAServerIsReachableOnceItHasAnswered(t *testing.T) {
	for _, test := range []struct {
		status Status
		want   bool
	}{
		{Status{}, false},
		{Status{Contact: time.Now()}, true},
		{Status{Contact: time.Now(), Error: "reading: broken pipe"}, false},
	} {
		if got := test.status.IsReachable(); got != test.want {
			t.Errorf("%+v: %v", test.status, got)
		}
	}
}

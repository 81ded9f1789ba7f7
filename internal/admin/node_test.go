package admin_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/audit-milter/audit-milter/internal/cluster"
	"github.com/audit-milter/audit-milter/internal/config"
	"github.com/audit-milter/audit-milter/policy"
	"github.com/audit-milter/audit-milter/series"
)

// serveNode answers as mx1, which has counted 2 connections of 192.0.2.7, 3 of which
// mx2 has told, and 40 of which mx3 has, which is away. mx4 has told nothing.
func serveNode(t *testing.T) *served {
	t.Helper()
	conf, err := config.Parse("policy.yaml", []byte(`
series:
  connections: {type: ip, interval: 5m, windows: 2, add: {at: connect}}
  managed: {type: ip, interval: 5m, windows: 1, add: {at: connect}}
  alone: {type: ip, interval: 5m, windows: 1, add: {at: connect}}
  senders: {type: ip, interval: 5m, windows: 1, distinct: sender, add: {at: mail}}
`))
	if err != nil {
		t.Fatal(err)
	}
	conf.Policy.Series[0].Replicate, conf.Policy.Series[1].Replicate = policy.Cluster, policy.Manager
	conf.Policy.Series[3].Replicate = policy.Cluster
	s := servePolicy(t, conf.Policy, "", func() cluster.Status {
		node := func(name string, silent time.Duration) cluster.NodeStatus {
			return cluster.NodeStatus{Name: name, UpTo: begin.Add(-time.Second), Seen: begin.Add(-silent)}
		}
		return cluster.Status{Node: "mx1", Role: "node", Nodes: []cluster.NodeStatus{node("mx2", 0), node("mx3", time.Minute), node("mx4", 0)}}
	})
	client := netip.MustParseAddr("192.0.2.7")
	for range 2 {
		ev := &policy.Event{}
		ev.SetClient(client, 40000, "")
		ev.SetSender("<a@b.test>")
		s.engine.Decide(ev, policy.Connect, begin)
		s.engine.Decide(ev, policy.Mail, begin)
	}
	l := s.engine.Lasting("connections")
	for node, n := range map[string]int64{"mx2": 3, "mx3": 40} {
		l.MergeShare(node, series.Delta{Key: series.AddrKey(client), Bits: 32, Start: begin.Unix(), Amount: n}, begin)
	}
	return s
}

func TestANodesPartIsToldApart(t *testing.T) {
	s := serveNode(t)
	client := s.bySocket()
	for _, test := range []struct{ name, request, want string }{
		{"all nodes", "count?series=connections&key=192.0.2.7", `"count":45`},
		{"this node", "count?series=connections&key=192.0.2.7&node=mx1", `"node":"mx1","key":"192.0.2.7","interval_seconds":300,"from":0,"to":0,"count":2,`},
		{"another node", "count?series=connections&key=192.0.2.0/24&node=mx3", `"count":40`},
		{"a node that has told nothing", "count?series=connections&key=192.0.2.7&node=mx4", `"count":0`},
		{"this node, of what does not replicate", "count?series=alone&key=192.0.2.7&node=mx1", `"count":2`},
		{"different values of this node", "count?series=senders&key=192.0.2.7&node=mx1", `"count":1`},
		{"different values of another one", "count?series=senders&key=192.0.2.7&node=mx2", `"count":0`},
		{"the largest of all", "top?series=connections", `"top":[{"key":"192.0.2.7","count":45}]`},
		{"the largest of a node", "top?series=connections&node=mx2", `"top":[{"key":"192.0.2.7","count":3}]`},
		{"the largest networks of this node", "top?series=connections&mask=24&node=mx1", `"top":[{"key":"192.0.2.0/24","count":2}]`},
		{"the largest of a node that has told nothing", "top?series=connections&node=mx4", `"top":[]`},
		{"an address on another node, without what is not told", "ip?address=192.0.2.7&node=mx2",
			`{"address":"192.0.2.7","node":"mx2","series":[{"series":"open_sessions","interval_seconds":0,"counts":[0]},{"series":"connections","interval_seconds":300,"counts":[3,0]},{"series":"senders","interval_seconds":300,"counts":[0]}]}`},
		{"an export of a node", "export?series=connections&node=mx2", "connections,192.0.2.7,2026-01-01T12:00:00Z,300,3"},
		{"an export of this node", "export?series=connections&node=mx1", "connections,192.0.2.7,2026-01-01T12:00:00Z,300,2"},
		{"an unknown node", "top?series=connections&node=mx9", `404 {"error":"unknown node \"mx9\"`},
		{"an unknown node and all series", "export?node=mx9", `404 {"error":"unknown node \"mx9\"`},
		{"another node, of what does not replicate", "count?series=alone&key=192.0.2.7&node=mx2", "the series alone does not replicate; only mx2 knows what it has counted"},
		{"another node, of what is for managers", "export?series=managed&node=mx2", "the series managed replicates to managers only, and mx1 is none; ask one, or mx2"},
	} {
		if got := s.request(client, "GET /api/v1/"+test.request); !strings.Contains(got, test.want) {
			t.Errorf("%s: %s; want %s", test.name, got, test.want)
		}
	}
}

func TestANodeIsAskedForInAClusterOnly(t *testing.T) {
	s := serve(t, plain, "")
	want := `404 {"error":"this daemon is in no cluster; the key cluster of its configuration joins one"}`
	if got := s.request(s.bySocket(), "GET /api/v1/count?series=connections&key=192.0.2.7&node=mx1"); got != want {
		t.Errorf("%s; want %s", got, want)
	}
}

func TestRemovingTellsWhatOtherNodesHaveStill(t *testing.T) {
	s := serveNode(t)
	client := s.bySocket()
	want := `200 {"series":"connections","key":"192.0.2.7","removed":1,"left":[{"node":"mx2","count":3,"away":false},{"node":"mx3","count":40,"away":true}]}`
	if got := s.request(client, `POST /api/v1/remove {"series": "connections", "key": "192.0.2.7"}`, "Content-Type: application/json"); got != want {
		t.Errorf("%s; want %s", got, want)
	}
	l := s.engine.Lasting("connections")
	taken := series.Delta{Key: series.AddrKey(netip.MustParseAddr("192.0.2.7")), Bits: 32, Start: begin.Unix(), Amount: -3, Removed: true}
	l.MergeShare("mx2", taken, begin)
	want = `200 {"series":"connections","key":"192.0.2.0/24","removed":1,"left":[{"node":"mx3","count":40,"away":true}]}`
	if got := s.request(client, `POST /api/v1/remove {"series": "connections", "key": "192.0.2.0/24"}`, "Content-Type: application/json"); got != want {
		t.Errorf("%s; want %s", got, want)
	}
}

func TestAnExplanationSaysHowOldTheRemotePartIs(t *testing.T) {
	s := serveNode(t)
	if got, want := s.request(s.bySocket(), "GET /api/v1/explain?key=192.0.2.7"), `"remote":"3 of 4 nodes, oldest 1 s"`; !strings.Contains(got, want) {
		t.Errorf("%s; want %s", got, want)
	}
}

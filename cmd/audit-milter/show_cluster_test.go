package main

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/audit-milter/audit-milter/internal/admin"
)

// clusterSeen is a cluster of three, one of them away.
func clusterSeen() admin.Cluster {
	at := func(text string) time.Time {
		t, err := time.ParseInLocation("2006-01-02 15:04:05", text, time.Local)
		if err != nil {
			panic(err)
		}
		return t
	}
	soon, old := 0.1, 90.0
	return admin.Cluster{
		Name: "mail", Node: "mx1", Role: "node", Version: "v0.6.0", Remote: "2 of 3 nodes, oldest 90 s", SentBytes: 48213,
		Server: admin.ClusterServer{Addresses: []string{"valkey.example:6379"}, Reachable: true},
		Nodes: []admin.ClusterNode{
			{Name: "mx2", Role: "manager", Version: "v0.6.0", State: "ok", LastSeen: at("2026-11-25 03:29:20"), AgeSeconds: &soon, LagSeconds: 0.2, SkewSeconds: -0.012, ReceivedBytes: 51880},
			{Name: "mx3", Role: "node", Version: "v0.6.0", State: "away; other definition of recipients_by_user", Away: true, LastSeen: at("2026-11-25 03:27:50"), AgeSeconds: &old, LagSeconds: 0.2, ReceivedBytes: 1204},
		},
	}
}

func TestShowClusterPrintsWhatThePageSays(t *testing.T) {
	var out strings.Builder
	printCluster(&out, clusterSeen())
	page, err := os.ReadFile("../../docs/console.md")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.ReplaceAll("    "+strings.ReplaceAll(strings.TrimSpace(out.String()), "\n", "\n    "), "\n    \n", "\n\n")
	if !strings.Contains(string(page), text) {
		t.Errorf("docs/console.md has not what is printed:\n%s", text)
	}
}

func TestShowClusterSaysWhenTheServerIsOutOfReach(t *testing.T) {
	a := clusterSeen()
	a.Nodes[0].AgeSeconds = nil
	contact := time.Date(2026, 11, 25, 2, 14, 9, 0, time.Local)
	for _, test := range []struct {
		server admin.ClusterServer
		want   string
	}{
		{admin.ClusterServer{}, "not asked yet"},
		{admin.ClusterServer{Error: "connection refused"}, "has never answered: connection refused"},
		{admin.ClusterServer{Error: "connection refused", Contact: &contact}, "has not answered since 2026-11-25 02:14:09: connection refused"},
	} {
		a.Server = test.server
		var out strings.Builder
		printCluster(&out, a)
		for _, want := range []string{test.want, "not all"} {
			if !strings.Contains(out.String(), want) {
				t.Errorf("%q is missing:\n%s", want, out.String())
			}
		}
	}
}

package cluster

import (
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"
)

func TestTheLogSaysWhichNodesGoAndCome(t *testing.T) {
	var log strings.Builder
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	c, err := Open(Options{
		Name: "mail", Node: "mx1", Addresses: []string{"127.0.0.1:1"},
		Now: func() time.Time { return now }, Log: slog.New(slog.NewTextHandler(&log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	away := make(map[string]bool)
	for _, step := range []struct {
		name   string
		silent time.Duration
		err    string
		want   string
	}{
		{"it is seen for the first time", 0, "", `level=INFO msg="cluster: a node is there" node=mx2 role=manager version=v1 counts="2 of 2 nodes, oldest 0 s"`},
		{"it goes on", time.Second, "", ""},
		{"the server does not answer, so nobody knows", time.Minute, "refused", ""},
		{"it is silent", 6 * time.Second, "", `level=WARN msg="cluster: a node is away: what it counts comes when it is back" node=mx2 seen=2026-01-01T11:59:54.000Z counts="1 of 2 nodes, oldest 6 s"`},
		{"it goes on being silent", time.Minute, "", ""},
		{"it is back", 0, "", `level=INFO msg="cluster: a node is back" node=mx2 counts="2 of 2 nodes, oldest 0 s"`},
	} {
		log.Reset()
		seen := now.Add(-step.silent)
		c.status = Status{Contact: now, Nodes: []NodeStatus{{Name: "mx2", Role: "manager", Version: "v1", Seen: seen, UpTo: seen}}}
		clear(c.errors)
		if step.err != "" {
			c.errors[reading] = errors.New(step.err)
		}
		c.tellChanges(away)
		_, got, _ := strings.Cut(strings.TrimSpace(log.String()), " ")
		if got != step.want {
			t.Errorf("%s: %s; want %s", step.name, got, step.want)
		}
	}
}

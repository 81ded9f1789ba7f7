package docs

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/audit-milter/audit-milter/internal/admin"
	"github.com/audit-milter/audit-milter/internal/cluster"
	"github.com/audit-milter/audit-milter/policy"
	"github.com/audit-milter/audit-milter/series"
)

// The examples of api.md are what a daemon answers, one after the other.
func TestAPIAnswersAsThePageSays(t *testing.T) {
	page := readPage(t, "api.md")
	base := serveAPI(t, page)
	played := 0
	for i, b := range page {
		if b.lang != "http" {
			continue
		}
		want := answerOf(page[i+1:])
		if got := requestAPI(t, base, b.code); got != want.code {
			t.Errorf("api.md:%d: the answer is\n%s\nand not\n%s", b.line, got, want.code)
		}
		played++
	}
	if played == 0 {
		t.Error("api.md has no examples")
	}
}

// answerOf is the first block of code.
func answerOf(page []block) block {
	for _, b := range page {
		if b.lang != "" {
			return b
		}
	}
	return block{}
}

// serveAPI answers for the page's configuration, at 12:07 on a clock that stands
// still, with what was counted until then.
func serveAPI(t *testing.T, page []block) (base string) {
	t.Helper()
	now := time.Date(2026, 1, 1, 12, 7, 0, 0, time.UTC)
	conf := parse(t, "api.md", answerOf(page))
	engine, err := policy.NewEngine(conf.Policy, policy.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		series, key string
		n           int64
		ago         time.Duration
	}{
		{"connections", "192.0.2.7", 12, 5 * time.Minute},
		{"connections", "192.0.2.7", 30, 0},
		{"connections", "2001:db8::7", 3, 0},
		{"recipients_by_user", "alice", 4, 0},
	} {
		c := engine.Counter(row.series)
		target, err := engine.ParseTarget(c, row.key, now)
		if err != nil {
			t.Fatal(err)
		}
		c.(*series.Series).Add(target.Key, row.n, now.Add(-row.ago))
	}
	refuseAlice(t, engine, now)
	server := &admin.Server{
		Engine: func() *policy.Engine { return engine },
		Now:    func() time.Time { return now },
		Cluster: func() cluster.Status {
			at := func(ago time.Duration) time.Time { return now.Add(-ago) }
			return cluster.Status{
				Name: "mail", Node: "mx1", Role: "node", Version: "v0.6.0", Sent: 48213, SnapshotAt: at(21 * time.Second),
				Addresses: []string{"valkey.example:6379"}, Contact: now,
				Nodes: []cluster.NodeStatus{
					{Name: "mx2", Role: "manager", Version: "v0.6.0", Sessions: 7, Seen: at(0), UpTo: at(100 * time.Millisecond), Lag: 85 * time.Millisecond, Ahead: -12 * time.Millisecond, Read: 51880},
					{Name: "mx3", Role: "node", Version: "v0.5.0", Seen: at(90 * time.Second), UpTo: at(90 * time.Second), Lag: 91 * time.Millisecond, Read: 1204, Differs: []string{"recipients_by_user"}},
				},
			}
		},
		Log: slog.New(slog.DiscardHandler),
		Reload: func() ([]string, error) { // the command's own test has these sentences too
			return []string{
				"reloaded audit-milter.yaml: 2 series, 2 rules, mode enforce",
				"series that go on with their counts: connections, recipients_by_user",
			}, nil
		},
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go server.ServeSocket(l)
	t.Cleanup(func() { server.Shutdown(t.Context()) })
	return "http://" + l.Addr().String()
}

// refuseAlice lets alice's fifth recipient come.
func refuseAlice(t *testing.T, engine *policy.Engine, now time.Time) {
	t.Helper()
	ev := &policy.Event{}
	ev.Session = "d86n45bbj043r"
	ev.SetText(policy.QueueID, "4ZqXyz1234")
	ev.SetClient(netip.MustParseAddr("192.0.2.7"), 40000, "")
	ev.SetText(policy.SASLUsername, "alice")
	ev.SetSender("<alice@example.com>")
	ev.SetRecipient("<bob@example.net>")
	if v, err := engine.Decide(ev, policy.Rcpt, now); err != nil || v.Action != policy.Tempfail {
		t.Fatal(v, err)
	}
}

// requestAPI sends a request as the page has it, and returns the answer as it does.
func requestAPI(t *testing.T, base, request string) string {
	t.Helper()
	line, body, _ := strings.Cut(request, "\n")
	method, path, _ := strings.Cut(line, " ")
	r, err := http.NewRequest(method, base+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	var pretty bytes.Buffer
	if json.Indent(&pretty, text, "", "  ") != nil {
		return string(text)
	}
	return pretty.String()
}

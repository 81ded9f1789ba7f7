package docs

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/audit-milter/audit-milter/policy"
)

// A table of times stands right behind the configuration that it is about. Its
// columns: the time of one day, UTC; what happens then, such as "mail" or
// "5 × rcpt", by one client; what its first rule's first condition counts at the
// last of it; and what that one is answered.
func TestTimelines(t *testing.T) {
	n := 0
	for _, page := range pages(t) {
		blocks := readPage(t, page)
		for i, b := range blocks {
			if i == 0 || b.rows == nil || b.rows[0][0] != "time" {
				continue
			}
			n++
			conf := parse(t, page, blocks[i-1])
			if conf == nil {
				continue
			}
			line := newTimeline(t, conf.Policy)
			for _, row := range b.rows[1:] {
				if got := line.play(t, row[0], row[1]); strings.Join(got, " | ") != strings.Join(row[2:], " | ") {
					t.Errorf("%s, the table in line %d, at %s: %q; the engine says %q", page, b.line, row[0], row[2:], got)
				}
			}
		}
	}
	if n == 0 {
		t.Error("no page has a table of times")
	}
}

// timeline is an engine and what one client does to it.
type timeline struct {
	engine *policy.Engine
	client policy.Event
	log    bytes.Buffer
}

// newTimeline puts a rule in front that fires at every event and changes
// nothing, so that the log tells every count.
func newTimeline(t *testing.T, p *policy.Policy) *timeline {
	t.Helper()
	count := p.Rules[0].If[0]
	count.Op, count.Threshold = policy.AtLeast, policy.Threshold{N: math.MinInt64}
	count.Of, count.Baseline = nil, policy.Baseline{}
	witness := &policy.Rule{Name: "witness", At: p.Rules[0].At, If: []policy.Condition{count}, Then: policy.Accept, Shadow: true}
	p.Rules = append([]*policy.Rule{witness}, p.Rules...)
	p.LogRepeats = true

	line := new(timeline)
	log := slog.New(slog.NewJSONHandler(&line.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	standing := func(time.Time) time.Duration { return 0 }
	var err error
	if line.engine, err = policy.NewEngine(p, policy.Options{Log: log, Monotonic: standing}); err != nil {
		t.Fatal(err)
	}
	line.client.SetClient(netip.MustParseAddr("198.51.100.7"), 40000, "client.example.com")
	line.client.SetSender("<alice@example.com>")
	line.client.SetRecipient("<bob@example.org>")
	line.client.SetText(policy.SASLUsername, "alice")
	return line
}

// play lets the events of one row happen and tells the last one's count and
// answer.
func (l *timeline) play(t *testing.T, at, event string) []string {
	t.Helper()
	now, err := time.Parse(time.DateTime, "2026-01-01 "+at)
	if err != nil {
		t.Fatal(err)
	}
	times, name := 1, event
	if number, rest, ok := strings.Cut(event, " × "); ok {
		if times, err = strconv.Atoi(number); err != nil {
			t.Fatal(err)
		}
		name = rest
	}
	stage, ok := policy.ParseStage(name)
	if !ok {
		t.Fatalf("%q is no event", event)
	}
	var v policy.Verdict
	for range times {
		l.log.Reset()
		if v, err = l.engine.Decide(&l.client, stage, now); err != nil {
			t.Fatal(err)
		}
	}
	answer := v.Action.String()
	if v.Refuses() {
		answer = v.Reply.String()
	}
	return []string{l.count(t), answer}
}

// count is what the witness read at the last event.
func (l *timeline) count(t *testing.T) string {
	t.Helper()
	for line := range bytes.Lines(l.log.Bytes()) {
		var said struct {
			Rule  string
			Count int64
		}
		if err := json.Unmarshal(line, &said); err != nil {
			t.Fatal(err)
		}
		if said.Rule == "witness" {
			return fmt.Sprint(said.Count)
		}
	}
	t.Fatal("the witness said nothing")
	return ""
}

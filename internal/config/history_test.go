package config

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// history is what a file with that history means.
func history(t *testing.T, text string) *History {
	t.Helper()
	c, err := Parse("audit.yaml", []byte("history: "+text+"\n"))
	if err != nil {
		t.Fatal(err)
	}
	return c.History
}

func TestWhatAHistoryIsWithoutMore(t *testing.T) {
	h := history(t, "{dir: h}")
	same(t, []any{h.Dir, h.Retention, h.MaxSize, h.MinCount}, []any{"h", 30 * 24 * time.Hour, int64(10 << 30), int64(1)})
	same(t, h.String(), "h: retention 30 days, max_size 10GiB, min_count 1")
	if !h.Takes("connections") || !h.Takes("connections/300") {
		t.Error("it leaves a series out")
	}
}

// An expression is for a whole name: one for "spam" does not mean "spam_by_user".
func TestWhichSeriesAHistoryTakes(t *testing.T) {
	for _, row := range []struct {
		keys string
		want string // of connections, connections/300, spam, spam_by_user
	}{
		{`include: ".*"`, "true true true true"},
		{`include: spam`, "false false true false"},
		{`include: [spam, "connections/[0-9]+"]`, "false true true false"},
		{`include: "spam|connections"`, "true false true false"},
		{`include: "(?i)SPAM.*"`, "false false true true"},
		{`exclude: []`, "true true true true"},
		{`exclude: spam`, "true true false true"},
		{`exclude: ["spam.*", ".*/300"]`, "true false false false"},
		{`include: "spam.*", exclude: ".*_by_.*"`, "false false true false"},
	} {
		h := history(t, "{dir: h, "+row.keys+"}")
		got := fmt.Sprint(h.Takes("connections"), h.Takes("connections/300"), h.Takes("spam"), h.Takes("spam_by_user"))
		if got != row.want {
			t.Errorf("%s takes %s, want %s", row.keys, got, row.want)
		}
	}
}

// A directory is one, by whichever names.
func TestTheHistoryIsNotTheStateDirectoryByAnotherName(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "state", "history"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("state", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		history string
		ok      bool
	}{
		{"state/", false}, {"link", false}, {filepath.Join(dir, "state"), false}, {"new/../state", false},
		{"state/history", true}, {"link/history", true}, {"new", true}, {".", true},
	} {
		text := fmt.Sprintf("state_dir: state\nhistory: {dir: %s}\n", row.history)
		if _, err := Parse(filepath.Join(dir, "audit.yaml"), []byte(text)); (err == nil) != row.ok {
			t.Errorf("%s: %v", row.history, err)
		}
	}
}

package history

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/audit-milter/audit-milter/policy"
)

// The disk is slow: a file of another node is a link to a pipe, which nobody has opened yet.
func TestNoBatchWaitsWhileTheFilesOfANodeAreLookedAt(t *testing.T) {
	dir := t.TempDir()
	f := newTicks(t, Options{Dir: dir, Manager: true})
	c := shared("c", time.Minute)
	c.Of = new(policy.Distinct)
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(seriesDir(dir, "c"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(pipe, filepath.Join(seriesDir(dir, "c"), Name{First: someDay, Last: someDay, Through: 3, Node: "mx2"}.String())); err != nil {
		t.Fatal(err)
	}
	begun := make(chan struct{})
	go func() {
		f.w.BeginShare("mx2", c)
		close(begun)
	}()
	deadline := time.Now().Add(10 * time.Second)
	for stacks := make([]byte, 1<<20); !strings.Contains(string(stacks[:runtime.Stack(stacks, true)]), "history.open("); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("nobody looks at the file")
		}
	}
	taken, b := make(chan struct{}), f.next(time.Second)
	go func() {
		f.w.Take(b)
		close(taken)
	}()
	select {
	case <-taken:
	case <-time.After(10 * time.Second):
		t.Error("a batch waits for the disk")
	}
	w, err := os.OpenFile(pipe, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	w.Close()
	<-begun
	<-taken
	f.w.Close()
}

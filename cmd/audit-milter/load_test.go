package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/audit-milter/audit-milter/internal/admin"
)

// Who interrupts a load learns what was counted and where to go on, and a shell's loop
// around it ends.
func TestALoadIsInterrupted(t *testing.T) {
	said, state, loaded, lines := interruptedLoad(t, 200)
	want := fmt.Sprintf("audit-milter load: interrupted; %d lines before line %d were loaded\n", loaded, loaded+3)
	if said != want || loaded < 2*admin.MaxRows || loaded == lines {
		t.Errorf("it says %q, want %q", said, want)
	}
	if status := state.Sys().(syscall.WaitStatus); !status.Signaled() || status.Signal() != syscall.SIGINT {
		t.Errorf("it ended with %v", state)
	}
}

// A shell lets what it runs in the background ignore the interrupt of what is in front.
func TestALoadThatIsToIgnoreInterruptsGoesOn(t *testing.T) {
	said, state, loaded, lines := interruptedLoad(t, 5, "sh", "-c", `trap "" INT; exec "$@"`, "sh")
	if loaded != lines || said != "" || !state.Success() {
		t.Errorf("%d of %d lines were loaded, and it says %q and ended with %v", loaded, lines, said, state)
	}
}

// interruptedLoad interrupts a load of so many requests after two. What runs it may be
// given.
func interruptedLoad(t *testing.T, requests int64, by ...string) (said string, state *os.ProcessState, loaded, lines int64) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt) // so that the command does not ignore it where these tests do
	defer signal.Stop(signals)
	dir := t.TempDir()
	token, export := filepath.Join(dir, "token"), filepath.Join(dir, "export.csv")
	var text strings.Builder
	text.WriteString("series,key,window_start,interval_seconds,count\nother,192.0.2.7,2026-01-01T12:00:00Z,300,8\n")
	lines = requests * admin.MaxRows
	for range lines {
		text.WriteString("s,192.0.2.7,2026-01-01T12:00:00Z,300,8\n")
	}
	for file, text := range map[string]string{token: "0123456789abcdef\n", export: text.String()} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	started := make(chan *os.Process, 1)
	var sum atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var load admin.Load
		if err := json.NewDecoder(r.Body).Decode(&load); err != nil {
			t.Error(err)
		}
		if sum.Add(int64(len(load.Rows))) == 2*admin.MaxRows {
			(<-started).Signal(os.Interrupt)
		}
		fmt.Fprintf(w, `{"series":"s","loaded":%d,"too_old":[]}`, len(load.Rows))
	}))
	defer server.Close()
	words := append(by, "audit-milter", "load", "s", export, "--admin", server.URL, "--token-file", token)
	command := exec.Command(words[0], words[1:]...)
	var stderr strings.Builder
	command.Stderr = &stderr
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	started <- command.Process
	command.Wait()
	return stderr.String(), command.ProcessState, sum.Load(), lines
}

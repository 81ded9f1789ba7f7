package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
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
	dir := t.TempDir()
	token, export := filepath.Join(dir, "token"), filepath.Join(dir, "export.csv")
	var text strings.Builder
	text.WriteString("series,key,window_start,interval_seconds,count\nother,192.0.2.7,2026-01-01T12:00:00Z,300,8\n")
	const lines = 200 * admin.MaxRows
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
	command := exec.Command("audit-milter", "load", "s", export, "--admin", server.URL, "--token-file", token)
	var said strings.Builder
	command.Stderr = &said
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	started <- command.Process
	command.Wait()
	loaded := sum.Load()
	want := fmt.Sprintf("audit-milter load: interrupted; %d lines before line %d were loaded\n", loaded, loaded+3)
	if said.String() != want || loaded < 2*admin.MaxRows || loaded == lines {
		t.Errorf("it says %q, want %q", said.String(), want)
	}
	if status := command.ProcessState.Sys().(syscall.WaitStatus); !status.Signaled() || status.Signal() != syscall.SIGINT {
		t.Errorf("it ended with %v", command.ProcessState)
	}
}

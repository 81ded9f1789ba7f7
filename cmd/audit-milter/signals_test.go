package main

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// TestWhileAReloadIsInHand keeps it so: its file is a pipe that is not yet written.
// Meanwhile /health is answered, and a SIGTERM is not lost behind a SIGHUP that waits.
func TestWhileAReloadIsInHand(t *testing.T) {
	dir := t.TempDir()
	pipe, file := filepath.Join(dir, "policy.yaml"), filepath.Join(dir, "file.yaml")
	const config = "listen: unix:m.sock\nadmin: {http: 127.0.0.1:19738}\nrules: [{name: greeted, at: helo, then: reject}]\n"
	for _, path := range []string{pipe, file} {
		if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("audit-milter", "serve", "--config", "policy.yaml")
	cmd.Dir = dir
	t.Cleanup(func() { cmd.Process.Kill() })
	d := new(daemon)
	if err := d.start(cmd, filepath.Join(dir, "log")); err != nil {
		t.Fatal(err)
	}
	defer time.AfterFunc(time.Minute, func() { cmd.Process.Kill() }).Stop()

	os.Remove(pipe)
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd.Process.Signal(syscall.SIGHUP)
	w, err := os.OpenFile(pipe, os.O_WRONLY, 0) // returns when the daemon reads
	if err != nil {
		t.Fatal(err)
	}
	client := http.Client{Timeout: 10 * time.Second}
	if answer, err := client.Get("http://127.0.0.1:19738/health"); err != nil || answer.StatusCode != http.StatusOK {
		t.Errorf("/health is answered %v, %v", answer, err)
	}
	for range 1000 { // so that one is taken before the other signal comes
		cmd.Process.Signal(syscall.SIGHUP)
	}
	cmd.Process.Signal(syscall.SIGTERM)
	os.Rename(file, pipe) // for the reload that waits
	w.WriteString(config)
	w.Close()
	if err := d.end(); err != nil {
		t.Errorf("the daemon did not end by itself: %v", err)
	}
}

package main

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/audit-milter/audit-milter/internal/wiretrace"
)

// TestRunningOutOfDescriptors opens more sessions than the daemon has file
// descriptors for. Those that it has go on; the others wait until it has more.
func TestRunningOutOfDescriptors(t *testing.T) {
	const limit = 40
	begin := time.Now()
	dir := t.TempDir()
	const config = "listen: unix:m.sock\nrules: [{name: greeted, at: helo, then: reject}]\n"
	if err := os.WriteFile(filepath.Join(dir, "policy.yaml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", "-c", "ulimit -n 40; exec audit-milter serve --config policy.yaml")
	cmd.Dir = dir
	t.Cleanup(func() { cmd.Process.Kill() })
	d := new(daemon)
	if err := d.start(cmd, filepath.Join(dir, "log")); err != nil {
		t.Fatal(err)
	}

	served := make(chan net.Conn)
	for range limit {
		conn, err := net.Dial("unix", filepath.Join(dir, "m.sock"))
		if err != nil {
			t.Fatal(err)
		}
		conn.SetDeadline(begin.Add(time.Minute))
		t.Cleanup(func() { conn.Close() })
		go func() {
			if _, err := ask(conn, 'O', "\x00\x00\x00\x06\x00\x00\x01\xff\x00\x1f\xff\xff"); err != nil {
				t.Errorf("a session that waited was not served when others had ended: %v", err)
			}
			served <- conn
		}()
	}
	if !d.says("accepting a connection failed; trying again") {
		t.Fatalf("the daemon ended")
	}
	for range limit {
		conn := <-served
		if answer, err := ask(conn, 'H', "client.example\x00"); answer.Code != 'y' {
			t.Errorf("a held session is answered %s, %v", answer, err)
		}
		conn.Close()
	}
	cmd.Process.Signal(os.Interrupt)
	if err := d.end(); err != nil {
		t.Error(err)
	}

	log, err := os.ReadFile(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	if n, minutes := strings.Count(string(log), "accepting a connection failed"), int(time.Since(begin).Minutes()); n > 1+minutes {
		t.Errorf("%d lines in %d minutes:\n%s", n, 1+minutes, log)
	}
	if !strings.Contains(string(log), "fewer file descriptors than max_sessions needs") {
		t.Errorf("the log does not say that there are few:\n%s", log)
	}
}

// ask sends a frame and reads the answer.
func ask(conn net.Conn, code byte, data string) (wiretrace.Frame, error) {
	conn.Write(wiretrace.Frame{Code: code, Data: []byte(data)}.Bytes())
	return wiretrace.ReadFrame(conn)
}

package main

import (
	"bufio"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/audit-milter/audit-milter/milter"
)

// talkative logs a line for each recipient and waits for its answer.
const talkative = `
listen: unix:m.sock
log: {level: debug, buffer: 64KiB}
series:
  recipients: {type: string, interval: 1h, windows: 1, add: {at: rcpt, key: recipient}}
rules:
  - {name: never, at: rcpt, if: {series: recipients, above: 1000000}, then: tempfail}
`

// serveInto runs the real binary in a directory of its own, from a shell that
// has its command line as "$@", and waits until it listens.
func serveInto(t *testing.T, stderr *os.File, shell string) (cmd *exec.Cmd, dir string) {
	t.Helper()
	dir = t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "policy.yaml"), []byte(talkative), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd = exec.Command("sh", "-c", shell, "sh", "audit-milter", "serve", "--config", "policy.yaml")
	cmd.Dir, cmd.Stderr = dir, stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill() })
	printed := bufio.NewScanner(out)
	for range 4 { // the lines to paste come when the sockets are open
		if !printed.Scan() {
			t.Fatal("the daemon did not begin to serve")
		}
	}
	return cmd, dir
}

// playRecipients plays dialogues whose recipients are all answered, and leaves
// their sessions open.
func playRecipients(t *testing.T, dir string, dialogues, recipients int) {
	t.Helper()
	addr := milter.Listen{Network: "unix", Address: filepath.Join(dir, "m.sock")}
	for i := range dialogues {
		d := dialogue{client: netip.MustParseAddr("192.0.2.1"), heloName: "mx.test", from: "a@b.test"}
		for j := range recipients {
			d.to = append(d.to, fmt.Sprintf("r%06d@b.test", i*recipients+j))
		}
		p, err := dialMilter(io.Discard, addr, d)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.close)
		if err := p.play(); err != nil || p.refused {
			t.Fatalf("the dialogue ended with %v, refused %v", err, p.refused)
		}
	}
}

func terminate(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("the daemon ended with %v", err)
	}
}

// While nobody reads the log, every command is answered all the same. When it
// is read again, it says how many lines are missing, and goes on.
func TestDecisionsDoNotWaitForTheLog(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd, dir := serveInto(t, w, `exec "$@"`)
	w.Close()
	const dialogues, recipients = 10, 1000
	playRecipients(t, dir, dialogues, recipients)

	log := bufio.NewScanner(r)
	next, lost := 0, 0
	for lost == 0 && log.Scan() {
		line := log.Text()
		if n, ok := number(line, `key=r(\d+)@b.test`); ok {
			if n != next {
				t.Fatalf("recipient %d should stand here: %s", next, line)
			}
			next++
		}
		lost, _ = number(line, `msg="log lines were lost" lines=(\d+) for=\S+ error="the log's buffer is full"`)
	}
	if next+lost != dialogues*recipients {
		t.Errorf("%d lines are there and %d told to be lost, of %d", next, lost, dialogues*recipients)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	last := ""
	for log.Scan() {
		last = log.Text()
	}
	if !strings.Contains(last, "msg=stopped") {
		t.Errorf("the last line is %s", last)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("the daemon ended with %v", err)
	}
}

// number is what a pattern's group matches, if it matches.
func number(line, pattern string) (n int, ok bool) {
	m := regexp.MustCompile(pattern).FindStringSubmatch(line)
	if m == nil {
		return 0, false
	}
	n, err := strconv.Atoi(m[1])
	return n, err == nil
}

// Whatever becomes of standard error, commands are answered, and the daemon
// ends when it is told to.
func TestALogThatCannotBeWritten(t *testing.T) {
	for _, row := range []struct {
		name, shell string
		prepare     func(r *os.File)
	}{
		{"a pipe that nobody reads", `exec "$@"`, func(*os.File) {}},
		{"a pipe whose reader is gone", `exec "$@"`, func(r *os.File) { r.Close() }},
		{"a full disk", `exec "$@" 2>/dev/full`, func(*os.File) {}},
		{"closed from the start", `exec "$@" 2>&-`, func(*os.File) {}},
	} {
		t.Run(row.name, func(t *testing.T) {
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			cmd, dir := serveInto(t, w, row.shell)
			w.Close()
			row.prepare(r)
			playRecipients(t, dir, 2, 1000)
			terminate(t, cmd)
		})
	}
}

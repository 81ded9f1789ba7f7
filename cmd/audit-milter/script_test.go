package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// raceOptions spares each command of the tests the second that the race detector waits at
// its end by default.
const raceOptions = "atexit_sleep_ms=0"

func TestMain(m *testing.M) {
	os.Setenv("GORACE", raceOptions)
	testscript.Main(m, map[string]func(){"audit-milter": main})
}

// The scripts run the real binary; testdata/*.txt read as stories.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"becomes":  becomes,
			"daemon":   startDaemon,
			"get":      get,
			"port":     findPort,
			"received": received,
			"receiver": startReceiver,
			"says":     awaitLine,
			"sentinel": startSentinel,
			"server":   startServer,
			"signal":   signalDaemon,
			"status":   exitStatus,
		},
		Condition: hasServer,
		Setup: func(env *testscript.Env) error {
			env.Values[daemonKey{}] = new(daemon)
			env.Values[receiverKey{}] = &receiver{letters: make(chan []byte, 100)}
			root, err := filepath.Abs("../..")
			env.Setenv("ROOT", root)
			env.Setenv("GORACE", raceOptions)
			return err
		},
	})
}

type daemonKey struct{}

// daemon is the script's running audit-milter.
type daemon struct {
	cmd    *exec.Cmd
	lines  chan string   // its log, as it comes
	copied chan struct{} // closed when all of the log is in the file
}

// startDaemon is `daemon CONFIG`: it runs audit-milter serve and waits until it
// serves. What it prints goes to the files out and log.
func startDaemon(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: daemon CONFIG")
	}
	bin, _, _ := strings.Cut(ts.Getenv("PATH"), string(filepath.ListSeparator))
	cmd := exec.Command(filepath.Join(bin, "audit-milter"), "serve", "--config", args[0])
	cmd.Dir = ts.Getenv("WORK")
	cmd.Env = []string{"GORACE=" + raceOptions, "PATH=" + ts.Getenv("PATH"), "TESTSCRIPT_COVER_DIR=" + ts.Getenv("TESTSCRIPT_COVER_DIR")}
	out, err := os.Create(ts.MkAbs("out"))
	ts.Check(err)
	defer out.Close()
	cmd.Stdout = out
	ts.Defer(func() { cmd.Process.Kill() })
	ts.Check(ts.Value(daemonKey{}).(*daemon).start(cmd, ts.MkAbs("log")))
}

// start runs the command and waits until it serves. Its log goes to a file.
func (d *daemon) start(cmd *exec.Cmd, log string) error {
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	d.cmd, d.lines, d.copied = cmd, make(chan string, 1000), make(chan struct{})
	go copyLog(stderr, log, d.lines, d.copied)
	if !d.says("msg=serving") {
		text, _ := os.ReadFile(log)
		return fmt.Errorf("the daemon ended before it served:\n%s", text)
	}
	return nil
}

// copyLog copies the log to a file and to whoever waits for a line of it.
func copyLog(log io.Reader, path string, lines chan<- string, copied chan<- struct{}) {
	defer close(copied)
	defer close(lines)
	file, err := os.Create(path)
	if err != nil {
		return
	}
	defer file.Close()
	for scanner := bufio.NewScanner(log); scanner.Scan(); {
		io.WriteString(file, scanner.Text()+"\n")
		lines <- scanner.Text()
	}
}

// says waits for a line of the log; false when the log ends without it.
func (d *daemon) says(what string) bool {
	for line := range d.lines {
		if strings.Contains(line, what) {
			return true
		}
	}
	return false
}

// awaitLine is `says TEXT`: it waits for a line of the log.
func awaitLine(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: says TEXT")
	}
	if !ts.Value(daemonKey{}).(*daemon).says(args[0]) {
		ts.Fatalf("the log ended without %q", args[0])
	}
}

// signalDaemon is `signal HUP TEXT`, which waits for a line of the log, or
// `signal TERM` or `signal KILL`, which wait for the daemon's end.
func signalDaemon(ts *testscript.TestScript, neg bool, args []string) {
	d := ts.Value(daemonKey{}).(*daemon)
	switch {
	case len(args) == 2 && args[0] == "HUP":
		ts.Check(d.cmd.Process.Signal(syscall.SIGHUP))
		if !d.says(args[1]) {
			ts.Fatalf("the log ended without %q", args[1])
		}
	case len(args) == 1 && args[0] == "TERM":
		ts.Check(d.cmd.Process.Signal(syscall.SIGTERM))
		if err := d.end(); (err != nil) != neg {
			ts.Fatalf("the daemon ended with %v", err)
		}
	case len(args) == 1 && args[0] == "KILL":
		ts.Check(d.cmd.Process.Kill())
		d.end()
	default:
		ts.Fatalf("usage: signal HUP TEXT, signal TERM or signal KILL")
	}
}

// end waits for the daemon's end and for the last line of its log.
func (d *daemon) end() error {
	for range d.lines {
	}
	<-d.copied
	return d.cmd.Wait()
}

// exitStatus is `status COMMAND [ARG ...] N`: the command ends with status N.
func exitStatus(ts *testscript.TestScript, _ bool, args []string) {
	last := len(args) - 1
	err := ts.Exec(args[0], args[1:last]...)
	got := 0
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if strconv.Itoa(got) != args[last] {
		ts.Fatalf("exit status %d, want %s", got, args[last])
	}
}

// get is `get URL`: it prints what is answered, which must be a success.
func get(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: get URL")
	}
	answer, err := http.Get(args[0])
	ts.Check(err)
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		ts.Fatalf("%s: %s", args[0], answer.Status)
	}
	_, err = io.Copy(ts.Stdout(), answer.Body)
	ts.Check(err)
}

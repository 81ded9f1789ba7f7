package integration

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"gopkg.in/yaml.v3"
)

// envBinary is where the inner run finds the program.
const envBinary = "AUDIT_MILTER_BINARY"

// buildDaemon builds the program with the clock that tests own, and with the
// race detector if this test has it.
func buildDaemon(dir string) (path string, err error) {
	path = filepath.Join(dir, "audit-milter")
	args := []string{"build", "-buildvcs=false", "-tags", "testclock", "-o", path}
	if raceEnabled {
		args = append(args, "-race")
	}
	return path, run("go", append(args, "../../cmd/audit-milter")...)
}

// daemon is a running audit-milter, in a mail server's system and under the
// account of nobody, who is a member of the group of the sockets.
type daemon struct {
	mta     *mta
	program string // in the server's system
	config  string // its file, as the program sees it
	log     *feed[entry]
	own     map[string]any // what every configuration has from the test

	printed bytes.Buffer // to read when it has stopped

	cmd     *exec.Cmd  // nil when it does not run
	done    chan error // one value: how it ended
	sockets int        // that it has open when it has no session
}

// entry is one line of the program's log.
type entry struct {
	text   string
	fields map[string]any // nil when it is not JSON
}

func (e entry) field(name string) string {
	if v, ok := e.fields[name]; ok {
		return fmt.Sprint(v)
	}
	return ""
}

// newDaemon writes the configuration and the files beside it. Where it listens
// and how it logs is the test's affair.
func newDaemon(m *mta, name string, files map[string]string, config string, listen any) (*daemon, error) {
	dir := "/etc/audit-milter/" + name
	if err := os.RemoveAll(m.path(dir)); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(m.path(dir), 0o755); err != nil {
		return nil, err
	}
	for file, text := range files {
		if err := os.WriteFile(m.path(filepath.Join(dir, file)), []byte(text), 0o644); err != nil {
			return nil, err
		}
	}
	d := &daemon{mta: m, program: "/usr/local/bin/audit-milter", config: filepath.Join(dir, config), log: newFeed[entry]()}
	d.own = map[string]any{
		"listen": listen,
		"log":    map[string]string{"level": "debug", "format": "json"},
	}
	return d, d.set(d.own)
}

// set replaces top-level keys of the configuration.
func (d *daemon) set(values map[string]any) error {
	path := d.mta.path(d.config)
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	config := make(map[string]any)
	if err := yaml.Unmarshal(data, &config); err != nil {
		return err
	}
	for key, value := range values {
		config[key] = value
	}
	if data, err = yaml.Marshal(config); err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o644)
}

// start runs the program and returns when it serves.
func (d *daemon) start() error {
	d.cmd = exec.Command(d.program, "serve", "--config", d.config)
	d.mta.inside(d.cmd)
	d.cmd.Env = append(d.cmd.Env, envClock+"="+clockFile,
		"GORACE=atexit_sleep_ms=0") // the race detector's own wait of a second at the end
	d.cmd.SysProcAttr.Credential = d.mta.account
	d.cmd.Stdout = &d.printed
	stderr, err := d.cmd.StderrPipe()
	if err != nil {
		return err
	}
	before := len(d.log.all())
	if err := d.cmd.Start(); err != nil {
		return err
	}
	d.done = make(chan error, 1)
	go func(cmd *exec.Cmd) {
		d.read(stderr)
		d.done <- cmd.Wait()
	}(d.cmd)
	if err := d.serving(before); err != nil {
		return err
	}
	d.sockets, err = d.openSockets()
	return err
}

// read takes the log until the program closes it.
func (d *daemon) read(stderr io.Reader) {
	lines := bufio.NewScanner(stderr)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		e := entry{text: lines.Text()}
		decoder := json.NewDecoder(strings.NewReader(e.text))
		decoder.UseNumber()
		decoder.Decode(&e.fields)
		d.log.add(e)
	}
}

// serving waits for the line that says so, after the log's first n lines.
func (d *daemon) serving(n int) error {
	deadline := time.After(patience)
	for {
		lines, more := d.log.since(n)
		for _, e := range lines {
			if e.field("msg") == "serving" {
				return nil
			}
		}
		select {
		case <-more:
		case err := <-d.done:
			d.cmd = nil
			return fmt.Errorf("audit-milter ended at once: %w", errors.Join(err, d.said(n)))
		case <-deadline:
			return fmt.Errorf("audit-milter does not serve after %v: %w", patience, d.said(n))
		}
	}
}

// said is its log from line n on, as an error.
func (d *daemon) said(n int) error {
	lines, _ := d.log.since(n)
	var text strings.Builder
	for _, e := range lines {
		text.WriteString("\n\t" + e.text)
	}
	return errors.New(text.String())
}

// openSockets counts the program's sockets.
func (d *daemon) openSockets() (int, error) {
	dir := fmt.Sprintf("/proc/%d/fd", d.cmd.Process.Pid)
	files, err := os.ReadDir(dir)
	n := 0
	for _, f := range files {
		// One that is closed meanwhile is no socket any more.
		if to, err := os.Readlink(filepath.Join(dir, f.Name())); err == nil && strings.HasPrefix(to, "socket:") {
			n++
		}
	}
	return n, err
}

// idle waits until the program has seen the end of every session.
func (d *daemon) idle() error { return d.sessions(0) }

// sessions waits until no more than so many are open. Nobody tells when a mail
// server ends one, so it looks again and again.
func (d *daemon) sessions(want int) error {
	if d.cmd == nil {
		return nil
	}
	again := time.NewTicker(time.Millisecond)
	defer again.Stop()
	for deadline := time.Now().Add(patience); ; <-again.C {
		n, err := d.openSockets()
		switch {
		case err != nil || n <= d.sockets+want:
			return err
		case time.Now().After(deadline):
			return fmt.Errorf("%d sessions are still open after %v", n-d.sockets, patience)
		}
	}
}

// What the program says when it was asked to reload.
const (
	reloaded    = "reloaded"
	notReloaded = "not reloaded: the old configuration stays"
)

// reload puts another file in the configuration's place, asks the program to
// take it, and waits until it says that it has, or that it has not.
func (d *daemon) reload(file, says string) error {
	text, err := os.ReadFile(d.mta.path(filepath.Join(filepath.Dir(d.config), file)))
	if err != nil {
		return err
	}
	if err := os.WriteFile(d.mta.path(d.config), text, 0o644); err != nil {
		return err
	}
	if err := d.set(d.own); err != nil {
		return err
	}
	before := len(d.log.all())
	if err := d.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		return err
	}
	e, err := d.log.awaitSince(before, "audit-milter to reload", func(e entry) bool {
		return e.field("msg") == reloaded || e.field("msg") == notReloaded
	})
	if err == nil && e.field("msg") != says {
		err = fmt.Errorf("audit-milter says: %s", e.text)
	}
	return err
}

// drain asks the program to end and returns when it has begun to.
func (d *daemon) drain() error {
	if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	_, err := d.log.await("audit-milter to drain", func(e entry) bool { return e.field("msg") == "draining" })
	return err
}

// stop asks the program to end and waits until it has ended well.
func (d *daemon) stop() error {
	if err := d.end(syscall.SIGTERM); err != nil {
		return fmt.Errorf("audit-milter ended badly: %w", err)
	}
	return nil
}

// killOnce is kill once the log says that a key was counted: the log is written behind
// the answers, and what it lacks when the program ends was counted for no test.
func (d *daemon) killOnce(key string) error {
	counts := func(e entry) bool { return e.field("msg") == "add" && e.field("key") == key }
	if _, err := d.log.await(key+" to be counted", counts); err != nil {
		return err
	}
	return d.kill()
}

// kill ends the program without giving it a chance.
func (d *daemon) kill() error {
	d.end(syscall.SIGKILL)
	return nil
}

func (d *daemon) end(how syscall.Signal) error {
	if d.cmd == nil {
		return nil
	}
	process := d.cmd.Process
	process.Signal(how)
	d.cmd = nil
	select {
	case err := <-d.done:
		return err
	case <-time.After(patience):
		process.Signal(syscall.SIGQUIT) // it logs where it stands, and ends
		<-d.done
		return fmt.Errorf("it is still there %v after %v", patience, how)
	}
}

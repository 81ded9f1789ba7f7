package integration

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"
)

// valkey is the server of a cluster, with the access that docs/clustering.md gives
// audit-milter.
type valkey struct {
	dir string
	cmd *exec.Cmd // nil when it does not run
}

const (
	valkeyAddress  = "127.0.0.1:6379"
	valkeyUser     = "audit-milter"
	valkeyPassword = "secret"
	valkeyProgram  = "redis-server"
)

// start runs it with what data it has, and returns when it serves.
func (v *valkey) start() error {
	page, err := os.ReadFile("../../docs/clustering.md")
	if err != nil {
		return err
	}
	user := regexp.MustCompile(`(?m)^ +(user audit-milter .*)PASSWORD(.*)$`).FindSubmatch(page)
	if user == nil {
		return errors.New("docs/clustering.md has no line that begins with: user audit-milter")
	}
	conf := fmt.Appendf(nil, "port 6379\nbind 127.0.0.1\ndir %s\nsave \"\"\nappendonly yes\nappendfsync always\nuser default off\n%s%s%s\n",
		v.dir, user[1], valkeyPassword, user[2])
	path := filepath.Join(v.dir, "valkey.conf")
	if err := os.WriteFile(path, conf, 0o600); err != nil {
		return err
	}
	cmd := exec.Command(valkeyProgram, path)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		return err
	}
	v.cmd = cmd
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		err := v.answers()
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return errors.Join(err, v.kill(), fmt.Errorf("it said:\n%s", said.Bytes()))
		}
	}
}

// answers asks as audit-milter does: while it reads its data it says that it is loading.
func (v *valkey) answers() error {
	c, err := net.Dial("tcp", valkeyAddress)
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	fmt.Fprintf(c, "AUTH %s %s\r\nTIME\r\n", valkeyUser, valkeyPassword)
	answer := make([]byte, 64)
	n, err := c.Read(answer)
	if err == nil && !strings.HasPrefix(string(answer[:n]), "+OK") {
		err = fmt.Errorf("the server says %s", answer[:n])
	}
	return err
}

// kill ends it without giving it a chance.
func (v *valkey) kill() error {
	if v.cmd == nil {
		return nil
	}
	v.cmd.Process.Kill()
	v.cmd.Wait()
	v.cmd = nil
	return nil
}

// stall and goOn: it has its connections, and does not answer.
func (v *valkey) stall() error { return v.cmd.Process.Signal(syscall.SIGSTOP) }
func (v *valkey) goOn() error  { return v.cmd.Process.Signal(syscall.SIGCONT) }

// forget throws its data away.
func (v *valkey) forget() error { return os.RemoveAll(filepath.Join(v.dir, "appendonlydir")) }

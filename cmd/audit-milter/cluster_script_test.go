package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// hasServer is the condition [server]: without a server the scripts of a cluster are
// skipped, but not where all is to be tested.
func hasServer(cond string) (bool, error) {
	if cond != "server" {
		return false, fmt.Errorf("unknown condition %q", cond)
	}
	_, err := exec.LookPath("redis-server")
	if err != nil && os.Getenv("CI") != "" {
		return false, errors.New("redis-server is missing; it is in Debian's package redis-server")
	}
	return err == nil, nil
}

// startServer is `server`: it runs redis-server on a free port, and puts its address in
// $SERVER; it stops where the script does.
func startServer(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: server")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	host, port, err := net.SplitHostPort(l.Addr().String())
	ts.Check(err)
	l.Close()
	path, err := exec.LookPath("redis-server")
	ts.Check(err)
	cmd := exec.Command(path, "--port", port, "--bind", host, "--save", "", "--appendonly", "no", "--dir", ts.Getenv("WORK"))
	ts.Check(cmd.Start())
	ts.Defer(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	address := net.JoinHostPort(host, port)
	await(ts, address+" answers", func() bool {
		c, err := net.Dial("tcp", address)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	ts.Setenv("SERVER", address)
}

// becomes is `becomes PATTERN ARG...`: it runs audit-milter with these arguments until
// what it prints matches.
func becomes(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: becomes PATTERN ARG...")
	}
	pattern := regexp.MustCompile("(?m)" + args[0])
	bin, _, _ := strings.Cut(ts.Getenv("PATH"), string(filepath.ListSeparator))
	var out []byte
	await(ts, "audit-milter "+strings.Join(args[1:], " ")+" prints "+args[0], func() bool {
		cmd := exec.Command(filepath.Join(bin, "audit-milter"), args[1:]...)
		cmd.Dir = ts.Getenv("WORK")
		out, _ = cmd.CombinedOutput()
		return pattern.Match(out)
	})
	ts.Logf("%s", out)
}

// await waits until something is so.
func await(ts *testscript.TestScript, what string, is func() bool) {
	for end := time.Now().Add(20 * time.Second); !is(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			ts.Fatalf("it never came that %s", what)
		}
	}
}

package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
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

// startServer is `server`, which runs redis-server on a free port, or `server tls`: one
// that is as docs/clustering.md wants it, with a certificate by the authority in ca.pem;
// other.pem is another authority. The address is in $SERVER.
func startServer(ts *testscript.TestScript, neg bool, args []string) {
	isTLS := len(args) == 1 && args[0] == "tls"
	if neg || len(args) > 0 && !isTLS {
		ts.Fatalf("usage: server [tls]")
	}
	port := freePort(ts)
	if isTLS {
		certify(ts)
		runRedis(ts, append(documentedUser(ts), "--port", "0", "--tls-port", port, "--tls-auth-clients", "no",
			"--tls-ca-cert-file", "ca.pem", "--tls-cert-file", "server.pem", "--tls-key-file", "server.key")...)
	} else {
		runRedis(ts, "--port", port)
	}
	ts.Setenv("SERVER", awaitPort(ts, port))
}

// startSentinel is `sentinel`: a Sentinel at $SERVER that watches two servers by the name
// counts. The one that is the master at first is the process $MASTER.
func startSentinel(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: sentinel")
	}
	master, replica, port := freePort(ts), freePort(ts), freePort(ts)
	user := append(documentedUser(ts), "--user", "watcher", "on", ">secret", "~*", "&*", "+@all", "--masteruser", "watcher", "--masterauth", "secret", "--repl-diskless-sync-delay", "0")
	ts.Setenv("MASTER", strconv.Itoa(runRedis(ts, append(user, "--port", master)...)))
	runRedis(ts, append(user, "--port", replica, "--replicaof", "127.0.0.1 "+master)...)
	awaitPort(ts, master)
	await(ts, "the replica has what the master has", func() bool {
		return asks(replica, "master_link_status:up", "--user", "watcher", "--pass", "secret", "INFO", "replication")
	})
	conf := ts.MkAbs("sentinel.conf")
	ts.Check(os.WriteFile(conf, fmt.Appendf(nil, `sentinel monitor counts 127.0.0.1 %s 1
sentinel auth-user counts watcher
sentinel auth-pass counts secret
sentinel down-after-milliseconds counts 500
sentinel failover-timeout counts 3000
`, master), 0o600))
	runRedis(ts, conf, "--sentinel", "--port", port)
	await(ts, "the Sentinel knows of the replica", func() bool { return asks(port, replica, "SENTINEL", "replicas", "counts") })
	ts.Setenv("SERVER", awaitPort(ts, port))
}

// asks reports whether what a server answers has the text.
func asks(port, text string, command ...string) bool {
	out, _ := exec.Command("redis-cli", append([]string{"-p", port}, command...)...).CombinedOutput()
	return strings.Contains(string(out), text)
}

// runRedis runs redis-server until the script ends, and returns its process.
func runRedis(ts *testscript.TestScript, args ...string) (pid int) {
	path, err := exec.LookPath("redis-server")
	ts.Check(err)
	if !slices.Contains(args, "--sentinel") { // which takes no such options
		args = append(args, "--save", "", "--appendonly", "no")
	}
	cmd := exec.Command(path, append(args, "--bind", "127.0.0.1")...)
	cmd.Dir = ts.Getenv("WORK")
	ts.Check(cmd.Start())
	ts.Defer(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	return cmd.Process.Pid
}

// documentedUser is the access that docs/clustering.md gives audit-milter, with the
// password secret.
func documentedUser(ts *testscript.TestScript) []string {
	page, err := os.ReadFile(filepath.Join(ts.Getenv("ROOT"), "docs", "clustering.md"))
	ts.Check(err)
	lines := regexp.MustCompile(`(?m)^ +user (default off)\n +user (audit-milter on .*)$`).FindSubmatch(page)
	if lines == nil {
		ts.Fatalf("docs/clustering.md has no two lines that begin with: user default, user audit-milter")
	}
	user := strings.Replace(string(lines[2]), "PASSWORD", "secret", 1)
	return slices.Concat([]string{"--user"}, strings.Fields(string(lines[1])), []string{"--user"}, strings.Fields(user))
}

// findPort is `port`: one that is free, in $PORT.
func findPort(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: port")
	}
	ts.Setenv("PORT", freePort(ts))
}

// freePort is one of 127.0.0.1. Nobody keeps it free, but few take one that is not theirs.
func freePort(ts *testscript.TestScript) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	defer l.Close()
	return strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
}

// awaitPort waits until somebody listens, and returns the address.
func awaitPort(ts *testscript.TestScript, port string) (address string) {
	address = net.JoinHostPort("127.0.0.1", port)
	await(ts, address+" answers", func() bool {
		c, err := net.Dial("tcp", address)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	return address
}

// certify writes an authority, ca.pem, a certificate by it for 127.0.0.1, server.pem and
// server.key, and another authority, other.pem.
func certify(ts *testscript.TestScript) {
	newKey := func() *ecdsa.PrivateKey {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		ts.Check(err)
		return key
	}
	write := func(file, kind string, der []byte) {
		ts.Check(os.WriteFile(ts.MkAbs(file), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
	}
	template := func(name string) *x509.Certificate {
		return &x509.Certificate{
			SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		}
	}
	authority := func(file string) (*x509.Certificate, *ecdsa.PrivateKey) {
		key, cert := newKey(), template(file)
		cert.IsCA, cert.BasicConstraintsValid, cert.KeyUsage = true, true, x509.KeyUsageCertSign
		der, err := x509.CreateCertificate(rand.Reader, cert, cert, key.Public(), key)
		ts.Check(err)
		write(file, "CERTIFICATE", der)
		return cert, key
	}
	authority("other.pem")
	ca, caKey := authority("ca.pem")
	key, cert := newKey(), template("server")
	cert.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
	der, err := x509.CreateCertificate(rand.Reader, cert, ca, key.Public(), caKey)
	ts.Check(err)
	write("server.pem", "CERTIFICATE", der)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	ts.Check(err)
	write("server.key", "PRIVATE KEY", private)
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

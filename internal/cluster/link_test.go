package cluster

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// Each way to a server, and what its Check says when it is not the right one.
func TestTwoNodesMeetByEachKindOfServer(t *testing.T) {
	for name, row := range map[string]struct {
		serve func(t *testing.T) func(*Options)
		spoil func(*Options)
		want  string
	}{
		"one with a password": {withPassword, func(o *Options) { o.Password = "wrong" }, "WRONGPASS"},
		"one with a user":     {withUser, func(o *Options) { o.Username = "" }, "WRONGPASS"},
		"one with TLS":        {withTLS, func(o *Options) { o.TLS = &tls.Config{} }, "certificate"},
		"Valkey Cluster":      {withSlots, func(o *Options) { o.Addresses = []string{"127.0.0.1:1"} }, "refused"},
		"Sentinels":           {withSentinel, func(o *Options) { o.Sentinel = "other" }, "No such master"},
	} {
		t.Run(name, func(t *testing.T) {
			link := row.serve(t)
			a := newNode(t, "", "a", nodeOptions{link: link})
			b := newNode(t, "", "b", nodeOptions{link: link})
			a.add(1, 1)
			b.add(1, 10)
			a.show("alice", "192.0.2.1")
			expect(t, []*node{a, b}, map[int]int64{1: 11})
			good := a.cluster.Options
			if _, err := good.Check(t.Context()); err != nil {
				t.Error(err)
			}
			row.spoil(&good)
			if _, err := good.Check(t.Context()); err == nil || !strings.Contains(err.Error(), row.want) {
				t.Errorf("got %v, want %q", err, row.want)
			}
		})
	}
}

// While the server is full, nodes count on and say why the others do not hear of it; once
// it has room again, all count the same.
func TestServerIsFull(t *testing.T) {
	s := newServer(t)
	nodes := threeNodes(t, s.path)
	nodes[0].add(1, 1)
	expect(t, nodes, map[int]int64{1: 1})
	s.do("CONFIG", "SET", "maxmemory-policy", "noeviction")
	s.do("CONFIG", "SET", "maxmemory", "1")
	for i, n := range nodes {
		n.add(1, 10)
		n.add(2+i, 5)
		eventually(t, func() error {
			if !strings.Contains(n.log.String(), "OOM command not allowed") {
				return fmt.Errorf("%s says nothing of it:\n%s", n.name, n.log)
			}
			return nil
		})
		if got := n.count(1); got != 11 {
			t.Errorf("%s counts %d meanwhile, want its own 10 and the 1 from before", n.name, got)
		}
	}
	if _, err := nodes[0].cluster.Options.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "refuses set, hset, xadd: OOM") {
		t.Errorf("the check says %v", err)
	}
	s.do("CONFIG", "SET", "maxmemory", "0")
	want := map[int]int64{1: 31, 2: 5, 3: 5, 4: 5}
	expect(t, nodes, want)
	for _, n := range nodes {
		n.settled()
	}
	expect(t, nodes, want)
}

func withPassword(t *testing.T) func(*Options) {
	s := newServer(t)
	s.do("CONFIG", "SET", "requirepass", "secret")
	return func(o *Options) { o.Addresses, o.Password = []string{s.path}, "secret" }
}

// withUser has one with no more rights than docs/clustering.md gives it.
func withUser(t *testing.T) func(*Options) {
	s := newServer(t)
	s.give(documentedRights(t))
	s.do("CONFIG", "SET", "requirepass", "other")
	return func(o *Options) { o.Addresses, o.Username, o.Password = []string{s.path}, "audit-milter", "secret" }
}

// documentedRights are those of the user in docs/clustering.md.
func documentedRights(t *testing.T) []string {
	page, err := os.ReadFile("../../docs/clustering.md")
	if err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile(`(?m)^ +user audit-milter on >PASSWORD (.*)$`).FindSubmatch(page)
	if line == nil {
		t.Fatal("docs/clustering.md has no line that begins with: user audit-milter")
	}
	return strings.Fields(string(line[1]))
}

// give makes the user audit-milter one who has these rights and no other.
func (s *server) give(rights []string) {
	s.Helper()
	s.do(append([]string{"ACL", "SETUSER", "audit-milter", "reset", "on", ">secret"}, rights...)...)
}

func withTLS(t *testing.T) func(*Options) {
	dir := t.TempDir()
	trusted := certificate(t, dir)
	port := freePort(t)
	newServer(t, "--tls-port", port, "--tls-auth-clients", "no",
		"--tls-cert-file", filepath.Join(dir, "cert"), "--tls-key-file", filepath.Join(dir, "key"), "--tls-ca-cert-file", filepath.Join(dir, "cert"))
	return func(o *Options) {
		o.Addresses, o.TLS = []string{"127.0.0.1:" + port}, &tls.Config{RootCAs: trusted}
	}
}

// withSlots has a cluster of one server, which refuses what needs several slots.
func withSlots(t *testing.T) func(*Options) {
	port := freePort(t)
	s := newServer(t, "--port", port, "--cluster-enabled", "yes", "--cluster-port", freePort(t))
	if out, err := exec.Command("redis-cli", "-s", s.path, "CLUSTER", "ADDSLOTSRANGE", "0", "16383").CombinedOutput(); err != nil || string(out) != "OK\n" {
		t.Fatal(string(out), err)
	}
	eventually(t, func() error {
		out, err := exec.Command("redis-cli", "-s", s.path, "CLUSTER", "INFO").Output()
		if err == nil && !strings.Contains(string(out), "cluster_state:ok") {
			err = fmt.Errorf("%s", out)
		}
		return err
	})
	return func(o *Options) { o.Addresses = []string{"127.0.0.1:" + port} }
}

func withSentinel(t *testing.T) func(*Options) {
	port, sentinel := freePort(t), freePort(t)
	newServer(t, "--port", port).do("CONFIG", "SET", "requirepass", "secret")
	startSentinel(t, sentinel, fmt.Sprintf("sentinel monitor counts 127.0.0.1 %s 1\nsentinel auth-pass counts secret\n", port))
	o := Options{Name: "test", Node: "x", Addresses: []string{"127.0.0.1:" + sentinel}, Sentinel: "counts", Password: "secret"}
	eventually(t, func() error {
		_, err := o.Check(t.Context())
		return err
	})
	return func(to *Options) { to.Addresses, to.Sentinel, to.Password = o.Addresses, o.Sentinel, o.Password }
}

func freePort(t *testing.T) string {
	beside(t) // which may wait, and then it would be free no longer
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// certificate writes one that signs itself, and its key.
func certificate(t *testing.T, dir string) *x509.CertPool {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA:         true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	for name, text := range map[string][]byte{"cert": cert, "key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(cert)
	return pool
}

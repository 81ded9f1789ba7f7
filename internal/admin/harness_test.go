package admin_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/audit-milter/audit-milter/internal/admin"
	"github.com/audit-milter/audit-milter/internal/cluster"
	"github.com/audit-milter/audit-milter/internal/config"
	"github.com/audit-milter/audit-milter/policy"
)

const secret = "0123456789abcdef"

// begin is the begin of an hour, so that windows begin there too.
var begin = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

const plain = `
series:
  connections: {type: ip, interval: 5m, windows: 6, add: {at: connect}}
  clients4: {type: cidr, interval: 1h, windows: 2, add: {at: connect}}
  users: {type: string, interval: 10m, windows: 6, add: {at: mail, key: sasl_username}}
`

// served is a server that answers on both listeners, by a clock that the test
// owns.
type served struct {
	t      testing.TB
	server *admin.Server
	engine *policy.Engine
	now    time.Time
	log    strings.Builder
	path   string // of the unix socket
	tcp    string // host:port
}

// serve begins to answer; a token of "" is none.
func serve(t testing.TB, yaml, token string) *served {
	t.Helper()
	conf, err := config.Parse("policy.yaml", []byte(yaml))
	if err != nil {
		t.Fatal(err)
	}
	return servePolicy(t, conf.Policy, token, nil)
}

// servePolicy begins to answer in a cluster, or in none where that is nil.
func servePolicy(t testing.TB, p *policy.Policy, token string, of func() cluster.Status) *served {
	t.Helper()
	var err error
	s := &served{t: t, now: begin, path: filepath.Join(t.TempDir(), "admin.sock")}
	log := slog.New(slog.NewTextHandler(&s.log, nil))
	if s.engine, err = policy.NewEngine(p, policy.Options{Log: log}); err != nil {
		t.Fatal(err)
	}
	s.server = &admin.Server{
		Engine: func() *policy.Engine { return s.engine },
		Token:  func() string { return token },
		Now:    func() time.Time { return s.now },
		Log:    log,

		Cluster: of,
		Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			io.WriteString(w, "audit_milter_up 1\n")
		}),
	}
	socket, tcp := listen(t, "unix", s.path), listen(t, "tcp", "127.0.0.1:0")
	s.tcp = tcp.Addr().String()
	ended := make(chan error, 2)
	go func() { ended <- s.server.ServeSocket(socket) }()
	go func() { ended <- s.server.ServeTCP(tcp) }()
	t.Cleanup(func() {
		s.server.Shutdown(context.Background())
		for range 2 {
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
	})
	return s
}

func listen(t testing.TB, network, address string) net.Listener {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// bySocket is a client on the unix socket.
func (s *served) bySocket() *http.Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", s.path)
	}
	return s.closing(&http.Client{Transport: &http.Transport{DialContext: dial}})
}

// byTCP is a client on the TCP listener.
func (s *served) byTCP() *http.Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", s.tcp)
	}
	return s.closing(&http.Client{Transport: &http.Transport{DialContext: dial}})
}

func (s *served) closing(c *http.Client) *http.Client {
	s.t.Cleanup(c.CloseIdleConnections)
	return c
}

// request is `GET /path` or `POST /path BODY`, and headers, each `Name: value`.
func (s *served) request(c *http.Client, line string, headers ...string) string {
	s.t.Helper()
	method, rest, _ := strings.Cut(line, " ")
	path, body, _ := strings.Cut(rest, " ")
	r, err := http.NewRequest(method, "http://daemon"+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Add(name, value)
	}
	answer, err := c.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return fmt.Sprintf("%d %s", answer.StatusCode, strings.TrimSpace(string(text)))
}

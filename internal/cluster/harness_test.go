package cluster

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/valkey-io/valkey-go"

	"github.com/audit-milter/audit-milter/internal/config"
	"github.com/audit-milter/audit-milter/internal/deltas"
	"github.com/audit-milter/audit-milter/internal/history"
	"github.com/audit-milter/audit-milter/policy"
	"github.com/audit-milter/audit-milter/series"
)

// server is a real one, on a socket of its own.
type server struct {
	testing.TB
	dir  string
	path string
	args []string
	cmd  *exec.Cmd
}

var waiting sync.Map // tests

// beside lets a test run beside others that do so too, since it mostly waits.
func beside(t testing.TB) {
	test, ok := t.(*testing.T)
	if _, again := waiting.LoadOrStore(t, true); ok && !again {
		test.Parallel()
	}
}

func newServer(t testing.TB, args ...string) *server {
	if _, err := exec.LookPath("redis-server"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("redis-server is not there; Debian's package is redis-server")
		}
		t.Skip("this needs redis-server, which is not there; Debian's package is redis-server")
	}
	beside(t)
	dir, err := os.MkdirTemp("", "cluster") // t.TempDir may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	s := &server{TB: t, dir: dir, path: filepath.Join(dir, "s"), args: args}
	t.Cleanup(func() {
		s.kill()
		os.RemoveAll(dir)
	})
	s.start()
	return s
}

func (s *server) start() {
	s.Helper()
	args := append([]string{"--port", "0", "--unixsocket", s.path, "--dir", s.dir, "--appendonly", "yes", "--save", "", "--loglevel", "warning"}, s.args...)
	s.cmd = exec.Command("redis-server", args...)
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		s.Fatal(err)
	}
	eventually(s, func() error {
		client, err := valkey.NewClient((&Options{Addresses: []string{s.path}}).clientOption())
		if err != nil {
			return err
		}
		defer client.Close()
		return client.Do(context.Background(), client.B().Ping().Build()).Error()
	})
}

func (s *server) kill() {
	if s.cmd != nil {
		s.cmd.Process.Kill()
		s.cmd.Wait()
		s.cmd = nil
	}
}

func (s *server) data() string { return filepath.Join(s.dir, "appendonlydir") }

// wipe takes a killed server's data away.
func (s *server) wipe() {
	if err := os.RemoveAll(s.data()); err != nil {
		s.Fatal(err)
	}
}

// backup is a copy of the server's data.
func (s *server) backup() string {
	to := s.TempDir()
	if err := os.CopyFS(to, os.DirFS(s.data())); err != nil {
		s.Fatal(err)
	}
	return to
}

// restore gives a killed server the data of a backup.
func (s *server) restore(backup string) {
	if err := os.CopyFS(s.data(), os.DirFS(backup)); err != nil {
		s.Fatal(err)
	}
}

// do sends one command.
func (s *server) do(command ...string) valkey.ValkeyResult {
	s.Helper()
	client, err := valkey.NewClient((&Options{Addresses: []string{s.path}}).clientOption())
	if err != nil {
		s.Fatal(err)
	}
	defer client.Close()
	r := client.Do(context.Background(), client.B().Arbitrary(command...).Build())
	if err := r.Error(); err != nil && !valkey.IsValkeyNil(err) {
		s.Fatal(command, err)
	}
	return r
}

// patience is how long nodes may take to agree; on a machine that does much else too.
const patience = 30 * time.Second

// eventually waits until nothing is wrong any more.
func eventually(t testing.TB, wrong func() error) {
	t.Helper()
	deadline := time.Now().Add(patience)
	if _, ok := t.(*testing.B); ok { // hundreds of nodes start
		deadline = deadline.Add(5 * patience)
	}
	for {
		err := wrong()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// definitions are the series of all nodes, unless a test says otherwise.
const definitions = `
series:
  clients: {type: ip, interval: 1h, windows: 3, add: {at: connect}}
  users: {type: string, interval: 1h, windows: 3, distinct: client_address, add: {at: mail, key: sasl_username}}
  managed: {type: string, interval: 1h, windows: 3, add: {at: mail, key: sasl_username}}
rules:
  - {name: flood, at: connect, if: {series: clients, above: 1000000}, then: tempfail, penalty: 10m}
`

// node is a daemon without sessions and disks.
type node struct {
	testing.TB
	name    string
	engine  *policy.Engine
	inForce atomic.Pointer[policy.Engine] // the same, for all goroutines
	cluster *Cluster
	collect *deltas.Collector
	log     *journal
	ahead   atomic.Int64 // of its clock, in nanoseconds
	stop    func()
}

// nodeOptions are what tests change.
type nodeOptions struct {
	definitions string
	manager     bool
	persist     bool
	ahead       time.Duration
	link        func(*Options) // changes the options it has, as how the server is reached
	history     string         // a directory, if it writes one
}

func newNode(t testing.TB, address, name string, o nodeOptions) *node {
	t.Helper()
	n := &node{TB: t, name: name, log: new(journal)}
	n.ahead.Store(int64(o.ahead))
	if o.definitions == "" {
		o.definitions = definitions
	}
	n.setEngine(n.newEngine(o))
	takers, keeper, closeHistory := n.openHistory(o)
	options := Options{
		Keeper: keeper,
		Name:   "test", Node: name, Manager: o.manager, Version: "1",
		Addresses: []string{address},
		Engine:    func() Engine { return n.inForce.Load() },
		Now:       n.now,
		Log:       slog.New(slog.NewTextHandler(n.log, nil)),
	}
	if o.link != nil {
		o.link(&options)
	}
	var err error
	n.cluster, err = Open(options)
	if err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithCancel(context.Background())
	var both sync.WaitGroup
	n.collect = deltas.New(0, append(takers, n.cluster)...)
	n.collect.Collect(n.engine, n.now()) // before the first event, as in a daemon
	both.Go(func() { n.collect.Run(ctx, func() deltas.Engine { return n.inForce.Load() }, n.now) })
	both.Go(func() { n.cluster.Run(ctx) })
	n.stop = sync.OnceFunc(func() {
		end()
		both.Wait()
		closeHistory()
	})
	t.Cleanup(n.stop)
	return n
}

// openHistory begins to write one, if the node does.
func (n *node) openHistory(o nodeOptions) (takers []deltas.Taker, keeper Keeper, end func()) {
	n.Helper()
	if o.history == "" {
		return nil, nil, func() {}
	}
	w, err := history.NewWriter(history.Options{Dir: o.history, Node: n.name, Manager: o.manager, Log: slog.New(slog.NewTextHandler(n.log, nil)), Now: n.now})
	if err != nil {
		n.Fatal(err)
	}
	return []deltas.Taker{w}, w, w.Close
}

func (n *node) now() time.Time { return time.Now().Add(time.Duration(n.ahead.Load())) }

func (n *node) setEngine(e *policy.Engine) {
	n.engine = e
	n.inForce.Store(e)
}

// reload puts other definitions in force.
func (n *node) reload(definitions string) {
	n.Helper()
	next, _, err := n.engine.Successor(n.policy(nodeOptions{definitions: definitions}), policy.Options{Start: n.now()})
	if err != nil {
		n.Fatal(err)
	}
	before := n.engine
	n.collect.Change(next, n.now(), func() {
		n.setEngine(next)
		before.Retire(next)
	})
}

func (n *node) newEngine(o nodeOptions) *policy.Engine {
	n.Helper()
	e, err := policy.NewEngine(n.policy(o), policy.Options{Start: n.now()})
	if err != nil {
		n.Fatal(err)
	}
	n.Cleanup(e.Close)
	return e
}

func (n *node) policy(o nodeOptions) *policy.Policy {
	n.Helper()
	conf, err := config.Parse("policy.yaml", []byte(o.definitions))
	if err != nil {
		n.Fatal(err)
	}
	for _, s := range conf.Policy.Series {
		s.Persist, s.Serialize = o.persist, o.history != ""
		s.Replicate = policy.Cluster
		if s.Name == "managed" {
			s.Replicate = policy.Manager
		}
	}
	return conf.Policy
}

func addr(i int) series.Key {
	return series.AddrKey(netip.AddrFrom4([4]byte{198, 51 + byte(i>>16), byte(i >> 8), byte(i)}))
}

func (n *node) add(i int, amount int64) {
	n.engine.Counter("clients").(*series.Series).Add(addr(i), amount, n.now())
}

// show lets a user show up at an address.
func (n *node) show(user, from string) {
	n.Helper()
	ev := new(policy.Event)
	ev.SetClient(netip.MustParseAddr(from), 0, "")
	ev.SetText(policy.SASLUsername, user)
	if _, err := n.engine.Decide(ev, policy.Mail, n.now()); err != nil {
		n.Fatal(err)
	}
}

func (n *node) count(i int) int64 {
	return n.engine.Counter("clients").Count(addr(i), series.Host, 0, 2, n.now())
}

func (n *node) text(name, key string) int64 {
	return n.engine.Counter(name).Count(series.TextKey(key), series.Host, 0, 2, n.now())
}

// all is what the node counts in total of all clients.
func (n *node) all() int64 {
	return n.engine.Counter("clients").Count(addr(0), series.Mask{}, 0, 2, n.now())
}

// expect waits until all nodes have these counts of clients.
func expect(t testing.TB, nodes []*node, want map[int]int64) {
	t.Helper()
	var total int64
	for _, w := range want {
		total += w
	}
	eventually(t, func() error {
		for _, n := range nodes {
			for i, w := range want {
				if got := n.count(i); got != w {
					return fmt.Errorf("%s counts %d for %v, want %d\n%+v\n%s", n.name, got, addr(i), w, n.cluster.Status(), n.log)
				}
			}
			if got := n.all(); got != total {
				return fmt.Errorf("%s counts %d in total, want %d", n.name, got, total)
			}
		}
		return nil
	})
}

// others waits until the node has heard of so many and is up to date.
func (n *node) others(count int) {
	n.Helper()
	eventually(n, func() error {
		s := n.cluster.Status()
		for _, other := range s.Nodes {
			if other.UpTo.IsZero() || len(other.Behind) > 0 {
				return fmt.Errorf("%s has still to read %+v", n.name, other)
			}
		}
		if len(s.Nodes) != count {
			return fmt.Errorf("%s knows %d nodes, want %d: %+v\n%s", n.name, len(s.Nodes), count, s, n.log)
		}
		return nil
	})
}

// logs reports an error until the node has logged a line with all of the texts.
func (n *node) logs(texts ...string) func() error {
	return func() error {
		for line := range strings.Lines(n.log.String()) {
			if !slices.ContainsFunc(texts, func(text string) bool { return !strings.Contains(line, text) }) {
				return nil
			}
		}
		return fmt.Errorf("%s does not log %q:\n%s", n.name, texts, n.log)
	}
}

// settled waits until all that the node has counted is on the server.
func (n *node) settled() {
	n.Helper()
	eventually(n, func() error {
		c := n.cluster
		c.mu.Lock()
		defer c.mu.Unlock()
		if len(c.waiting) > 0 || c.broken || c.taking {
			return fmt.Errorf("%s: %d entries wait, broken %v, within a snapshot %v\n%s", n.name, len(c.waiting), c.broken, c.taking, n.log)
		}
		return nil
	})
}

// snapshot lets the node take one, and waits until that is written.
func (n *node) snapshot() {
	n.Helper()
	n.demand()
	c := n.cluster
	eventually(n, func() error {
		if c.Status().SnapshotAt.IsZero() {
			return fmt.Errorf("%s takes no snapshot", n.name)
		}
		return nil
	})
	n.settled()
}

// demand lets the node take a snapshot as soon as it can.
func (n *node) demand() {
	c := n.cluster
	c.mu.Lock()
	defer c.mu.Unlock()
	c.begun = time.Time{}
}

// twoNodes are some that have heard of each other.
func twoNodes(t testing.TB, address, one, other string) (a, b *node) {
	a, b = newNode(t, address, one, nodeOptions{}), newNode(t, address, other, nodeOptions{})
	a.others(1)
	b.others(1)
	return a, b
}

func threeNodes(t testing.TB, address string) []*node {
	nodes := make([]*node, 3)
	for i := range nodes {
		nodes[i] = newNode(t, address, fmt.Sprint("mx", i+1), nodeOptions{})
	}
	for _, n := range nodes {
		n.others(2)
	}
	return nodes
}

// journal is what a node logs.
type journal struct {
	mu   sync.Mutex
	text strings.Builder
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

package milter_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/audit-milter/audit-milter/internal/config"
	"github.com/audit-milter/audit-milter/internal/wiretrace"
	"github.com/audit-milter/audit-milter/milter"
	"github.com/audit-milter/audit-milter/policy"
)

// place is a running server with a policy in YAML, inside a synctest bubble:
// its clock is the bubble's.
type place struct {
	t      *testing.T
	server *milter.Server
	pipes  *pipes
	seen   *observer
}

// inPlace runs a test in a bubble of its own, with the server as it is made or
// adjusted.
func inPlace(t *testing.T, yaml string, test func(p *place), adjust ...func(*milter.Terms)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		p := open(t, yaml, adjust...)
		defer p.close()
		test(p)
	})
}

// parse reads a configuration.
func parse(t testing.TB, yaml string) *config.Config {
	t.Helper()
	conf, err := config.Parse("policy.yaml", []byte(yaml))
	if err != nil {
		t.Fatal(err)
	}
	return conf
}

// serverFor is a server whose log the observer reads, with terms as they are
// made or adjusted.
func serverFor(t testing.TB, conf *config.Config, seen *observer, adjust ...func(*milter.Terms)) *milter.Server {
	t.Helper()
	log := slog.New(seen)
	engine, err := policy.NewEngine(conf.Policy, policy.Options{Log: log})
	if err != nil {
		t.Fatal(err)
	}
	terms := milter.Terms{Engine: engine, MaxDelayed: conf.MaxDelayed}
	for _, f := range adjust {
		f(&terms)
	}
	server := &milter.Server{Node: "mx1", Log: log}
	server.Adopt(terms)
	return server
}

func open(t *testing.T, yaml string, adjust ...func(*milter.Terms)) *place {
	t.Helper()
	p := &place{t: t, seen: newObserver(), pipes: newPipes()}
	p.server = serverFor(t, parse(t, yaml), p.seen, adjust...)
	go p.server.Serve(p.pipes, nil)
	synctest.Wait()
	return p
}

// close drains the server, as SIGTERM does.
func (p *place) close() {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	p.server.Shutdown(ctx)
}

// counts are the sums of all series, as "name 1, other 2".
func (p *place) counts() string {
	synctest.Wait()
	return p.seen.counts()
}

// countsOf are the counts of one key in all series.
func (p *place) countsOf(key string) string {
	synctest.Wait()
	return p.seen.countsOf(key)
}

// pipes is a listener whose connections are net.Pipes.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), closed: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { p.once.Do(func() { close(p.closed) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }

// mta is the MTA's end of one connection, frame by frame.
type mta struct {
	t    *testing.T
	conn net.Conn

	mu   sync.Mutex
	got  []wiretrace.Frame
	over bool // the milter has closed
}

// dial connects an MTA that has not negotiated.
func (p *place) dial() *mta {
	theirs, ours := net.Pipe()
	p.pipes.conns <- ours
	m := &mta{t: p.t, conn: theirs}
	go m.collect()
	synctest.Wait()
	return m
}

// mta connects an MTA that offers everything, as both do.
func (p *place) mta() *mta {
	m := p.dial()
	m.write("O 6 0x1ff 0x1fffff")
	m.answers()
	return m
}

func (m *mta) collect() {
	for {
		f, err := wiretrace.ReadFrame(m.conn)
		m.mu.Lock()
		if err != nil {
			m.over = true
			m.mu.Unlock()
			return
		}
		m.got = append(m.got, f)
		m.mu.Unlock()
	}
}

// write sends frames in one write, each as wiretrace spells it without > or <.
func (m *mta) write(frames ...string) {
	m.t.Helper()
	var b bytes.Buffer
	for _, f := range frames {
		b.Write(fromMTA(m.t, f))
	}
	m.writeRaw(b.Bytes())
}

// writeRaw does not mind that the other end may have closed. A pipe would
// carry a write of no bytes, as no socket does.
func (m *mta) writeRaw(b []byte) {
	if len(b) > 0 {
		m.conn.Write(b)
	}
	synctest.Wait()
}

func fromMTA(t testing.TB, frame string) []byte {
	t.Helper()
	trace, err := wiretrace.Parse([]byte("> " + frame))
	if err != nil {
		t.Fatal(err)
	}
	return trace.Frames[0].Bytes()
}

// answers takes what the milter has answered since the last call, as wiretrace
// spells it, joined by commas.
func (m *mta) answers() string {
	synctest.Wait()
	m.mu.Lock()
	defer m.mu.Unlock()
	var told []string
	for _, f := range m.got {
		told = append(told, strings.TrimPrefix(f.String(), "< "))
	}
	m.got = nil
	return strings.Join(told, ", ")
}

// ask sends frames and takes the answers.
func (m *mta) ask(frames ...string) string {
	m.t.Helper()
	m.write(frames...)
	return m.answers()
}

// hears fails the test unless the frames are answered so.
func (m *mta) hears(want string, frames ...string) {
	m.t.Helper()
	if got := m.ask(frames...); got != want {
		m.t.Errorf("%s: answered %q, want %q", strings.Join(frames, ", "), got, want)
	}
}

// closed reports whether the milter has closed the connection.
func (m *mta) closed() bool {
	synctest.Wait()
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.over
}

func (m *mta) hangUp() {
	m.conn.Close()
	synctest.Wait()
}

// observer is the handler of a log: it adds up what the engine counts, and
// keeps the messages.
type observer struct {
	mu       *sync.Mutex
	sums     map[string]int64
	messages *[]string
}

func newObserver() *observer {
	return &observer{new(sync.Mutex), make(map[string]int64), new([]string)}
}

func (o *observer) Enabled(context.Context, slog.Level) bool { return true }
func (o *observer) WithAttrs([]slog.Attr) slog.Handler       { return o }
func (o *observer) WithGroup(string) slog.Handler            { return o }

func (o *observer) Handle(_ context.Context, r slog.Record) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	attrs := map[string]slog.Value{}
	text := r.Message
	r.Attrs(func(a slog.Attr) bool {
		attrs[a.Key] = a.Value
		text += fmt.Sprintf(" %s=%v", a.Key, a.Value)
		return true
	})
	if r.Message == "add" {
		o.sums[attrs["series"].String()] += attrs["amount"].Int64()
		o.sums[attrs["series"].String()+"/"+attrs["key"].String()] += attrs["amount"].Int64()
	} else if r.Level > slog.LevelDebug {
		*o.messages = append(*o.messages, text)
	}
	return nil
}

// forget begins anew.
func (o *observer) forget() {
	o.mu.Lock()
	defer o.mu.Unlock()
	clear(o.sums)
	*o.messages = nil
}

// sum is what a series has counted.
func (o *observer) sum(series string) int64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.sums[series]
}

// counts are the sums of the series.
func (o *observer) counts() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	var told []string
	for name, n := range o.sums {
		if !strings.Contains(name, "/") && n != 0 {
			told = append(told, fmt.Sprintf("%s %d", name, n))
		}
	}
	slices.Sort(told)
	return strings.Join(told, ", ")
}

// countsOf are the counts of one key in all series.
func (o *observer) countsOf(key string) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	var told []string
	for name, n := range o.sums {
		if series, of, _ := strings.Cut(name, "/"); of == key {
			told = append(told, fmt.Sprintf("%s %d", series, n))
		}
	}
	slices.Sort(told)
	return strings.Join(told, ", ")
}

// keys are the keys of one series, with their sums.
func (o *observer) keys(series string) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	var told []string
	for name, n := range o.sums {
		if key, ok := strings.CutPrefix(name, series+"/"); ok {
			told = append(told, fmt.Sprintf("%s %d", key, n))
		}
	}
	slices.Sort(told)
	return strings.Join(told, ", ")
}

// said is how often a line with the text was logged.
func (o *observer) said(text string) (n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, m := range *o.messages {
		if strings.Contains(m, text) {
			n++
		}
	}
	return n
}

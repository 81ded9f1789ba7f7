package notify_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/audit-milter/audit-milter/internal/config"
	"github.com/audit-milter/audit-milter/internal/notify"
	"github.com/audit-milter/audit-milter/policy"
)

// place is an engine and a notifier with a configuration in YAML, inside a
// bubble of testing/synctest: its clock stands still while a server answers. The
// servers, real ones on loopback, live outside.
type place struct {
	*testing.T
	engine   *policy.Engine
	notifier *notify.Notifier
	log      safeBuffer
}

// inPlace runs play in a bubble, whose clock begins at midnight UTC.
func inPlace(t *testing.T, yaml string, play func(p *place)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		p := open(t, yaml)
		defer p.notifier.Close(time.Second)
		play(p)
	})
}

func open(t *testing.T, yaml string) *place {
	t.Helper()
	p := &place{T: t}
	conf := p.parse(yaml)
	log := slog.New(slog.NewTextHandler(&p.log, &slog.HandlerOptions{ReplaceAttr: withoutTime}))
	p.notifier = notify.Start(conf.Notify, notify.Options{Log: log, Jitter: func() float64 { return 0 }})
	engine, err := policy.NewEngine(conf.Policy, policy.Options{Notify: p.notifier.Fired})
	if err != nil {
		t.Fatal(err)
	}
	p.engine = engine
	return p
}

func (p *place) parse(yaml string) *config.Config {
	p.Helper()
	conf, err := config.Parse("notify.yaml", []byte(yaml))
	if err != nil {
		p.Fatal(err)
	}
	return conf
}

func withoutTime(_ []string, a slog.Attr) slog.Attr {
	if a.Key == slog.TimeKey {
		return slog.Attr{}
	}
	return a
}

// rcpt is a recipient of a message that alice, or whoever is named, sends; what
// is due is delivered, or waits for another attempt, when it returns.
func (p *place) rcpt(user string) {
	p.Helper()
	ev := &policy.Event{}
	ev.Session, ev.Node = "s1", "mx1.example.com"
	ev.SetClient(netip.MustParseAddr("198.51.100.7"), 40000, "")
	ev.SetSender("<Alice@Example.com>")
	ev.SetText(policy.SASLUsername, user)
	ev.SetText(policy.QueueID, "4XyZ")
	ev.SetRecipient("<bob@example.org>")
	if _, err := p.engine.Decide(ev, policy.Rcpt, time.Now()); err != nil {
		p.Fatal(err)
	}
}

// settle waits until nothing goes on but waiting.
func (p *place) settle() { synctest.Wait() }

// pass lets time pass.
func (p *place) pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// numbers are those of the only target.
func (p *place) numbers() string {
	s := p.notifier.Stats()[0]
	return fmt.Sprintf("sent %d, failed %d, dropped %d, suppressed %d, queued %d", s.Sent, s.Failed, s.Dropped, s.Suppressed, s.Queued)
}

func (p *place) wantNumbers(want string) {
	p.Helper()
	if got := p.numbers(); got != want {
		p.Errorf("numbers: %s; want %s", got, want)
	}
}

// wantLog compares what was logged since the last time.
func (p *place) wantLog(want ...string) {
	p.Helper()
	got := strings.TrimSpace(p.log.take())
	if got != strings.Join(want, "\n") {
		p.Errorf("logged:\n%s\nwant:\n%s", got, strings.Join(want, "\n"))
	}
}

// safeBuffer is a buffer that several write to.
type safeBuffer struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.Write(p)
}

func (b *safeBuffer) take() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	defer b.buffer.Reset()
	return b.buffer.String()
}

// hook is a webhook's server. It answers the given codes, the last one again and
// again.
type hook struct {
	*httptest.Server
	location string // of every answer
	mu       sync.Mutex
	codes    []int
	headers  http.Header // of the last request
	bodies   []string
}

func newHook(t *testing.T, codes ...int) *hook {
	h := &hook{location: "/elsewhere", codes: codes}
	h.Server = httptest.NewServer(h)
	t.Cleanup(h.Close)
	return h
}

func (h *hook) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.headers = r.Header
	h.bodies = append(h.bodies, string(body))
	code := h.codes[0]
	if len(h.codes) > 1 {
		h.codes = h.codes[1:]
	}
	w.Header().Set("Location", h.location)
	w.WriteHeader(code)
	fmt.Fprintf(w, "this is %d\n", code)
}

func (h *hook) answer(codes ...int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.codes = codes
}

// took are the bodies since the last time.
func (h *hook) took() (bodies []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	bodies, h.bodies = h.bodies, nil
	return bodies
}

// told are the notices since the last time, each as the given fields of it.
func (h *hook) told(t *testing.T, fields ...string) string {
	t.Helper()
	var all []string
	for _, body := range h.took() {
		var values map[string]any
		if err := json.Unmarshal([]byte(body), &values); err != nil {
			t.Fatal(err)
		}
		var shown []string
		for _, f := range fields {
			shown = append(shown, fmt.Sprint(values[f]))
		}
		all = append(all, strings.Join(shown, " "))
	}
	return strings.Join(all, "; ")
}

// quota is a policy that fires for each recipient above 2, and tells the hook.
func (h *hook) quota(more string) string {
	return quota(fmt.Sprintf(`webhook: "%s/secret/path"%s`, h.URL, more))
}

// newHangingHook is one that gives a first answer, tells that it was asked, and then
// hangs until the test is over.
func newHangingHook(t *testing.T, answer func(http.ResponseWriter)) (h *hook, asked <-chan struct{}) {
	begun, done := make(chan struct{}), make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		answer(w)
		close(begun)
		<-done
	}))
	t.Cleanup(func() {
		close(done)
		server.Close()
	})
	return &hook{Server: server}, begun
}

// everyone is a policy that fires at each recipient, for the login.
func (h *hook) everyone(more string) string { return atOnce(h.quota(more)) }

// quota has a target chat with those keys.
func quota(target string) string {
	return fmt.Sprintf(`
notify: {chat: {%s}}
series:
  recipients: {type: string, interval: 10m, windows: 6, add: {at: rcpt, key: sasl_username}}
rules:
  - {name: quota, at: rcpt, if: {series: recipients, windows: 0-5, above: 2}, then: tempfail, notify: chat}
`, target)
}

func atOnce(quota string) string { return strings.Replace(quota, "above: 2", "at_least: 1", 1) }

package metrics_test

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/audit-milter/audit-milter/internal/cluster"
	"github.com/audit-milter/audit-milter/internal/config"
	"github.com/audit-milter/audit-milter/internal/deltas"
	"github.com/audit-milter/audit-milter/internal/history"
	"github.com/audit-milter/audit-milter/internal/logging"
	"github.com/audit-milter/audit-milter/internal/metrics"
	"github.com/audit-milter/audit-milter/internal/notify"
	"github.com/audit-milter/audit-milter/internal/state"
	"github.com/audit-milter/audit-milter/milter"
	"github.com/audit-milter/audit-milter/policy"
	"github.com/audit-milter/audit-milter/series"
)

var begin = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

// daemon is all that is shown of one.
type daemon struct {
	t      testing.TB
	source metrics.Source
	engine atomic.Pointer[policy.Engine]
}

func newDaemon(t testing.TB, yaml string) *daemon {
	t.Helper()
	log := logging.Open(io.Discard, logging.Options{Buffer: 64 << 10})
	t.Cleanup(func() { log.Close(time.Second) })
	notifier := notify.Start(nil, notify.Options{Log: log.Logger})
	t.Cleanup(func() { notifier.Close(0) })
	d := &daemon{t: t}
	d.source = metrics.Source{Engine: d.engine.Load, Server: &milter.Server{}, Notifier: notifier, Log: log}
	d.load(yaml)
	d.source.Server.Adopt(milter.Terms{Engine: d.engine.Load()})
	return d
}

// load takes a configuration in the place of the one before.
func (d *daemon) load(yaml string) {
	d.t.Helper()
	conf, err := config.Parse("policy.yaml", []byte(yaml))
	if err != nil {
		d.t.Fatal(err)
	}
	d.source.Notifier.Replace(conf.Notify)
	options := policy.Options{Log: d.source.Log.Logger, Start: begin, Notify: d.source.Notifier.Fired}
	var engine *policy.Engine
	if before := d.engine.Load(); before != nil {
		engine, _, err = before.Successor(conf.Policy, options)
	} else {
		engine, err = policy.NewEngine(conf.Policy, options)
	}
	if err != nil {
		d.t.Fatal(err)
	}
	d.engine.Store(engine)
}

// mail decides about one client's MAIL.
func (d *daemon) mail(client, sender string) {
	ev := &policy.Event{}
	ev.SetClient(netip.MustParseAddr(client), 40000, "")
	ev.SetSender(sender)
	d.engine.Load().Decide(ev, policy.Mail, begin)
}

// scrape asks as Prometheus does and returns the text and what is in it.
func (d *daemon) scrape() (text string, families map[string]*dto.MetricFamily) {
	d.t.Helper()
	answer := httptest.NewRecorder()
	metrics.Handler(d.source).ServeHTTP(answer, httptest.NewRequest("GET", "/metrics", nil))
	text = answer.Body.String()
	if answer.Code != http.StatusOK {
		d.t.Fatalf("%d: %s", answer.Code, text)
	}
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		d.t.Fatal(err)
	}
	return text, families
}

// samples are the values by name and labels, without the prefix; a histogram's
// is its number.
func (d *daemon) samples() map[string]float64 {
	d.t.Helper()
	samples := make(map[string]float64)
	_, families := d.scrape()
	for name, family := range families {
		for _, m := range family.Metric {
			var labels []string
			for _, l := range m.Label {
				labels = append(labels, l.GetValue())
			}
			samples[strings.Join(append([]string{strings.TrimPrefix(name, "audit_milter_")}, labels...), " ")] =
				m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return samples
}

// expect has some of the samples.
func (d *daemon) expect(when string, want map[string]float64) {
	d.t.Helper()
	got := d.samples()
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if n, ok := got[name]; !ok || n != want[name] {
			d.t.Errorf("%s: %s is %v (there: %v); want %v", when, name, n, ok, want[name])
		}
	}
}

const mails = `
notify: {chat: {webhook: "http://127.0.0.1:9/nobody-listens"}}
series:
  clients: {type: ip, interval: 5m, windows: 1, max_keys: 10, add: {at: mail}}
  senders: {type: string, interval: 5m, windows: 1, add: {at: mail, key: sender, count: 9223372036854775807}}
rules:
  - {name: tried, at: mail, then: reject, mode: shadow}
  - {name: many, at: mail, if: {series: clients, above: 1}, then: tempfail, notify: chat}
`

func TestWhatIsCountedIsShown(t *testing.T) {
	d := newDaemon(t, mails)
	d.expect("at first", map[string]float64{
		"decisions_total tried true reject": 0, "decisions_total many false tempfail": 0,
		"events_total mail": 0, "failures_total end": 0, "latency_seconds rcpt_refused": 0,
		"series_adds_total clients": 0, "series_keys clients": 0, "series_max_keys clients": 10, "series_max_keys senders": 1_000_000,
		"turned_away_connections_total closed": 0, "timeouts_total idle": 0,
		"notifications_total sent chat": 0, "notifications_total failed chat": 0, "queued_notifications chat": 0,
		"open_sessions": 0, "max_sessions": milter.DefaultMaxSessions, "log_lost_lines_total": 0,
	})
	for i := range 15 {
		d.mail(fmt.Sprintf("198.51.100.%d", i), "<a@b.test>")
	}
	for range 14 {
		d.mail("203.0.113.1", "<a@b.test>")
	}
	stats := &d.source.Server.Stats
	stats.TurnedAway.Add(3)
	stats.TimedOut.Idle.Add(4)
	stats.Delayed.Add(5)
	d.expect("after 29 mails of 16 clients, 14 of them of one", map[string]float64{
		"decisions_total tried true reject": 29, "decisions_total many false tempfail": 13,
		"events_total mail": 29, "log_repeats_total": 13 - 10 + 4, "series_adds_total clients": 29, "series_saturated_adds_total senders": 28,
		"turned_away_connections_total on_error": 3, "timeouts_total idle": 4, "delayed_answers": 5,
		"untold_firings_total chat suppressed": 13 - 1, "untold_firings_total chat dropped": 0,
	})
	got := d.samples()
	if gone := got["series_evicted_keys_total clients"]; gone < 6 || gone+got["series_keys clients"] != 16 {
		t.Errorf("%v keys are gone and %v there, of 16", gone, got["series_keys clients"])
	}
}

// A reload keeps what was counted under the names that stay, and forgets none.
func TestNoCounterGoesBackwards(t *testing.T) {
	d := newDaemon(t, mails)
	for range 3 {
		d.mail("198.51.100.1", "<a@b.test>")
	}
	before := d.samples()
	d.load(`
notify: {chat: {webhook: "http://127.0.0.1:9/nobody-listens"}}
rules:
  - {name: many, at: mail, then: tempfail}
  - {name: new, at: mail, then: accept}
`)
	d.mail("198.51.100.1", "<a@b.test>")
	d.expect("after a reload", map[string]float64{
		"decisions_total many false tempfail": 3, "decisions_total tried true reject": 3, "decisions_total new false accept": 0,
		"events_total mail": 4,
	})
	after := d.samples()
	for name, n := range before {
		if now, ok := after[name]; strings.Contains(name, "_total") && !strings.HasPrefix(name, "series") && (!ok || now < n) {
			t.Errorf("%s was %v and is %v", name, n, now)
		}
	}
}

func TestNamesAreConventional(t *testing.T) {
	problems, err := testutil.CollectAndLint(metrics.NewCollector(newDaemon(t, mails).source))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

// A registry refuses what was not described, and what is not consistent.
func TestARegistryTakesTheCollector(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(metrics.NewCollector(newDaemon(t, mails).source))
	if _, err := registry.Gather(); err != nil {
		t.Error(err)
	}
}

func TestNoClientIsALabel(t *testing.T) {
	d := newDaemon(t, mails)
	for range 20 {
		d.mail("203.0.113.77", "<offender@b.test>")
	}
	text, families := d.scrape()
	if families["audit_milter_decisions_total"] == nil || families["go_goroutines"] == nil || families["process_open_fds"] == nil {
		t.Error("something is missing")
	}
	for _, word := range []string{"203.0.113", "offender", "b.test"} {
		if strings.Contains(text, word) {
			t.Errorf("the metrics have %s", word)
		}
	}
}

// The numbers are read while they change. The race detector looks on.
func TestAScrapeWhileMailComes(t *testing.T) {
	d := newDaemon(t, mails)
	var coming sync.WaitGroup
	for i := range 4 {
		coming.Go(func() {
			for n := range 500 {
				d.mail(fmt.Sprintf("198.51.%d.%d", i, n%250), "<a@b.test>")
			}
		})
	}
	last := 0.0
	for range 10 {
		now := d.samples()["events_total mail"]
		if now < last {
			t.Errorf("%v events, after %v", now, last)
		}
		last = now
	}
	coming.Wait()
	d.expect("at the end", map[string]float64{"events_total mail": 2000, "series_adds_total clients": 2000})
}

func TestWhatIsKeptIsShown(t *testing.T) {
	d := newDaemon(t, mails)
	if _, there := d.samples()["state_failing"]; there {
		t.Error("state_failing is shown without a state_dir")
	}
	store, _, err := state.Open(t.TempDir(), state.Options{Log: d.source.Log.Logger})
	if err != nil {
		t.Fatal(err)
	}
	writer, err := history.NewWriter(history.Options{Dir: t.TempDir(), Log: d.source.Log.Logger})
	if err != nil {
		t.Fatal(err)
	}
	d.source.State, d.source.History = store, writer
	d.source.Maintainer = &history.Maintainer{Dir: t.TempDir(), Log: d.source.Log.Logger}
	d.expect("before the first batch", map[string]float64{
		"state_files": 0, "state_last_sync_timestamp_seconds": 0, "state_last_snapshot_timestamp_seconds": 0,
		"history_written_rows_total": 0,
	})
	kept := d.engine.Load().Kept()[1]
	kept.Persist, kept.Serialize = true, true
	store.Take(&deltas.Batch{Number: 1, Now: begin}) // behind no snapshot
	batch := &deltas.Batch{Number: 2, Now: begin, Begin: true, End: true, Series: []deltas.Series{{Kept: kept, Begun: begin, Deltas: []series.Delta{
		{Key: series.TextKey("a"), Start: begin.Unix(), Amount: 3},
		{Key: series.TextKey("b"), Start: begin.Unix(), Amount: 4},
	}}}}
	store.Take(batch)
	writer.Take(batch)
	before := float64(time.Now().Add(-time.Minute).Unix())
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	writer.Close()
	d.expect("after two batches", map[string]float64{
		"state_failing": 0, "state_lost_batches_total": 1, "state_waiting_bytes": 0, "state_files": 1,
		"history_written_files_total": 1, "history_written_rows_total": 2, "history_waiting_rows": 0, "history_dropped_rows_total": 0,
		"history_failing writing": 0, "history_failing maintenance": 0, "history_deleted_files_total max_size": 0,
	})
	got := d.samples()
	for _, name := range []string{"state_last_sync_timestamp_seconds", "state_last_snapshot_timestamp_seconds"} {
		if got[name] < before {
			t.Errorf("%s is %f, that is before %f", name, got[name], before)
		}
	}
	if size, written := got["state_size_bytes"], got["state_written_bytes_total"]; written == 0 || size <= written {
		t.Errorf("%v bytes were written and there are %v, of which some are a header", written, size)
	}
}

func TestWhatTheClusterKnowsIsShown(t *testing.T) {
	d := newDaemon(t, mails)
	for name := range d.samples() {
		if strings.HasPrefix(name, "cluster_") {
			t.Errorf("without a cluster there is %s", name)
		}
	}
	d.source.Now = func() time.Time { return begin }
	d.source.Cluster = func() cluster.Status {
		return cluster.Status{
			Contact: begin, SnapshotAt: begin.Add(-time.Minute), Waiting: 300, LetGo: 4, Sent: 500, Ahead: -250 * time.Millisecond,
			Nodes: []cluster.NodeStatus{
				{Name: "mx2", Seen: begin, UpTo: begin.Add(-1500 * time.Millisecond), Lag: 50 * time.Millisecond, Ahead: -time.Second, Skewed: true, Read: 600},
				{Name: "mx3", Seen: begin.Add(-time.Minute), Differs: []string{"a", "b"}},
			},
		}
	}
	d.expect("in a cluster of three", map[string]float64{
		"cluster_reachable": 1, "cluster_last_answer_timestamp_seconds": float64(begin.Unix()), "cluster_nodes": 3,
		"cluster_last_snapshot_timestamp_seconds": float64(begin.Unix() - 60),
		"cluster_waiting_bytes":                   300, "cluster_dropped_batches_total": 4, "cluster_sent_bytes_total": 500,
		"cluster_server_clock_skew_seconds": 0.25, "cluster_node_lag_seconds mx2": 0.05,
		"cluster_node_away mx2": 0, "cluster_node_age_seconds mx2": 1.5, "cluster_node_clock_skew_seconds mx2": -1,
		"cluster_node_skewed mx2": 1, "cluster_node_mismatched_series mx2": 0, "cluster_node_received_bytes_total mx2": 600,
		"cluster_node_away mx3": 1, "cluster_node_skewed mx3": 0, "cluster_node_mismatched_series mx3": 2,
	})
	if _, there := d.samples()["cluster_node_age_seconds mx3"]; there {
		t.Error("a node that has not told all has an age")
	}
}

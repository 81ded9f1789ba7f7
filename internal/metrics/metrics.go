// Package metrics shows what the daemon counts of itself, for Prometheus.
//
// The rooms that do the work keep plain numbers and know nothing of it; they are
// read when somebody asks. A key or a client's address is never a label: labels
// are names that the configuration has, or the program.
//
// docs/monitoring.md lists all metrics. To add one: its line in names.go, where
// it is sent in collect.go, its row in the page.
package metrics

import (
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/audit-milter/audit-milter/internal/cluster"
	"github.com/audit-milter/audit-milter/internal/history"
	"github.com/audit-milter/audit-milter/internal/logging"
	"github.com/audit-milter/audit-milter/internal/notify"
	"github.com/audit-milter/audit-milter/internal/state"
	"github.com/audit-milter/audit-milter/milter"
	"github.com/audit-milter/audit-milter/policy"
)

// Source is what is shown.
type Source struct {
	Engine   func() *policy.Engine // the one that decides now
	Server   *milter.Server
	Notifier *notify.Notifier
	Log      *logging.Log

	// Each is nil where the configuration has none.
	State      *state.Store
	History    *history.Writer
	Maintainer *history.Maintainer
	Cluster    func() cluster.Status

	Now func() time.Time // nil for the time itself
}

// maxScrapes bounds how many are answered at one time; further ones get 503.
const maxScrapes = 4

// Handler answers with all metrics, those of the Go runtime and of the process
// among them.
func Handler(s Source) http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		NewCollector(s),
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{MaxRequestsInFlight: maxScrapes})
}

// NewCollector reads the source at each scrape.
func NewCollector(s Source) prometheus.Collector { return &collector{s} }

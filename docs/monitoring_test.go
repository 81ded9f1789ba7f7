package docs

import (
	"bytes"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"gopkg.in/yaml.v3"

	"github.com/audit-milter/audit-milter/internal/cluster"
	"github.com/audit-milter/audit-milter/internal/config"
	"github.com/audit-milter/audit-milter/internal/history"
	"github.com/audit-milter/audit-milter/internal/logging"
	"github.com/audit-milter/audit-milter/internal/metrics"
	"github.com/audit-milter/audit-milter/internal/notify"
	"github.com/audit-milter/audit-milter/internal/state"
	"github.com/audit-milter/audit-milter/milter"
	"github.com/audit-milter/audit-milter/policy"
)

// shown are the metrics of a daemon that has one of everything, each as a row of
// the page has it.
func shown(t *testing.T) (rows []string) {
	t.Helper()
	conf, err := config.Parse("policy.yaml", []byte(`
notify: {chat: {webhook: "https://chat.example.com/hook"}}
series: {clients: {type: ip, interval: 5m, windows: 1, add: {at: connect}}}
rules: [{name: all, at: connect, then: accept}]
`))
	if err != nil {
		t.Fatal(err)
	}
	engine, err := policy.NewEngine(conf.Policy, policy.Options{})
	if err != nil {
		t.Fatal(err)
	}
	log := logging.Open(io.Discard, logging.Options{})
	defer log.Close(time.Second)
	notifier := notify.Start(conf.Notify, notify.Options{Log: log.Logger})
	defer notifier.Close(0)
	server := new(milter.Server)
	server.Adopt(milter.Terms{Engine: engine})
	store, _, err := state.Open(t.TempDir(), state.Options{Log: log.Logger})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	writer, err := history.NewWriter(history.Options{Dir: t.TempDir(), Log: log.Logger})
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()
	registry := prometheus.NewRegistry()
	registry.MustRegister(metrics.NewCollector(metrics.Source{
		Engine:     func() *policy.Engine { return engine },
		Server:     server,
		Notifier:   notifier,
		Log:        log,
		State:      store,
		History:    writer,
		Maintainer: new(history.Maintainer),
		Cluster: func() cluster.Status {
			return cluster.Status{Nodes: []cluster.NodeStatus{{Name: "mx2", UpTo: time.Now()}}}
		},
	}))
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		rows = append(rows, fmt.Sprintf("%s, a %s of %v", f.GetName(), strings.ToLower(f.GetType().String()), labels(f.Metric[0])))
	}
	return rows
}

func labels(m *dto.Metric) (names []string) {
	for _, l := range m.Label {
		names = append(names, l.GetName())
	}
	return names
}

func TestMetricsAreThoseOfTheProgram(t *testing.T) {
	var told []string
	for _, b := range readPage(t, "monitoring.md") {
		if b.rows == nil || b.rows[0][0] != "metric" {
			continue
		}
		for _, row := range b.rows[1:] {
			names := strings.FieldsFunc(row[2], func(r rune) bool { return strings.ContainsRune("`, ", r) })
			slices.Sort(names) // as Prometheus does
			told = append(told, fmt.Sprintf("%s, a %s of %v", strings.Trim(row[0], "`"), row[1], names))
		}
	}
	slices.Sort(told)
	if want := shown(t); !slices.Equal(told, want) {
		t.Errorf("monitoring.md lists\n%s\nand the program has\n%s", strings.Join(told, "\n"), strings.Join(want, "\n"))
	}
}

var metricName = regexp.MustCompile(`audit_milter_\w+\b`)

// What the page says of metrics, in its alerts too, names those that there are.
func TestMetricsThatThePageNamesAreThere(t *testing.T) {
	known := strings.Join(shown(t), "\n")
	for i, line := range lines(t, "monitoring.md") {
		for _, name := range metricName.FindAllString(line, -1) {
			if name = strings.TrimSuffix(name, "_bucket"); !strings.Contains(known, name+",") {
				t.Errorf("monitoring.md:%d: there is no metric %s", i+1, name)
			}
		}
	}
}

// The alerts are a file of rules as Prometheus reads it, which is strict.
func TestAlertsAreRules(t *testing.T) {
	type rule struct {
		Alert, Expr, For string
		Annotations      map[string]string
	}
	var file struct {
		Groups []struct {
			Name  string
			Rules []rule
		}
	}
	for _, b := range readPage(t, "monitoring.md") {
		if b.lang != "yaml alerts" {
			continue
		}
		decoder := yaml.NewDecoder(bytes.NewReader([]byte(b.code)))
		decoder.KnownFields(true)
		if err := decoder.Decode(&file); err != nil {
			t.Fatal(err)
		}
	}
	if len(file.Groups) != 1 || len(file.Groups[0].Rules) == 0 {
		t.Fatalf("the alerts are %+v", file)
	}
	for _, r := range file.Groups[0].Rules {
		if r.Alert == "" || r.Expr == "" || r.Annotations["summary"] == "" {
			t.Errorf("%+v lacks something", r)
		}
	}
}

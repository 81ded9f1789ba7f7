package policy_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/audit-milter/audit-milter/internal/config"
	"github.com/audit-milter/audit-milter/policy"
)

// Who is in the table has the table's number, in the sentence and in the time
// to wait as well; all others have the default.
func TestThresholdFromATable(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "limits.yaml"), []byte("alice: 3\n\"@example.com\": 2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	conf, err := config.Parse(filepath.Join(dir, "policy.yaml"), []byte(`
tables: {limits: {file: limits.yaml}}
series:
  sent: {type: string, interval: 10m, windows: 2, add: {at: rcpt, key: sasl_username}}
rules:
  - {name: quota, at: rcpt, if: {series: sent, windows: 0-1, above: {table: limits, default: 1}}, then: tempfail, reply: "{count} of {threshold}, {retry_after}"}
`))
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, now: begin}
	if w.engine, err = policy.NewEngine(conf.Policy, policy.Options{}); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		user  string
		limit int
		want  string
	}{
		{"alice", 3, "tempfail: 451 4.7.1 4 of 3, 20 minutes"},
		{"bob@example.com", 2, "tempfail: 451 4.7.1 3 of 2, 20 minutes"},
		{"carol", 1, "tempfail: 451 4.7.1 2 of 1, 20 minutes"},
	} {
		ev := w.client("198.51.100.7")
		ev.SetText(policy.SASLUsername, row.user)
		for range row.limit {
			w.expect(ev, policy.Rcpt, "continue")
		}
		w.expect(ev, policy.Rcpt, row.want)
	}

	fresh := policy.NewTable("limits")
	if err := fresh.Add("alice", 10); err != nil {
		t.Fatal(err)
	}
	conf.Tables["limits"].Replace(fresh)
	ev := w.client("198.51.100.7")
	ev.SetText(policy.SASLUsername, "alice")
	w.now = begin.Add(time.Minute)
	w.expect(ev, policy.Rcpt, "continue") // the fifth of ten
}

// Package duckdb shows that DuckDB reads a history, with the SQL of docs/history.md.
package duckdb

import (
	"database/sql"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	_ "github.com/duckdb/duckdb-go/v2"
)

// statements are those of docs/history.md.
func statements(t *testing.T) []string {
	t.Helper()
	page, err := os.ReadFile("../../docs/history.md")
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, part := range strings.Split(string(page), "```sql\n")[1:] {
		statement, _, _ := strings.Cut(part, "```")
		all = append(all, statement)
	}
	return all
}

// week is a series of a week: 192.0.2.0/24 connects 20 times a day, from two
// addresses, and 300 times on the fifth; 198.51.100.0/24 10 times a day.
func week() string {
	var b strings.Builder
	b.WriteString("series,key,window_start,interval_seconds,count\n")
	for day := 21; day < 28; day++ {
		n := 15
		if day == 25 {
			n = 295
		}
		fmt.Fprintf(&b, "connections,192.0.2.1,2026-11-%dT10:00:00Z,300,5\n", day)
		fmt.Fprintf(&b, "connections,192.0.2.2,2026-11-%dT23:55:00Z,300,%d\n", day, n)
		fmt.Fprintf(&b, "connections,198.51.100.1,2026-11-%dT10:00:00Z,300,10\n", day)
		fmt.Fprintf(&b, "connections,2001:db8::1,2026-11-%dT10:00:00Z,300,%d\n", day, n*day)
		fmt.Fprintf(&b, "connections,,2026-11-%dT10:00:00Z,300,1\n", day)
	}
	return b.String()
}

func TestDuckDBReadsAHistoryWithTheSQLOfItsPage(t *testing.T) {
	sqls := statements(t)
	if len(sqls) != 2 {
		t.Fatalf("the page has %d statements, not 2", len(sqls))
	}
	dir := t.TempDir()
	program := filepath.Join(dir, "audit-milter")
	run(t, exec.Command("go", "build", "-C", "../..", "-o", program, "./cmd/audit-milter"))
	t.Chdir(dir)
	if err := os.WriteFile("week.csv", []byte(week()), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir("history", 0o700); err != nil {
		t.Fatal(err)
	}
	run(t, exec.Command(program, "history", "load", "connections", "week.csv", "--dir", "history", "--type", "ip", "--node", "mx1"))
	db, err := sql.Open("duckdb", "")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	exe := func(statement string) {
		t.Helper()
		if _, err := db.Exec(statement); err != nil {
			t.Fatalf("%v:\n%s", err, statement)
		}
	}
	exe("SET TimeZone = 'UTC'")
	ask := func() {
		t.Helper()
		equal(t, db, sqls[1], "192.0.2.0/24 2026-11-25 300 20")
		equal(t, db, "SELECT DISTINCT series, node, interval_seconds, is_estimate, typeof(window_start), typeof(count) FROM connections",
			"connections mx1 300 false TIMESTAMP WITH TIME ZONE BIGINT")
		total := strings.Fields(run(t, exec.Command(program, "history", "count", "connections", "--dir", "history", "--csv")))
		equal(t, db, "SELECT 'all,' || sum(count) FROM connections", total[len(total)-1])
	}
	exe(sqls[0])
	ask()

	// A day's file is replaced, and still there.
	files, err := filepath.Glob("history/connections/20261125T100000Z-20261125T235500Z-0-0-*-mx1.parquet")
	if err != nil || len(files) != 1 {
		t.Fatalf("the files of the day are %v, %v", files, err)
	}
	replaced := filepath.Base(files[0])
	exe("COPY (FROM 'history/connections/" + replaced + "') TO 'history/connections/" + strings.Replace(replaced, "-0-0-", "-0-1-", 1) +
		"' (FORMAT parquet, KV_METADATA {'audit_milter.replaces': '" + replaced + "'})")
	equal(t, db, sqls[1], "192.0.2.0/24 2026-11-25 300 20")
}

// run runs a command and returns what it prints.
func run(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", cmd, err, out)
	}
	return string(out)
}

// equal compares the rows of an answer, a line each.
func equal(t *testing.T, db *sql.DB, statement, want string) {
	t.Helper()
	rows, err := db.Query(statement)
	if err != nil {
		t.Fatalf("%v:\n%s", err, statement)
	}
	defer rows.Close()
	var lines []string
	for rows.Next() {
		columns, err := rows.Columns()
		if err != nil {
			t.Fatal(err)
		}
		values := make([]any, len(columns))
		targets := make([]any, len(columns))
		for i := range values {
			targets[i] = &values[i]
		}
		if err := rows.Scan(targets...); err != nil {
			t.Fatal(err)
		}
		var line []string
		for _, v := range values {
			if day, ok := v.(time.Time); ok {
				v = day.UTC().Format(time.DateOnly)
			}
			line = append(line, fmt.Sprint(v))
		}
		lines = append(lines, strings.Join(line, " "))
	}
	if got := strings.Join(lines, "\n"); rows.Err() != nil || got != want {
		t.Errorf("%s\ngives %q, %v; not %q", statement, got, rows.Err(), want)
	}
}

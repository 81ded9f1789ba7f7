package duckdb

import (
	"database/sql"
	"flag"
	"path/filepath"
	"testing"
)

var monthDir = flag.String("month", "", "the `directory` of the history that BenchmarkQuery of internal/history has made")

// BenchmarkQuery puts the questions of internal/history's BenchmarkQuery to DuckDB, as a
// yardstick, over the same files:
//
//	go test -run '^$' -bench Query -benchtime 1x -timeout 20m -month /var/tmp/month
func BenchmarkQuery(b *testing.B) {
	if *monthDir == "" {
		b.Skip("-month has to name a history")
	}
	db, err := sql.Open("duckdb", "")
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	for _, statement := range []string{
		"SET TimeZone = 'UTC'",
		"CREATE VIEW connections AS FROM read_parquet('" + filepath.Join(*monthDir, "connections", "*.parquet") + "')",
	} {
		if _, err := db.Exec(statement); err != nil {
			b.Fatal(err)
		}
	}
	for _, q := range []struct{ name, statement string }{
		{"everything", "SELECT sum(count) FROM connections"},
		{"a /16, daily", "SELECT time_bucket(INTERVAL 1 day, window_start) AS day, sum(count) FROM connections WHERE key LIKE '10.7.%' GROUP BY ALL ORDER BY day"},
		{"each /24 of all", `SELECT regexp_replace(key, '\.[0-9]+$', '') AS network, sum(count) AS n FROM connections GROUP BY ALL ORDER BY n DESC LIMIT 10`},
		{"each address", "SELECT key, sum(count) AS n FROM connections GROUP BY ALL ORDER BY n DESC LIMIT 10"},
		{"each /16, daily", `SELECT regexp_replace(key, '\.[0-9]+\.[0-9]+$', '') AS network, time_bucket(INTERVAL 1 day, window_start) AS day, sum(count) FROM connections GROUP BY ALL ORDER BY ALL`},
		{"everything, by window", "SELECT window_start, sum(count) FROM connections GROUP BY ALL ORDER BY ALL"},
	} {
		b.Run(q.name, func(b *testing.B) {
			for b.Loop() {
				if n := lines(b, db, q.statement); n == 0 {
					b.Fatal("no line")
				}
			}
		})
	}
}

// lines reads an answer and tells how many lines it has.
func lines(b *testing.B, db *sql.DB, statement string) (n int) {
	rows, err := db.Query(statement)
	if err != nil {
		b.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		n++
	}
	if err := rows.Err(); err != nil {
		b.Fatal(err)
	}
	return n
}

package admin

import (
	"encoding/csv"
	"net/http"
	"strconv"
	"time"

	"github.com/audit-milter/audit-milter/policy"
)

// ExportColumns are those of an export: a line for each window in which a key counts
// something. The begin of the window is RFC 3339 in UTC.
var ExportColumns = []string{"series", "key", "window_start", "interval_seconds", "count"}

// export answers with CSV, which is sent while it is made: of one series or, where
// none is named, of all.
func export(q *question, w http.ResponseWriter, r *http.Request) error {
	if err := q.readForm(r, []string{"series", "node"}); err != nil {
		return err
	}
	node, err := q.node()
	if err != nil {
		return err
	}
	counters := q.parts(node)
	if name := q.form.Get("series"); name != "" {
		l, err := q.series(name)
		if err != nil {
			return err
		}
		c, err := q.part(l, node)
		if err != nil {
			return err
		}
		counters = []policy.Counter{c}
	}
	w.Header().Set("Content-Type", "text/csv; charset=utf-8")
	x := exporter{csv: csv.NewWriter(w), patience: http.NewResponseController(w)}
	x.write(ExportColumns)
	for _, c := range counters {
		if x.csv.Error() == nil {
			x.series(c, q.time()) // read anew, since it may have taken long to come here
		}
	}
	x.csv.Flush() // its error is that nobody reads any more
	return nil
}

// exporter writes series as CSV.
type exporter struct {
	csv      *csv.Writer
	patience *http.ResponseController
	lines    int
}

// series writes the windows of all keys that count something.
func (x *exporter) series(c policy.Counter, now time.Time) {
	d := c.Definition()
	record := []string{d.Name, "", "", strconv.FormatInt(seconds(d.Interval), 10), ""}
	starts := make([]string, d.Windows)
	for i := range starts {
		starts[i] = windowStart(d, now, i).Format(time.RFC3339)
	}
	for key, counts := range policy.Politely(c.All(now)) {
		record[1] = key.String()
		for i, n := range counts {
			if n == 0 {
				continue
			}
			record[2], record[4] = starts[i], strconv.FormatInt(n, 10)
			if !x.write(record) {
				return
			}
		}
	}
}

// linesOfPatience are those after which a slow reader has his time again.
const linesOfPatience = 1000

// write reports whether somebody still reads.
func (x *exporter) write(record []string) bool {
	if x.lines%linesOfPatience == 0 {
		x.patience.SetWriteDeadline(time.Now().Add(requestTime))
		x.csv.Flush()
	}
	x.lines++
	return x.csv.Write(record) == nil
}

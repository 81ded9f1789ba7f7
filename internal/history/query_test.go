package history

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/audit-milter/audit-milter/series"
)

func TestAnAnswerThatIsTooLongIsRefused(t *testing.T) {
	dir := t.TempDir()
	var rows []Row
	for i := range 10 {
		rows = append(rows, Row{fmt.Sprintf("192.0.%d.1", i), someDay.Unix(), 1}, Row{fmt.Sprintf("192.0.%d.1", i), someDay.Unix() + 300, 1})
	}
	meta := Meta{Series: "connections", Type: series.CIDR, Interval: 5 * time.Minute, Node: "mx1"}
	if err := write(dir, Name{First: someDay, Last: someDay.Add(5 * time.Minute), Node: "mx1"}, meta, each(rows)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		sizes string
		by    Period
		lines int
	}{{"24", Whole, 10}, {"24", Windows, 20}, {"23-24", Whole, 15}, {"16", Whole, 1}} {
		q := Query{Series: []string{"connections"}, Sizes: parsedSizes(t, c.sizes), By: c.by}
		if a, err := q.run(dir, c.lines); err != nil || len(a.Lines) != c.lines {
			t.Errorf("%+v: %d lines, %v", c, len(a.Lines), err)
		}
		if _, err := q.run(dir, c.lines-1); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("more than %d lines", c.lines-1)) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

func TestASeriesThatWasAnotherOneIsAskedForEachTimeAlone(t *testing.T) {
	later := someDay.AddDate(0, 0, 1)
	for what, before := range map[string]Meta{
		"other keys":   {Type: series.String},
		"other counts": {Type: series.CIDR, Distinct: true},
	} {
		dir := t.TempDir()
		after := Meta{Type: series.CIDR}
		for i, meta := range []Meta{before, after} {
			meta.Series, meta.Interval, meta.Node = "s", time.Minute, "mx1"
			first := someDay.AddDate(0, 0, i)
			if err := write(dir, Name{First: first, Last: first, Node: "mx1"}, meta, each([]Row{{"192.0.2.1", first.Unix(), 5}})); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := (Query{Series: []string{"s"}}).Run(dir); err == nil || !strings.Contains(err.Error(), "ask for the time after 2026-11-29T00:00:00Z, or before") {
			t.Errorf("%s: %v", what, err)
		}
		for _, q := range []Query{{From: later}, {To: later}} {
			q.Series = []string{"s"}
			if a, err := q.Run(dir); err != nil || a.Total[0] != 5 {
				t.Errorf("%s: %v, %v", what, a.Total, err)
			}
		}
	}
}

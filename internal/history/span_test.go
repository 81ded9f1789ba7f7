package history

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/audit-milter/audit-milter/series"
)

var noon = time.Date(2026, 11, 29, 12, 0, 0, 0, zone)

func TestATimeIsReadAsPeopleWriteIt(t *testing.T) {
	for _, c := range []struct {
		span     Span
		from, to string
	}{
		{Span{}, "", ""},
		{Span{On: "2026-11-01"}, "2026-11-01T00:00:00-04:00", "2026-11-02T00:00:00-05:00"}, // 25 hours
		{Span{From: "2026-11-28", To: "9999-12-31"}, "2026-11-28T00:00:00-05:00", ""},
		{Span{From: "2026-11-01", To: "2026-11-28"}, "2026-11-01T00:00:00-04:00", "2026-11-29T00:00:00-05:00"},
		{Span{From: "2026-11-28", To: "2026-11-28"}, "2026-11-28T00:00:00-05:00", "2026-11-29T00:00:00-05:00"},
		{Span{From: "2026-11-28T10:00", To: "2026-11-28T10:00:01"}, "2026-11-28T10:00:00-05:00", "2026-11-28T10:00:01-05:00"},
		{Span{From: "2026-11-28T10:00Z", To: "2026-11-28T10:00:01+02:00"}, "", ""},
		{Span{From: "2026-11-28T10:00:00+02:00"}, "2026-11-28T08:00:00Z", ""},
		{Span{From: "2026-11-28 10:00:00"}, "2026-11-28T10:00:00-05:00", ""},
		{Span{Since: "2d"}, "2026-11-27T12:00:00-05:00", ""},
		{Span{Since: "2026-11-28"}, "2026-11-28T00:00:00-05:00", ""},
		{Span{From: "12h", To: "30m"}, "2026-11-29T00:00:00-05:00", "2026-11-29T11:30:00-05:00"},
	} {
		from, to, err := c.span.Times(noon, zone)
		if c.from == "" && c.span.From != "" {
			if err == nil {
				t.Errorf("%+v: no error", c.span)
			}
			continue
		}
		if err != nil || !isTime(from, c.from) || !isTime(to, c.to) {
			t.Errorf("%+v is %v to %v, %v; not %s to %s", c.span, from, to, err, c.from, c.to)
		}
	}
}

// In Chile the clock is set forward at midnight, one day in September.
func TestADayThatHasNoMidnightBeginsBehindIt(t *testing.T) {
	chile, err := time.LoadLocation("America/Santiago")
	if err != nil {
		t.Fatal(err)
	}
	const begin = "2026-09-06T01:00:00-03:00"
	from, to, err := Span{On: "2026-09-06"}.Times(noon, chile)
	if err != nil || !isTime(from, begin) || !isTime(to, "2026-09-07T00:00:00-03:00") {
		t.Errorf("the day is %v to %v, %v", from, to, err)
	}
	if _, to, err = (Span{To: "2026-09-05"}).Times(noon, chile); err != nil || !isTime(to, begin) {
		t.Errorf("the day before is to %v, %v", to, err)
	}

	dir, first := t.TempDir(), from.Unix()
	rows := []Row{
		{"192.0.2.1", first - 3600, 1}, {"192.0.2.1", first, 1}, {"192.0.2.1", first + 3600, 1},
		{"192.0.2.2", first - 3600, 1}, {"192.0.2.2", first, 1},
	}
	meta := Meta{Series: "s", Type: series.IP, Interval: time.Hour, Node: "mx1"}
	if err := write(dir, Name{First: from.Add(-time.Hour), Last: to, Node: "mx1"}, meta, each(rows)); err != nil {
		t.Fatal(err)
	}
	a, err := Query{Series: []string{"s"}, By: Days, Location: chile}.Run(dir)
	var days []string
	for _, l := range a.Lines {
		days = append(days, fmt.Sprint(l.Begin.Format(time.RFC3339), " ", l.Counts[0]))
	}
	if got, want := fmt.Sprint(days), "[2026-09-05T00:00:00-04:00 2 "+begin+" 3]"; got != want || err != nil {
		t.Errorf("there are %s, %v, want %s", got, err, want)
	}
}

func isTime(t time.Time, text string) bool {
	if text == "" {
		return t.IsZero()
	}
	want, err := time.Parse(time.RFC3339, text)
	return err == nil && t.Equal(want)
}

func TestATimeThatThereIsNotIsAnError(t *testing.T) {
	for _, c := range []struct {
		span Span
		says string
	}{
		{Span{On: "2026-02-30"}, "--on 2026-02-30: there is no such day"},
		{Span{On: "2d"}, "no such day"},
		{Span{On: "2026-11-28", Since: "2d"}, "has no --from"},
		{Span{Since: "2d", To: "1d"}, "up to now"},
		{Span{From: "2026-13-01"}, "--from 2026-13-01"},
		{Span{To: "yesterday"}, "--to yesterday"},
		{Span{Since: "2w"}, "such as 12h or 2d"},
		{Span{Since: "-2d"}, "such as 12h or 2d"},
		{Span{Since: "9999999999999999999d"}, "such as 12h or 2d"},
		{Span{Since: "2026-11-30"}, "is to come"},
		{Span{From: "2026-11-28", To: "2026-11-27"}, "--from 2026-11-28 is not before --to 2026-11-27"},
	} {
		if _, _, err := c.span.Times(noon, zone); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%+v: %v, which should say %q", c.span, err, c.says)
		}
	}
}

func FuzzSpan(f *testing.F) {
	f.Add("2026-11-28", "2d", "", "")
	f.Add("2026-11-28T10:00Z", "2026-11-28 12:00", "", "")
	f.Add("", "", "2026-11-01", "")
	f.Add("", "", "", "90s")
	f.Fuzz(func(t *testing.T, from, to, on, since string) {
		begin, end, err := Span{from, to, on, since}.Times(noon, zone)
		if err == nil && !begin.IsZero() && !end.IsZero() && !begin.Before(end) {
			t.Errorf("%v is not before %v", begin, end)
		}
	})
}

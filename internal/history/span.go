package history

import (
	"errors"
	"fmt"
	"strconv"
	"time"
)

// Span is the time that is asked for, as people write it. A time is 2026-11-29,
// 2026-11-29T10:00 or 2026-11-29T10:00:30, also with Z or an offset behind it, or how
// long ago it is: 90s, 30m, 12h, 2d.
type Span struct {
	From  string // or later; a day from its begin on
	To    string // before it; a day to its end
	On    string // a day
	Since string // From, up to now
}

// Times are its begin and its end, either of which is zero where there is no bound.
func (s Span) Times(now time.Time, zone *time.Location) (from, to time.Time, err error) {
	switch {
	case s.On != "" && (s.From != "" || s.To != "" || s.Since != ""):
		return from, to, errors.New("--on names a day, which has no --from, --to or --since")
	case s.Since != "" && (s.From != "" || s.To != ""):
		return from, to, errors.New("--since is up to now; --from and --to go together")
	case s.On != "":
		day, err := time.Parse(time.DateOnly, s.On)
		if err != nil {
			return from, to, fmt.Errorf("--on %s: there is no such day; write one such as 2026-11-29", s.On)
		}
		from, to = dayOf(day, zone)
		return from, to, nil
	}
	for _, bound := range []struct {
		flag, text string
		begin, end *time.Time
	}{{"--from", s.From, &from, new(time.Time)}, {"--to", s.To, new(time.Time), &to}, {"--since", s.Since, &from, new(time.Time)}} {
		if bound.text == "" {
			continue
		}
		if *bound.begin, *bound.end, err = parseTime(bound.text, now, zone); err != nil {
			return from, to, fmt.Errorf("%s %s: %w", bound.flag, bound.text, err)
		}
	}
	if to.Year() > 9999 { // which is no year of a file's name, nor of JSON
		to = time.Time{}
	}
	switch {
	case from.After(now):
		return from, to, fmt.Errorf("%s is to come", from.Format(time.RFC3339))
	case !from.IsZero() && !to.IsZero() && !from.Before(to):
		return from, to, fmt.Errorf("--from %s is not before --to %s", s.From, s.To)
	}
	return from, to, nil
}

var layouts = []string{"2006-01-02T15:04:05Z07:00", "2006-01-02T15:04Z07:00", "2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02 15:04:05", "2006-01-02 15:04"}

// parseTime reads a time, which for a day is its begin and its end.
func parseTime(text string, now time.Time, zone *time.Location) (begin, end time.Time, err error) {
	if day, err := time.Parse(time.DateOnly, text); err == nil {
		begin, end = dayOf(day, zone)
		return begin, end, nil
	}
	for _, layout := range layouts {
		if t, err := time.ParseInLocation(layout, text, zone); err == nil {
			return t, t, nil
		}
	}
	if ago, ok := parseAgo(text); ok {
		return now.Add(-ago), now.Add(-ago), nil
	}
	return begin, end, errors.New("it is no time that there is; write a day such as 2026-11-29, a time such as 2026-11-29T10:00, or how long ago it is, such as 12h or 2d")
}

// dayOf is the day of a zone that is called as that of a time in its own.
func dayOf(t time.Time, zone *time.Location) (begin, end time.Time) {
	y, m, d := t.Date()
	return midnight(y, m, d, zone), midnight(y, m, d+1, zone)
}

// midnight is when a day begins: where the clock is set forward at midnight, an hour later.
func midnight(y int, m time.Month, d int, zone *time.Location) time.Time {
	begin := time.Date(y, m, d, 0, 0, 0, 0, zone)
	if noon := time.Date(y, m, d, 12, 0, 0, 0, zone); begin.Day() != noon.Day() { // an hour before
		_, begin = begin.ZoneBounds()
	}
	return begin
}

// longestAgo is more than there can be a history of.
const longestAgo = 100 * 366 * 24 * time.Hour

func parseAgo(text string) (ago time.Duration, ok bool) {
	units := map[byte]time.Duration{'s': time.Second, 'm': time.Minute, 'h': time.Hour, 'd': 24 * time.Hour}
	if len(text) < 2 {
		return 0, false
	}
	unit, known := units[text[len(text)-1]]
	n, err := strconv.ParseUint(text[:len(text)-1], 10, 63)
	if !known || err != nil || n > uint64(longestAgo/unit) {
		return 0, false
	}
	return time.Duration(n) * unit, true
}

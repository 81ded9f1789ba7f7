package integration

import (
	"fmt"
	"os"
	"time"
)

// clock is what the program takes for the time: the number in a file. It
// stands still until a dialogue moves it.
type clock struct {
	path string // for the test; the program knows the file under envClock
	now  time.Time
}

// The program, built with the tag testclock, reads its time from the file that
// envClock names.
const (
	envClock  = "AUDIT_MILTER_TEST_CLOCK"
	clockFile = "/run/clock"
)

// noon is when every dialogue begins: all windows that divide an hour begin
// there, too.
var noon = time.Date(2026, time.January, 1, 12, 0, 0, 0, time.UTC)

// set replaces the file at once: the program reads the old time or the new
// one, never half of it.
func (c *clock) set(to time.Time) error {
	c.now = to
	next := c.path + ".next"
	if err := os.WriteFile(next, fmt.Append(nil, to.UnixNano()), 0o644); err != nil {
		return err
	}
	return os.Rename(next, c.path)
}

// move understands "+10m", "-1h" and "12:07:30".
func (c *clock) move(how string) error {
	if d, err := time.ParseDuration(how); err == nil && (how[0] == '+' || how[0] == '-') {
		return c.set(c.now.Add(d))
	}
	t, err := time.Parse(time.TimeOnly, how)
	if err != nil {
		return fmt.Errorf("clock %q is neither +10m, -1h nor 12:07:30", how)
	}
	y, m, d := c.now.Date()
	return c.set(time.Date(y, m, d, t.Hour(), t.Minute(), t.Second(), 0, time.UTC))
}

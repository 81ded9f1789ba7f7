package policy_test

import (
	"testing"
	"time"

	"github.com/audit-milter/audit-milter/policy"
)

// A clock that is set, as docs/rules.md has it: on is time that passed, back
// by more than a window makes the newest window the current one. Each step is
// one line of the log, however many series and events notice it.
func TestTheClockIsSet(t *testing.T) {
	const (
		hour  = time.Hour
		years = 10 * 365 * 24 * time.Hour
	)
	type moment struct {
		passed, set time.Duration // what really passed, and by how much the clock was set besides
		want        string
		step        string // as the log tells it
	}
	for _, row := range []struct {
		name    string
		moments []moment // each brings one mail; three are allowed in an hour
	}{
		{"an hour back: nothing is lost, and windows go on ending", []moment{
			{0, 0, "continue", ""},
			{time.Minute, 0, "continue", ""},
			{10 * time.Minute, 0, "continue", ""},
			{time.Minute, -hour, "tempfail: 451 4.7.1 4, 48 minutes", "-1h0m0s"}, // 11:12, and the first two leave at 12:00
			{47 * time.Minute, 0, "tempfail: 451 4.7.1 5, 11 minutes", ""},       // 11:59
			{time.Minute, 0, "tempfail: 451 4.7.1 4, 10 minutes", ""},
			{10 * time.Minute, 0, "continue", ""},
		}},
		{"an hour on: it has passed", []moment{
			{0, 0, "continue", ""},
			{0, 0, "continue", ""},
			{0, 0, "continue", ""},
			{time.Minute, hour, "continue", "1h0m0s"},
			{0, 0, "continue", ""},
			{0, 0, "continue", ""},
			{time.Minute, 0, "tempfail: 451 4.7.1 4, 58 minutes", ""},
		}},
		{"ten years on: they have passed", []moment{
			{0, 0, "continue", ""},
			{0, 0, "continue", ""},
			{0, 0, "continue", ""},
			{time.Minute, years, "continue", "87600h0m0s"},
			{0, 0, "continue", ""},
			{0, 0, "continue", ""},
			{time.Minute, 0, "tempfail: 451 4.7.1 4, 58 minutes", ""},
		}},
		{"ten years on and back: what expired stays so, what came then is current", []moment{
			{0, 0, "continue", ""},
			{0, 0, "continue", ""},
			{0, 0, "continue", ""},
			{time.Minute, years, "continue", "87600h0m0s"},
			{time.Minute, -years, "continue", "-87600h0m0s"},
			{0, 0, "continue", ""},
			{time.Minute, 0, "tempfail: 451 4.7.1 4, 57 minutes", ""},
			{57 * time.Minute, 0, "continue", ""},
		}},
		{"an hour back and on again: what was counted in it has passed too", []moment{
			{0, 0, "continue", ""},
			{0, 0, "continue", ""},
			{time.Minute, -hour, "continue", "-1h0m0s"},
			{0, 0, "tempfail: 451 4.7.1 4, 59 minutes", ""},
			{time.Minute, hour, "continue", "1h0m0s"},
		}},
	} {
		w := newWorld(t, `
series:
  mails: {type: ip, interval: 10m, windows: 6, add: {at: mail}}
  others: {type: ip, interval: 1h, windows: 24, add: {at: mail}}
rules:
  - {name: many, at: mail, if: {series: mails, windows: 0-5, above: 3}, then: tempfail, reply: "{count}, {retry_after}"}
`)
		for i, m := range row.moments {
			w.now, w.monotonic = w.now.Add(m.passed+m.set), w.monotonic+m.passed
			if got := w.decide(w.client("198.51.100.1"), policy.Mail); got != m.want {
				t.Errorf("%s: mail %d: %s, want %s", row.name, i+1, got, m.want)
			}
			step := ""
			for _, line := range w.lines("the clock was set") {
				step += line["by"].(string)
			}
			if step != m.step {
				t.Errorf("%s: mail %d: the log tells a step of %q, want %q", row.name, i+1, step, m.step)
			}
		}
	}
}

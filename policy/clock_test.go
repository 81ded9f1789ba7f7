package policy

import (
	"testing"
	"time"
)

func TestStepsOfTheClockAreNoticed(t *testing.T) {
	wall, mono := time.Unix(1_000_000, 0), time.Duration(0)
	watch := newClockWatch(func(time.Time) time.Duration { return mono })
	pass := func(onWall, really time.Duration) time.Duration {
		wall, mono = wall.Add(onWall), mono+really
		return watch.step(wall)
	}
	const s = time.Second
	for _, row := range []struct {
		name           string
		onWall, really time.Duration
		want           time.Duration
	}{
		{"the first reading", 0, 0, 0},
		{"an hour passes", time.Hour, time.Hour, 0},
		{"the clock is set on by ten minutes", 10*time.Minute + s, s, 10 * time.Minute},
		{"and that is known then", s, s, 0},
		{"it is set back by an hour", s - time.Hour, s, -time.Hour},
		{"a second is not worth a line", 2 * s, s, 0},
		{"nor does it add up with the next", 2 * s, s, 0},
	} {
		if got := pass(row.onWall, row.really); got != row.want {
			t.Errorf("%s: %v, want %v", row.name, got, row.want)
		}
	}
	for range 1000 { // slewing: 50 ms in every 100 s
		if got := pass(100*s+50*time.Millisecond, 100*s); got != 0 {
			t.Fatalf("slewing looks like a step of %v", got)
		}
	}
}

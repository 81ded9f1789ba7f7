package series

import (
	"math/rand/v2"
	"sync"
	"testing"
	"time"
)

// at is a time of the day on which all tests happen.
func at(clock string) time.Time {
	t, err := time.Parse(time.DateTime, "2026-03-01 "+clock)
	if err != nil {
		panic(err)
	}
	return t
}

func TestClock(t *testing.T) {
	type reading struct {
		now     string
		window  int64 // after the first reading's
		elapsed time.Duration
	}
	const minute = time.Minute
	tests := []struct {
		name     string
		readings []reading
	}{
		{"time passes within a window", []reading{
			{"10:00:00", 0, 0}, {"10:04:59.999999999", 0, 5*minute - 1}}},
		{"a window ends at the boundary itself", []reading{
			{"10:04:59.999999999", 0, 5*minute - 1}, {"10:05:00", 1, 0}}},
		{"a step forward is time that passed", []reading{
			{"10:02:00", 0, 2 * minute}, {"11:03:00", 12, 3 * minute}}},
		{"a step back within the window holds", []reading{
			{"10:02:00", 0, 2 * minute}, {"10:01:00", 0, 2 * minute}, {"10:02:30", 0, 150 * time.Second}}},
		{"a step back over the boundary holds the newer window", []reading{
			{"10:04:00", 0, 4 * minute}, {"10:06:00", 1, minute}, {"10:04:00", 1, minute}, {"10:07:00", 1, 2 * minute}}},
		{"a step back by just less than an interval holds", []reading{
			{"10:06:00", 0, minute}, {"10:01:00.000000001", 0, minute}, {"10:06:00", 0, minute}}},
		{"a step back by an interval relabels", []reading{
			{"10:06:00", 0, minute}, {"10:01:00", 0, minute}, {"10:05:00", 1, 0}}},
		{"a step back by an hour relabels, and windows go on ending", []reading{
			{"11:02:00", 0, 2 * minute}, {"10:02:00", 0, 2 * minute}, {"10:05:00", 1, 0}, {"11:02:00", 12, 2 * minute}}},
		{"one step back after the other", []reading{
			{"12:00:00", 0, 0}, {"11:00:00", 0, 0}, {"10:00:00", 0, 0}, {"10:05:00", 1, 0}}},
		{"held, then back further", []reading{
			{"12:00:00", 0, 0}, {"11:57:00", 0, 0}, {"11:54:00", 0, 4 * minute}, {"11:55:00", 1, 0}}},
		{"an hour back, and forward again", []reading{
			{"11:00:00", 0, 0}, {"10:00:00", 0, 0}, {"11:00:00", 12, 0}}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c := newClock(5 * minute)
			first, _ := c.read(at(test.readings[0].now))
			for _, want := range test.readings {
				w, elapsed := c.read(at(want.now))
				if w-first != want.window || elapsed != want.elapsed {
					t.Errorf("at %s: window %d, %v elapsed; want %d, %v",
						want.now, w-first, elapsed, want.window, want.elapsed)
				}
				if w != c.current() {
					t.Errorf("at %s: current window %d; want %d", want.now, c.current(), w)
				}
			}
		})
	}
}

func TestCoveredWindowsAreWhole(t *testing.T) {
	for _, row := range []struct {
		name, first, then, now string
		want                   int
	}{
		{"nothing is covered at first", "10:00:00", "", "10:00:00", 0},
		{"nor by the window that it began in the midst of", "10:00:01", "", "10:05:00", 0},
		{"one that it saw begin and end is", "10:00:01", "", "10:10:00", 1},
		{"so is the first one, when it began there itself", "10:00:00", "", "10:05:00", 1},
		{"time in which nothing comes is covered as well", "10:00:01", "", "10:24:59", 3},
		{"no more than the windows that there are", "10:00:01", "", "20:00:00", 5},
		{"a step back of the clock takes nothing away", "10:00:00", "10:10:00", "09:00:00", 2},
		{"and goes on from there", "10:00:00", "10:10:00", "09:04:59", 2},
		{"after a step back as before", "10:10:00", "09:00:00", "09:10:00", 2},
	} {
		s, err := Define(Definition{Name: "s", Type: IP, Interval: 5 * time.Minute, Windows: 6})
		if err != nil {
			t.Fatal(err)
		}
		s.Covered(at(row.first))
		if row.then != "" {
			s.Covered(at(row.then))
		}
		if got := s.Covered(at(row.now)); got != row.want {
			t.Errorf("%s: %d windows, want %d", row.name, got, row.want)
		}
	}
}

// A session that was held up between its reading and its use of it is late, not
// proof of a step back.
func TestLateReadingsMoveNothing(t *testing.T) {
	c := newClock(time.Second)
	start := time.Now()
	first, _ := c.read(start)
	newest, _ := c.read(start.Add(10 * time.Second))
	if newest-first < 9 {
		t.Fatalf("ten seconds are %d windows", newest-first)
	}
	for range 3 {
		if w, _ := c.read(start.Add(time.Second)); w != newest {
			t.Errorf("a reading of nine seconds ago is in window %d; want the newest, %d", w, newest)
		}
	}
	if w, _ := c.read(start.Add(11 * time.Second)); w != newest+1 {
		t.Errorf("a second on is window %d; want %d", w, newest+1)
	}
}

func TestWindowsAreAlignedToTheEpoch(t *testing.T) {
	tests := []struct {
		unix     int64
		interval time.Duration
		window   int64
		elapsed  time.Duration
	}{
		{0, time.Minute, 0, 0},
		{59, time.Minute, 0, 59 * time.Second},
		{60, time.Minute, 1, 0},
		{-1, time.Minute, -1, 59 * time.Second},
		{-60, time.Minute, -1, 0},
		{1_700_000_000, 7 * time.Second, 242857142, 6 * time.Second},
		{1_700_000_000, MaxInterval, 634, 1894400 * time.Second},
	}
	for _, test := range tests {
		w, elapsed := newClock(test.interval).read(time.Unix(test.unix, 0))
		if w != test.window || elapsed != test.elapsed {
			t.Errorf("%d s after the epoch, windows of %v: window %d, %v elapsed; want %d, %v",
				test.unix, test.interval, w, elapsed, test.window, test.elapsed)
		}
	}
}

// Whatever the clock does, no reader sees a window's number go back, and all of
// them end in the same window.
func TestClockIsReadByMany(t *testing.T) {
	c := newClock(time.Second)
	start := at("10:00:00")
	var wg sync.WaitGroup
	for reader := range uint64(4) {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(reader, 0))
			now, last := start, int64(never)
			for range 20_000 {
				now = now.Add(time.Duration(r.Int64N(int64(3*time.Second))) - time.Second*14/10)
				w, elapsed := c.read(now)
				if w < last {
					t.Errorf("window %d after %d", w, last)
				}
				if elapsed < 0 || elapsed >= time.Second {
					t.Errorf("%v of a second elapsed", elapsed)
				}
				last = w
			}
		})
	}
	wg.Wait()
}

// A time that was told, such as a journal's, has no monotonic part and does not say when
// it was read: readings that come after it are not late.
func TestATimeThatWasToldMakesNoReadingLate(t *testing.T) {
	const minute = time.Minute
	for _, told := range []time.Duration{0, 2 * time.Hour, -2 * time.Hour} {
		c := newClock(5 * minute)
		now := time.Now()
		c.read(now.Add(told).Round(0))
		first, _ := c.read(now)
		for i := range 24 {
			if w, _ := c.read(now.Add(time.Duration(i) * 5 * minute)); w != first+int64(i) {
				t.Fatalf("%v after a time that was %v ahead it is window %d, want %d", time.Duration(i)*5*minute, told, w-first, i)
			}
		}
	}
}

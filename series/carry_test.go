package series

import (
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestWhatAnotherIntervalTakesOver(t *testing.T) {
	// Old windows of 10 minutes, the current one first; the time is 10:34.
	old := []int64{1, 10, 100, 1000}
	tests := []struct {
		name     string
		interval time.Duration
		want     []int64
		lost     string
	}{
		{"the same windows", 10 * time.Minute, []int64{1, 10, 100, 1000}, ""},
		{"fewer windows", 10 * time.Minute, []int64{1, 10}, "counts older than its windows: 1100"},
		{"more windows", 10 * time.Minute, []int64{1, 10, 100, 1000, 0}, ""},
		{"twice the interval", 20 * time.Minute, []int64{11, 1100}, ""},
		{"an hour", time.Hour, []int64{1111}, ""},
		{"half of it: each begins where the old one did", 5 * time.Minute, []int64{1, 0, 10, 0, 100, 0, 1000, 0}, ""},
		{"a minute: the current one began four minutes ago", time.Minute, []int64{0, 0, 0, 0, 1, 0}, "counts older than its windows: 1110"},
		{"one that it does not divide", 15 * time.Minute, []int64{1, 10, 1100}, ""},
	}
	for _, test := range tests {
		from := define(t, String, 10*time.Minute, len(old))
		now := at("10:34:00")
		for age, n := range old {
			from.AddAt(key("user"), n, age, now)
		}
		to := define(t, String, test.interval, len(test.want))
		c := to.CarryFrom(from, now)
		if got := countsOf(to, key("user"), Host, now); !slices.Equal(got, test.want) {
			t.Errorf("%s: %d; want %d", test.name, got, test.want)
		}
		if c.Keys != 1 || c.Lost() != test.lost {
			t.Errorf("%s: %d keys, lost %q; want %q", test.name, c.Keys, c.Lost(), test.lost)
		}
		if adds := to.Stats().Adds; adds != 0 {
			t.Errorf("%s: %d adds, though nothing was added to it", test.name, adds)
		}
	}
}

func TestWhatAnotherTypeTakesOver(t *testing.T) {
	addrs := []string{"192.0.2.1", "192.0.2.2", "2001:db8::1"}
	tests := []struct {
		name     string
		from, to Type
		keys     []string
		carried  int
		lost     string
	}{
		{"from IPv4 to both families", CIDR, IP, addrs, 2, ""},
		{"from both families to IPv4", IP, CIDR, addrs, 2, "keys of another type: 1"},
		{"from both families to IPv6", IP, CIDR6, addrs, 1, "keys of another type: 2"},
		{"from addresses to texts", IP, String, addrs, 0, "keys of another type: 3"},
		{"from texts to addresses", String, IP, []string{"a", "b"}, 0, "keys of another type: 2"},
	}
	for _, test := range tests {
		now := at("10:00:00")
		from, to := define(t, test.from, time.Minute, 2), define(t, test.to, time.Minute, 2)
		for _, k := range test.keys {
			from.Add(key(k), 3, now)
		}
		if c := to.CarryFrom(from, now); c.Keys != test.carried || to.Len() != test.carried || c.Lost() != test.lost {
			t.Errorf("%s: %d keys, of %d, lost %q; want %d, %q", test.name, to.Len(), c.Keys, c.Lost(), test.carried, test.lost)
		}
	}
}

// A series that is in use gets what the old one had on top, block by block, also
// when the clock has stepped back.
func TestCarryingIntoASeriesInUse(t *testing.T) {
	for _, step := range []time.Duration{0, -20 * time.Second, -3 * time.Hour} {
		from, to := define(t, IP, time.Minute, 5), define(t, IP, time.Minute, 5)
		r := rand.New(rand.NewPCG(1, 2))
		now := at("10:00:00")
		for range 3000 {
			now = now.Add(time.Duration(r.Int64N(int64(160 * time.Millisecond))))
			from.Add(numbered(r.IntN(1<<12), false), r.Int64N(9), now)
		}
		now = now.Add(step)
		for range 100 {
			to.Add(numbered(r.IntN(1<<12), false), 1000, now)
		}
		var want [][]int64
		for i := range 1 << 12 {
			a, b := countsOf(from, numbered(i, false), Mask{27, 0}, now), countsOf(to, numbered(i, false), Mask{27, 0}, now)
			for w := range a {
				a[w] += b[w]
			}
			want = append(want, a)
		}
		if lost := to.CarryFrom(from, now).Lost(); lost != "" {
			t.Errorf("clock %v: lost %s", step, lost)
		}
		for i := range 1 << 12 {
			if got := countsOf(to, numbered(i, false), Mask{27, 0}, now); !slices.Equal(got, want[i]) {
				t.Fatalf("clock %v: the /27 of %v counts %d; want %d", step, numbered(i, false), got, want[i])
			}
		}
		checkStructure(t, to)
	}
}

// What evicted keys had counted is told, and a smaller series keeps to its bound.
func TestCarryingAFullSeries(t *testing.T) {
	now := at("10:00:00")
	from, to := bounded(t, CIDR, 2, 1000), bounded(t, CIDR, 2, 300)
	for i := range 5000 {
		from.Add(numbered(i, true), 1, now)
	}
	c := to.CarryFrom(from, now)
	if c.Keys != from.Len() || c.Folded != int64(5000-from.Len()) || c.Foreign != 0 || c.Past != 0 {
		t.Errorf("%+v of %d keys", c, from.Len())
	}
	if to.Len() > 300 || to.Count(numbered(0, true), Mask{}, 0, 0, now) != int64(from.Len()) {
		t.Errorf("%d keys; all count %d, want %d", to.Len(), to.Count(numbered(0, true), Mask{}, 0, 0, now), from.Len())
	}
	checkStructure(t, to)
}

// What different values were shown goes over with another interval, other windows and
// other masks: the new series counts as if all had been added to it.
func TestCarryingDifferentValues(t *testing.T) {
	for _, row := range []struct {
		name     string
		interval time.Duration
		windows  int
		masks    []Mask
		lost     bool
	}{
		{"the same, with fewer keys", time.Minute, 4, []Mask{{24, 64}}, false},
		{"more windows", time.Minute, 6, []Mask{{24, 64}}, false},
		{"fewer windows", time.Minute, 2, []Mask{{24, 64}}, true},
		{"twice the interval", 2 * time.Minute, 4, []Mask{{24, 64}}, false},
		{"one more mask", time.Minute, 4, []Mask{{24, 64}, {16, 48}}, false},
		{"another mask", time.Minute, 4, []Mask{{20, 48}}, false},
	} {
		from := defineDistinct(t, Definition{Type: IP, Interval: time.Minute, Windows: 4}, Mask{24, 64})
		def := Definition{Type: IP, Interval: row.interval, Windows: row.windows, MaxKeys: 10_000}
		to, want := defineDistinct(t, def, row.masks...), defineDistinct(t, def, row.masks...)
		to.Follow()
		r := rand.New(rand.NewPCG(4, 5))
		now := at("10:00:00")
		for range 4000 {
			now = now.Add(time.Duration(r.Int64N(int64(110 * time.Millisecond))))
			k, value := numbered(r.IntN(9)*50, false), strconv.Itoa(r.IntN(300))
			from.Add(k, value, now)
			want.Add(k, value, now)
		}
		c := to.CarryFrom(from, now)
		if c.Keys != 9 || (c.Lost() != "") != row.lost {
			t.Errorf("%s: %d keys, lost %q", row.name, c.Keys, c.Lost())
		}
		for i := range 9 {
			for _, m := range append(row.masks, Host) {
				k := numbered(i*50, false)
				g, _ := to.Counts(nil, k, m, now)
				w, _ := want.Counts(nil, k, m, now)
				g, w = append(g, to.Count(k, m, 0, row.windows-1, now)), append(w, want.Count(k, m, 0, row.windows-1, now))
				if !slices.Equal(g, w) {
					t.Errorf("%s: %s/%d: %v, want %v", row.name, k, m.IPv4, g, w)
				}
			}
		}
		told := 0
		to.Deltas(func(Delta) { told++ })
		if told == 0 {
			t.Errorf("%s: nothing of it is told", row.name)
		}
	}
}

// Of different values, too, it is told what another type does not take, what is too
// old, and what keeps to a smaller bound.
func TestWhatOfDifferentValuesIsLost(t *testing.T) {
	from := defineDistinct(t, Definition{Type: IP, Interval: time.Minute, Windows: 4}, Mask{24, 64})
	addrs := []string{"192.0.2.1", "192.0.2.2", "2001:db8::1"}
	for _, addr := range addrs {
		for n := range 100 {
			from.Add(key(addr), strconv.Itoa(n), at("10:00:00"))
		}
	}
	for _, addr := range addrs {
		from.Add(key(addr), "a", at("10:03:00"))
	}
	from.Remove(key("192.0.2.2"))
	to := defineDistinct(t, Definition{Type: CIDR, Interval: time.Minute, Windows: 2, MaxKeys: 1}, Mask{24, 64})
	c := to.CarryFrom(from, at("10:03:00"))
	if c.Keys != 1 || c.Foreign != 1 || c.Past < 95 || c.Past > 105 || to.Len() != 1 {
		t.Errorf("%+v, %d are kept", c, to.Len())
	}
}

// Sessions go on to add to the old series. Nothing was evicted, so nothing is said to
// have been left to networks.
func TestCarryingFromASeriesInUse(t *testing.T) {
	from, to := define(t, IP, time.Minute, 2), define(t, IP, time.Minute, 3)
	now := at("10:00:00")
	for i := range 1000 {
		from.Add(numbered(i, false), 1, now)
	}
	var added atomic.Int64
	var sessions sync.WaitGroup
	var stop atomic.Bool
	sessions.Go(func() {
		for !stop.Load() {
			from.Add(numbered(int(added.Add(1))%1000, false), 1, now)
		}
	})
	for i := 0; i < 20 || added.Load() < 1000; i++ {
		if lost := to.CarryFrom(from, now).Lost(); lost != "" {
			t.Errorf("lost %s", lost)
		}
	}
	stop.Store(true)
	sessions.Wait()
}

// What the old series has seen from begin to end and still has, the new one has covered.
func TestCarryingWhatWasCovered(t *testing.T) {
	for _, row := range []struct {
		name     string
		interval time.Duration
		want     int
	}{
		{"the same windows", 10 * time.Minute, 3},
		{"twice the interval: the first one was seen in half", 20 * time.Minute, 1},
		{"half of it", 5 * time.Minute, 6},
		{"windows that it does not divide", 15 * time.Minute, 1},
		{"a window longer than all of it", 2 * time.Hour, 0},
	} {
		from, to := define(t, String, 10*time.Minute, 6), define(t, String, row.interval, 20)
		from.Covered(at("10:00:01"))
		from.Covered(at("10:41:00"))
		to.Covered(at("10:41:00"))
		to.CarryFrom(from, at("10:41:00"))
		if got := to.Covered(at("10:41:00")); got != row.want {
			t.Errorf("%s: %d windows, want %d", row.name, got, row.want)
		}
	}
	few, more := Definition{Type: String, Interval: 10 * time.Minute, Windows: 3}, Definition{Type: String, Interval: 5 * time.Minute, Windows: 20}
	fewAmounts, moreAmounts := define(t, String, few.Interval, few.Windows), define(t, String, more.Interval, more.Windows)
	fewValues, moreValues := defineDistinct(t, few), defineDistinct(t, more)
	fewAmounts.Begin(at("08:00:00"))
	fewValues.Begin(at("08:00:00"))
	moreAmounts.CarryFrom(fewAmounts, at("10:41:00"))
	moreValues.CarryFrom(fewValues, at("10:41:00"))
	if got, values := moreAmounts.Covered(at("10:41:00")), moreValues.Covered(at("10:41:00")); got != 4 || values != 4 {
		t.Errorf("%d windows are covered, and %d of values, of 4 that there were", got, values)
	}
	for _, row := range []struct {
		name     string
		from, to Type
		want     int
	}{
		{"both families take the place of one", CIDR, IP, 0},
		{"one takes the place of both", IP, CIDR6, 2},
		{"texts take the place of addresses", IP, String, 0},
	} {
		def := Definition{Type: row.from, Interval: 10 * time.Minute, Windows: 3}
		from, fromValues := define(t, row.from, def.Interval, 3), defineDistinct(t, def)
		def.Type = row.to
		to, toValues := define(t, row.to, def.Interval, 3), defineDistinct(t, def)
		from.Begin(at("08:00:00"))
		fromValues.Begin(at("08:00:00"))
		to.CarryFrom(from, at("10:41:00"))
		toValues.CarryFrom(fromValues, at("10:41:00"))
		if got, values := to.Covered(at("10:41:00")), toValues.Covered(at("10:41:00")); got != row.want || values != row.want {
			t.Errorf("%s: %d windows are covered, and %d of values, want %d", row.name, got, values, row.want)
		}
	}
	from, to := define(t, String, 10*time.Minute, 6), define(t, String, 10*time.Minute, 6)
	to.Covered(at("10:00:00"))
	to.CarryFrom(from, at("10:41:00"))
	if got := to.Covered(at("10:41:00")); got != 4 {
		t.Errorf("a younger series took %d of 4 windows away", 4-got)
	}
}

// What is in use while it takes counts over stays in its windows, also where a step back
// that holds the old ones is longer than they are.
func TestCarryingWhileTheClockIsHeldForLongerThanAWindow(t *testing.T) {
	now := at("09:40:00")
	def := Definition{Type: String, Interval: time.Hour, Windows: 3}
	values, amounts := defineDistinct(t, def), define(t, String, time.Hour, 3)
	values.Add(key("user"), "late", at("10:10:00"))
	amounts.Add(key("user"), 1, at("10:10:00"))
	def.Interval = 5 * time.Minute
	finerValues, finerAmounts := defineDistinct(t, def), define(t, String, 5*time.Minute, 3)
	finerValues.Add(key("busy"), "value", now)
	finerAmounts.Add(key("busy"), 1, now)
	finerValues.CarryFrom(values, now)
	finerAmounts.CarryFrom(amounts, now)
	of, _ := finerValues.Counts(nil, key("busy"), Host, now)
	if got := countsOf(finerAmounts, key("busy"), Host, now); !slices.Equal(got, []int64{1, 0, 0}) || !slices.Equal(of, got) {
		t.Errorf("there are %d, and %d values, want 1 in the current window", got, of)
	}
}

// While a step back holds a window, it holds that of what takes its counts over too: they
// count at once, and stay in one window with what comes next.
func TestCarryingWhileTheClockIsHeld(t *testing.T) {
	def := Definition{Type: String, Interval: time.Hour, Windows: 3}
	values, amounts := defineDistinct(t, def), define(t, String, time.Hour, 3)
	for _, row := range []struct{ value, at string }{{"early", "09:10:00"}, {"late", "10:10:00"}} {
		values.Add(key("user"), row.value, at(row.at))
		amounts.Add(key("user"), 1, at(row.at))
	}
	now := at("09:40:00")
	def.Windows = 4
	moreValues, moreAmounts := defineDistinct(t, def), define(t, String, time.Hour, 4)
	moreValues.Begin(now)
	moreAmounts.Begin(now)
	moreValues.CarryFrom(values, now)
	moreAmounts.CarryFrom(amounts, now)
	for _, now := range []time.Time{now, at("10:20:00")} {
		of, _ := moreValues.Counts(nil, key("user"), Host, now)
		if got := countsOf(moreAmounts, key("user"), Host, now); !slices.Equal(got, []int64{1, 1, 0, 0}) || !slices.Equal(of, got) {
			t.Errorf("at %s there are %d, and %d values, want 1 in each of two windows", now.Format(time.TimeOnly), got, of)
		}
	}
}

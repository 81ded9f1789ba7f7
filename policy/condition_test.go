package policy

import (
	"math"
	"math/big"
	"math/rand/v2"
	"testing"
	"time"
)

func TestSlide(t *testing.T) {
	const minute = time.Minute
	for _, row := range []struct {
		name        string
		whole, last int64
		rest        time.Duration
		floor       int64
		fraction    bool
	}{
		{"at the window's begin the last window counts whole", 5, 10, minute, 15, false},
		{"after half of it, half", 5, 10, 30 * time.Second, 10, false},
		{"a quarter of ten is two and a half", 0, 10, 15 * time.Second, 2, true},
		{"at the very end almost nothing is left", 5, 10, 1, 5, true},
		{"negative counts round down too", 0, -10, 15 * time.Second, -3, true},
		{"the limit of 64 bits holds", math.MaxInt64, math.MaxInt64, minute, math.MaxInt64, false},
		{"and so does the other one", -math.MaxInt64, -math.MaxInt64, minute, -math.MaxInt64, false},
	} {
		if got := slide(row.whole, row.last, row.rest, minute); got != (value{row.floor, row.fraction}) {
			t.Errorf("%s: %+v, want floor %d, fraction %v", row.name, got, row.floor, row.fraction)
		}
	}
}

func TestComparisonsUseTheFraction(t *testing.T) {
	for _, row := range []struct {
		v    value
		op   Op
		than int64
		want bool
	}{
		{value{1000, false}, Above, 1000, false},
		{value{1001, false}, Above, 1000, true},
		{value{1000, true}, Above, 1000, true},
		{value{1000, false}, AtLeast, 1000, true},
		{value{999, true}, AtLeast, 1000, false},
		{value{999, true}, Below, 1000, true},
		{value{1000, false}, Below, 1000, false},
		{value{1000, false}, AtMost, 1000, true},
		{value{1000, true}, AtMost, 1000, false},
	} {
		if got := row.v.meets(row.op, row.than); got != row.want {
			t.Errorf("%+v %s %d is %v, want %v", row.v, row.op, row.than, got, row.want)
		}
	}
}

func TestClearAfter(t *testing.T) {
	const m = time.Minute
	for _, row := range []struct {
		name    string
		counts  []int64 // by window, the current one first
		c       Condition
		own     int64
		elapsed time.Duration
		want    time.Duration
		never   bool
	}{
		{name: "one window: when it ends", counts: []int64{6}, c: Condition{Threshold: Threshold{N: 5}}, own: 1, elapsed: 20 * time.Second, want: 40 * time.Second},
		{name: "a leaky add that does not fit any more", counts: []int64{5}, c: Condition{Threshold: Threshold{N: 5}}, own: 1, elapsed: 0, want: m},
		{name: "room at once", counts: []int64{4}, c: Condition{Threshold: Threshold{N: 5}}, own: 1, want: 0},
		{name: "the oldest window has to leave", counts: []int64{1, 0, 5}, c: Condition{Reading: Reading{To: 2}, Threshold: Threshold{N: 5}}, own: 1, elapsed: 10 * time.Second, want: 50 * time.Second},
		{name: "two windows have to leave", counts: []int64{1, 5, 1}, c: Condition{Reading: Reading{To: 2}, Threshold: Threshold{N: 5}}, own: 1, want: 2 * m},
		{name: "at_least wants one less", counts: []int64{0, 5, 1}, c: Condition{Reading: Reading{To: 2}, Op: AtLeast, Threshold: Threshold{N: 7}}, own: 1, want: m},
		{name: "its own amount is too large for ever", counts: []int64{9, 0}, c: Condition{Reading: Reading{To: 1}, Threshold: Threshold{N: 5}}, own: 9, never: true},
		{name: "past windows only: the own amount is not in them", counts: []int64{9, 6, 0, 0}, c: Condition{Reading: Reading{From: 1, To: 2}, Threshold: Threshold{N: 5}}, own: 1, want: 3 * m},
		{name: "sliding: half of the last window's ten", counts: []int64{0, 10}, c: Condition{Reading: Reading{To: 1}, Sliding: true, Threshold: Threshold{N: 5}}, own: 0, elapsed: 0, want: 30 * time.Second},
		{name: "sliding, with one more of its own", counts: []int64{0, 10}, c: Condition{Reading: Reading{To: 1}, Sliding: true, Threshold: Threshold{N: 5}}, own: 1, elapsed: 6 * time.Second, want: 30 * time.Second},
		{name: "sliding: at_least must fall below", counts: []int64{0, 10}, c: Condition{Reading: Reading{To: 1}, Sliding: true, Op: AtLeast, Threshold: Threshold{N: 5}}, own: 0, want: 30*time.Second + 1},
		{name: "sliding: the current window is too full, it must become the last one", counts: []int64{10, 0}, c: Condition{Reading: Reading{To: 1}, Sliding: true, Threshold: Threshold{N: 5}}, own: 0, elapsed: 30 * time.Second, want: m},
	} {
		row.counts = append(row.counts, make([]int64, 4)...)
		got, ok := clearAfter(row.counts, row.c, row.own, 0, row.elapsed, m)
		if ok == row.never || ok && got != row.want {
			t.Errorf("%s: %v, %v; want %v", row.name, got, ok, row.want)
		}
	}
}

// Random counts, against a walk through time in steps of one second.
func TestClearAfterAgainstAWalk(t *testing.T) {
	const interval = 20 * time.Second
	random := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		counts := make([]int64, 4)
		for i := range counts {
			counts[i] = random.Int64N(20)
		}
		c := Condition{Reading: Reading{To: random.IntN(4)}, Threshold: Threshold{N: random.Int64N(40)}, Op: Op(random.IntN(2))}
		c.From = random.IntN(c.To + 1)
		c.Sliding = c.From == 0 && c.To > 0 && random.IntN(2) == 0
		own := random.Int64N(5)
		elapsed := time.Duration(random.IntN(20)) * time.Second
		least := time.Duration(max(0, random.IntN(200)-100)) * time.Second
		got, ok := clearAfter(counts, c, own, least, elapsed, interval)
		want, found := walk(counts, c, own, least, elapsed, interval)
		if ok != found || ok && (got > want || got <= want-time.Second) {
			t.Fatalf("%v, %+v, own %d, least %v, elapsed %v: %v, %v; a walk gives %v, %v", counts, c, own, least, elapsed, got, ok, want, found)
		}
	}
}

func walk(counts []int64, c Condition, own int64, least, elapsed, interval time.Duration) (time.Duration, bool) {
	for t := least; t <= least+time.Duration(c.To+2)*interval; t += time.Second {
		at := elapsed + t
		shift, rest := int(at/interval), interval-at%interval
		sum := new(big.Rat)
		if c.From == 0 {
			sum.SetInt64(own)
		}
		for i := c.From; i <= c.To; i++ {
			if i < shift {
				continue
			}
			n := new(big.Rat).SetInt64(counts[i-shift])
			if c.Sliding && i == c.To {
				n.Mul(n, big.NewRat(int64(rest), int64(interval)))
			}
			sum.Add(sum, n)
		}
		cmp := sum.Cmp(new(big.Rat).SetInt64(c.Threshold.N))
		if cmp < 0 || cmp == 0 && c.Op == Above {
			return t, true
		}
	}
	return 0, false
}

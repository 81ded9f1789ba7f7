package series

import (
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"
)

func TestAGauge(t *testing.T) {
	s := DefineGauge("open_sessions")
	a, b, c := key("192.0.2.1"), key("192.0.2.2"), key("2001:db8::1")
	tests := []struct {
		name string
		do   func(now time.Time)
		want map[Key]int64
	}{
		{"three are open", func(now time.Time) { s.Add(a, 1, now); s.Add(a, 1, now); s.Add(c, 1, now) }, map[Key]int64{a: 2, c: 1}},
		{"one more a year later", func(now time.Time) { s.Add(b, 1, now.AddDate(1, 0, 0)) }, map[Key]int64{a: 2, b: 1, c: 1}},
		{"one less, when the clock is back before 1970", func(now time.Time) { s.Add(a, -1, time.Unix(-1e9, 0)) }, map[Key]int64{a: 1, b: 1, c: 1}},
		{"the last of an address", func(now time.Time) { s.Add(a, -1, now) }, map[Key]int64{b: 1, c: 1}},
		{"one that is taken out by hand", func(now time.Time) { s.Remove(b) }, map[Key]int64{c: 1}},
		{"one too few, and one more", func(now time.Time) { s.Add(a, -1, now); s.Add(a, 1, now) }, map[Key]int64{c: 1}},
		{"none", func(now time.Time) { s.Add(c, -1, now) }, map[Key]int64{}},
	}
	for _, test := range tests {
		now := at("10:00:00")
		test.do(now)
		got := map[Key]int64{}
		for k, counts := range s.All(now) {
			got[k] = counts[0]
		}
		if !maps.Equal(got, test.want) || s.Len() != len(test.want) {
			t.Errorf("%s: %v, %d keys; want %v", test.name, got, s.Len(), test.want)
		}
		want := test.want[a] + test.want[b]
		if n := s.Count(a, Mask{24, 64}, 0, 0, time.Unix(0, 0)); n != want {
			t.Errorf("%s: %d in the /24; want %d", test.name, n, want)
		}
		if counts, elapsed := s.Counts(nil, c, Mask{0, 0}, now); !slices.Equal(counts, []int64{test.want[c]}) || elapsed != 0 {
			t.Errorf("%s: %d in IPv6, %v have passed", test.name, counts, elapsed)
		}
		if n := s.Covered(now); n != 0 {
			t.Errorf("%s: %d windows are covered before the only one", test.name, n)
		}
		checkStructure(t, s)
	}
}

// However many come and go at a time, nothing is left of them.
func TestAGaugeOfManySessions(t *testing.T) {
	s := DefineGauge("open_sessions")
	var sessions sync.WaitGroup
	for session := range 8 {
		sessions.Go(func() {
			r := rand.New(rand.NewPCG(uint64(session), 1))
			for i := range 5000 {
				k := numbered(r.IntN(300), i%3 == 0)
				if i%2 == 0 {
					k = inside16(i, mix(r.IntN(300)))
				}
				s.Add(k, 1, at("10:00:00").Add(time.Duration(i)*time.Hour))
				if n := s.Count(k, Host, 0, 0, at("10:00:00")); n < 1 || n > 8 {
					t.Errorf("%v: %d", k, n)
				}
				s.Add(k, -1, at("10:00:00").Add(-time.Duration(i)*time.Hour))
			}
		})
	}
	sessions.Wait()
	for k, counts := range s.All(at("10:00:00")) {
		t.Errorf("%v: %d", k, counts)
	}
	for p, counts := range s.Blocks(Mask{}, at("10:00:00")) {
		t.Errorf("%v: %d", p, counts)
	}
	if s.Len() != 0 {
		t.Errorf("%d keys", s.Len())
	}
	checkStructure(t, s)
}

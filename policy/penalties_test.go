package policy

import (
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"
)

func TestPenaltiesAndTheClock(t *testing.T) {
	day := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, row := range []struct {
		name     string
		readings []time.Duration // of the clock, after a penalty of 1h was given at noon
		left     time.Duration   // at the last one
	}{
		{"time passes", []time.Duration{30 * time.Minute}, 30 * time.Minute},
		{"until it ends", []time.Duration{time.Hour}, 0},
		{"a step forward is time that passed", []time.Duration{365 * 24 * time.Hour}, 0},
		{"a reading that comes late moves nothing", []time.Duration{10 * time.Minute, 10*time.Minute - time.Second}, 50 * time.Minute},
		{"nor do many of them", []time.Duration{10 * time.Minute, 9*time.Minute + 30*time.Second, 10 * time.Minute, 9*time.Minute + 30*time.Second, 11 * time.Minute}, 49 * time.Minute},
		{"a step back does not freeze it", []time.Duration{-365 * 24 * time.Hour}, time.Hour},
		{"and it goes on from there", []time.Duration{-365 * 24 * time.Hour, -365*24*time.Hour + 20*time.Minute}, 40 * time.Minute},
		{"nor does one by an hour, in its midst", []time.Duration{30 * time.Minute, -30 * time.Minute, -20 * time.Minute}, 20 * time.Minute},
		{"one step back after the other", []time.Duration{10 * time.Minute, -time.Hour, -3 * time.Hour}, 50 * time.Minute},
		{"the clock is set right again: that is time that passed", []time.Duration{-2 * time.Hour, 10 * time.Minute}, 0},
	} {
		noon := day.Add(12 * time.Hour)
		p := newPenalties(false)
		alice := Subject{Text: "alice"}
		p.extend(alice, time.Hour, noon)
		var left time.Duration
		for _, after := range row.readings {
			left = p.left(alice, noon.Add(after))
		}
		if left != row.left {
			t.Errorf("%s: %v are left, want %v", row.name, left, row.left)
		}
	}
}

// After a step back, what is given has the same chance to stay as what was
// given before.
func TestUntilIsToldByTheClockAsItIs(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	p := newPenalties(false)
	p.extend(Subject{Text: "alice"}, time.Hour, now)
	now = now.AddDate(-1, 0, 0)
	p.extend(Subject{Text: "bob"}, time.Hour, now)
	for _, one := range p.list("r", now) {
		if !one.Until.Equal(now.Add(time.Hour)) {
			t.Errorf("%s runs until %v, want %v", one.Subject, one.Until, now.Add(time.Hour))
		}
	}
}

func TestThoseThatEndSoonestLeaveFirst(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	p := newPenalties(false)
	key := func(i int) Subject { return Subject{Text: fmt.Sprint(i)} }
	for i := range maxPenalties {
		p.extend(key(i), time.Hour+time.Duration(i)*time.Millisecond, now)
	}
	p.extend(key(0), 2*time.Hour, now) // again
	p.extend(key(maxPenalties), time.Minute, now)
	if p.left(key(maxPenalties), now) > 0 {
		t.Error("one that ends sooner than all others came in")
	}
	p.extend(key(maxPenalties+1), 2*time.Hour, now)
	if n := p.len.Load(); n != maxPenalties || len(p.running) != maxPenalties {
		t.Errorf("there are %d", n)
	}
	for i, stays := range map[int]bool{0: true, 1: false, 2: true, maxPenalties - 1: true, maxPenalties + 1: true} {
		if got := p.left(key(i), now) > 0; got != stays {
			t.Errorf("number %d runs: %v", i, got)
		}
	}
}

// Penalties that have ended are forgotten as new ones come, without anyone
// asking for them.
func TestEndedPenaltiesAreForgotten(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	p := newPenalties(false)
	for i := range 1000 {
		p.extend(Subject{Text: fmt.Sprint(i)}, time.Minute, now)
	}
	now = now.Add(time.Hour)
	for i := range 1000 {
		p.extend(Subject{Text: fmt.Sprint("later ", i)}, time.Minute, now)
	}
	if n := p.len.Load(); n != 1000 {
		t.Errorf("there are %d, want the 1000 that run", n)
	}
}

func TestPenaltiesFromManySessions(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	p := newPenalties(false)
	var sessions sync.WaitGroup
	for session := range 4 {
		sessions.Go(func() {
			for i := range 500 {
				s := Subject{Text: fmt.Sprint(i % 50)}
				at := now.Add(time.Duration(i) * time.Second)
				switch (i + session) % 5 {
				case 0:
					p.remove(s, at)
				case 1:
					p.deltas("r", at)
				case 2:
					p.list("r", at)
				default:
					p.extend(s, time.Minute, at)
					p.left(s, at)
				}
			}
		})
	}
	sessions.Wait()
	if n := int(p.len.Load()); n != len(p.running) || n != len(p.ends) {
		t.Errorf("%d are counted, %d found by key, %d by their end", n, len(p.running), len(p.ends))
	}
}

// BenchmarkPenalty is what a firing takes beside 100,000 penalties that run, and
// what each of those takes of the memory.
func BenchmarkPenalty(b *testing.B) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	keys := make([]Subject, maxPenalties)
	for i := range keys {
		keys[i] = Subject{Text: fmt.Sprintf("user%06d@example.com", i)}
	}
	before := heapSize()
	p := newPenalties(false)
	for i, key := range keys {
		p.extend(key, time.Hour, now.Add(time.Duration(i)))
	}
	size := float64(heapSize()-before) / maxPenalties
	b.Run("given again", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			p.extend(keys[i%len(keys)], time.Hour, now.Add(time.Duration(len(keys)+i)))
		}
	})
	b.Run("looked for", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			p.left(keys[i%len(keys)], now)
		}
	})
	b.Run("listed", func(b *testing.B) {
		for b.Loop() {
			p.list("r", now)
		}
		b.ReportMetric(size, "B/penalty")
	})
}

func heapSize() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

package series

import (
	"runtime"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// stopwatch keeps times, by this thread's processor time, in which there is none of
// what the system gave to others.
type stopwatch struct {
	b     *testing.B
	times []time.Duration
}

func (w *stopwatch) time(do func()) {
	begin := w.read()
	do()
	w.times = append(w.times, w.read()-begin)
}

func (w *stopwatch) read() time.Duration {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &now); err != nil {
		w.b.Fatal(err)
	}
	return time.Duration(now.Nano())
}

// BenchmarkHold is how long, by the processor, anybody has to wait for a lock: while a
// million expired keys leave, an add's own time; while a walk goes through a million
// keys, that of one look. Work of a look's size that shares nothing stands beside them:
// what it is longer at times is the machine's.
//
//	go test -run '^$' -bench Hold -benchtime 3x ./series
//
//	p50-µs p99.99-µs longest-µs  of all adds or looks
func BenchmarkHold(b *testing.B) {
	for i, kind := range kinds {
		keys := benchmarkKeys(i)
		for _, row := range []struct {
			name string
			hold func(w *stopwatch, s *Series, keys []Key)
		}{
			{"expiry", holdExpiring},
			{"walk", holdWalking},
			{"nothing", holdNothing},
		} {
			b.Run(kind.name+"/"+row.name, func(b *testing.B) {
				runtime.LockOSThread()
				defer runtime.UnlockOSThread()
				w := &stopwatch{b: b}
				for range b.N {
					s := filled(b, kind.typ, 6, keys)
					runtime.GC()
					row.hold(w, s, keys)
				}
				b.ReportMetric(0, "ns/op") // has the filling in it
				slices.Sort(w.times)
				for name, at := range map[string]int{"p50-µs": len(w.times) / 2, "p99.99-µs": len(w.times) * 9999 / 10000, "longest-µs": len(w.times) - 1} {
					b.ReportMetric(float64(w.times[at].Nanoseconds())/1000, name)
				}
			})
		}
	}
}

func holdExpiring(w *stopwatch, s *Series, keys []Key) {
	later := benchTime.Add(time.Hour)
	for n := 0; s.Len() > 1000; n++ {
		w.time(func() { s.Add(keys[n%1000], 1, later) })
	}
}

func holdWalking(w *stopwatch, s *Series, _ []Key) {
	f := s.families[0]
	for i := range f.trees {
		c := cursor{tree: &f.trees[i], left: blockOf(address{}, 0), bits: f.bits, windows: s.every(benchTime)}
		for !c.over {
			w.time(c.look)
		}
	}
}

func holdNothing(w *stopwatch, _ *Series, _ []Key) {
	row := make(row, 1000)
	for range 50_000 {
		w.time(func() {
			for i := range row {
				row.add(i, 1)
			}
		})
	}
}

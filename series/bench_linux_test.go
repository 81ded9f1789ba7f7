package series

import (
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// threadTime is the processor time of this thread, in which nothing is that the
// system did with it meanwhile.
func threadTime(b *testing.B) time.Duration {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &now); err != nil {
		b.Fatal(err)
	}
	return time.Duration(now.Nano())
}

// BenchmarkHold is the longest time, by the processor, for which anybody has to wait
// for a lock: while a million expired keys leave, an add's own; while a walk goes
// through a million keys, that of one look.
//
//	go test -run '^$' -bench Hold -benchtime 1x ./series
func BenchmarkHold(b *testing.B) {
	for i, kind := range kinds {
		keys := benchmarkKeys(i)
		b.Run(kind.name+"/expiry", func(b *testing.B) {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			var longest time.Duration
			for range b.N {
				s := filled(b, kind.typ, 6, keys)
				runtime.GC()
				later := benchTime.Add(time.Hour)
				for n := 0; s.Len() > 1000; n++ {
					begin := threadTime(b)
					s.Add(keys[n%1000], 1, later)
					longest = max(longest, threadTime(b)-begin)
				}
			}
			b.ReportMetric(0, "ns/op") // has the filling in it
			b.ReportMetric(float64(longest.Microseconds()), "longest-µs")
		})
		b.Run(kind.name+"/walk", func(b *testing.B) {
			s := filled(b, kind.typ, 6, keys)
			runtime.GC()
			f := s.families[0]
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			var longest time.Duration
			for range b.N {
				for i := range f.trees {
					c := cursor{tree: &f.trees[i], left: blockOf(address{}, 0), bits: f.bits, windows: s.every(benchTime)}
					for !c.over {
						begin := threadTime(b)
						c.look()
						longest = max(longest, threadTime(b)-begin)
					}
				}
			}
			b.ReportMetric(0, "ns/op") // has the filling in it
			b.ReportMetric(float64(longest.Microseconds()), "longest-µs")
		})
	}
}

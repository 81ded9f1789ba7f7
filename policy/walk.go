package policy

import (
	"fmt"
	"iter"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/audit-milter/audit-milter/series"
)

// inOneGo is how many keys are looked at before others have their turn, which is
// about 50 µs.
const inOneGo = 256

// Politely goes through a whole series and leaves the processor to others in between.
// Go takes it away only after 10 ms, and where there is one processor, or two, all
// sessions would wait for so long.
func Politely[K any](all iter.Seq2[K, []int64]) iter.Seq2[K, []int64] {
	return func(yield func(K, []int64) bool) {
		n := 0
		for k, counts := range all {
			if n++; n%inOneGo == 0 {
				runtime.Gosched()
			}
			if !yield(k, counts) {
				return
			}
		}
	}
}

// Walks go politely through a series' keys or, with another mask than that of single
// addresses, through its networks, each with its counts of all windows, which are good
// until the next one. What one of them yields no other does; [Concurrently] lets them
// go on at the same time. The networks of different values are those in which an
// address is left.
func Walks(c Counter, m series.Mask, now time.Time) (walks []iter.Seq2[Target, []int64]) {
	if s, ok := c.(*series.Series); ok {
		for _, part := range s.Parts(m, now) {
			walks = append(walks, targets(part, m))
		}
		return walks
	}
	if c.Definition().Type.IsAddress() && m != series.Host {
		return append(walks, func(yield func(Target, []int64) bool) { walkUnions(c, m, now, yield) })
	}
	return append(walks, targets(c.All(now), m))
}

// targets go politely through keys, which are the first addresses of networks under a
// mask.
func targets(all iter.Seq2[series.Key, []int64], m series.Mask) iter.Seq2[Target, []int64] {
	return func(yield func(Target, []int64) bool) {
		for key, counts := range Politely(all) {
			if !yield(Target{key, m}, counts) {
				return
			}
		}
	}
}

// walkUnions goes through the networks of different values.
func walkUnions(c Counter, m series.Mask, now time.Time, yield func(Target, []int64) bool) {
	seen := make(map[netip.Prefix]bool)
	var counts []int64
	for key := range Politely(c.All(now)) {
		t := Target{key, m}
		block := t.Block()
		if seen[block] {
			continue
		}
		seen[block] = true
		t.Key = series.AddrKey(block.Addr())
		if counts, _ = c.Counts(counts, t.Key, m, now); !yield(t, counts) {
			return
		}
	}
}

// Concurrently does n things, as many at a time as there are processors. A panic
// becomes the caller's, and not the daemon's end.
func Concurrently(n int, do func(i int)) {
	var next atomic.Int64
	var failure atomic.Value
	var doing sync.WaitGroup
	for range min(n, runtime.GOMAXPROCS(0)) {
		doing.Go(func() {
			defer func() {
				if p := recover(); p != nil {
					failure.CompareAndSwap(nil, fmt.Sprint(p))
				}
			}()
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				do(i)
			}
		})
	}
	doing.Wait()
	if p := failure.Load(); p != nil {
		panic(p)
	}
}

package admin

import (
	"iter"
	"runtime"

	"github.com/audit-milter/audit-milter/policy"
	"github.com/audit-milter/audit-milter/series"
)

// politely goes through a whole series and leaves the processor to others in between.
// Go takes it away only after 10 ms, and where there is one processor, or two, all
// sessions would wait for so long.
func politely[K any](all iter.Seq2[K, []int64]) iter.Seq2[K, []int64] {
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

// inOneGo is how many keys are looked at before others have their turn, which is
// about 50 µs.
const inOneGo = 256

// walk goes through a series' keys or, with another mask than that of single
// addresses, through its blocks.
func (q *question) walk(c policy.Counter, m series.Mask) iter.Seq2[policy.Target, []int64] {
	return func(yield func(policy.Target, []int64) bool) {
		if s, ok := c.(*series.Series); ok && m != series.Host {
			for block, counts := range politely(s.Blocks(m, q.now)) {
				if !yield(policy.Target{Key: series.AddrKey(block.Addr()), Mask: m}, counts) {
					return
				}
			}
			return
		}
		for key, counts := range politely(c.All(q.now)) {
			if !yield(policy.Target{Key: key, Mask: m}, counts) {
				return
			}
		}
	}
}

// total is the sum over the windows from..to; of different values, their union.
func (q *question) total(c policy.Counter, t policy.Target, counts []int64, from, to int) (sum int64) {
	if _, distinct := c.(*series.Distinct); distinct && from < to {
		return c.Count(t.Key, t.Mask, from, to, q.now)
	}
	for _, n := range counts[from : to+1] {
		sum += n
	}
	return sum
}

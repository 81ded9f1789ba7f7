package policy

import (
	"iter"
	"time"

	"github.com/audit-milter/audit-milter/series"
)

// ownCount is what this node has counted of a series of events or amounts: the total
// without the shares, so the event in hand is in it.
type ownCount struct {
	*series.Series // the total
	of             *Lasting
}

// Count is that of a [Counter].
func (o *ownCount) Count(k series.Key, m series.Mask, from, to int, now time.Time) int64 {
	total := o.Series.Count(k, m, from, to, now)
	var others int64
	for _, share := range o.of.shares() {
		others = series.Plus(others, share.Count(k, m, from, to, now))
	}
	return without(total, others)
}

// Counts is that of a [Counter].
func (o *ownCount) Counts(dst []int64, k series.Key, m series.Mask, now time.Time) (counts []int64, elapsed time.Duration) {
	counts, elapsed = o.Series.Counts(dst, k, m, now)
	return o.apart(counts, k, m, now), elapsed
}

// apart takes what the others have counted out of a key's counts.
func (o *ownCount) apart(counts []int64, k series.Key, m series.Mask, now time.Time) []int64 {
	others := make([]int64, len(counts))
	var room []int64
	for _, share := range o.of.shares() {
		room, _ = share.Counts(room, k, m, now)
		for i, n := range room {
			others[i] = series.Plus(others[i], n)
		}
	}
	for i, n := range others {
		counts[i] = without(counts[i], n)
	}
	return counts
}

// without is a count without what others have of it. They may have evicted fewer keys
// than the total: that makes no count negative.
func without(total, others int64) int64 {
	return max(series.Plus(total, -others), min(total, 0))
}

// All is that of a [Counter].
func (o *ownCount) All(now time.Time) iter.Seq2[series.Key, []int64] {
	return func(yield func(series.Key, []int64) bool) {
		for k, counts := range o.Series.All(now) {
			if counts = o.apart(counts, k, series.Host, now); anyCounts(counts) && !yield(k, counts) {
				return
			}
		}
	}
}

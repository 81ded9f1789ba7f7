package milter

import (
	"slices"
	"testing"
	"time"
)

func TestADurationHasOneBucket(t *testing.T) {
	last := len(Bounds)
	for _, row := range []struct {
		name   string
		took   time.Duration
		bucket int
	}{
		{"nothing", 0, 0},
		{"exactly a bound", time.Microsecond, 0},
		{"a little more", time.Microsecond + 1, 1},
		{"between two", 3 * time.Millisecond, slices.Index(Bounds[:], 5*time.Millisecond)},
		{"the last bound", 10 * time.Second, last - 1},
		{"more than all", 10*time.Second + 1, last},
	} {
		var h Histogram
		h.observe(row.took)
		buckets, sum := h.Read()
		if buckets[row.bucket] != 1 || sum != row.took {
			t.Errorf("%s: %v, sum %v; want it in bucket %d", row.name, buckets, sum, row.bucket)
		}
		buckets[row.bucket] = 0
		if buckets != [len(Bounds) + 1]uint64{} {
			t.Errorf("%s: more than one: %v", row.name, buckets)
		}
	}
}

func TestBoundsRise(t *testing.T) {
	if !slices.IsSorted(Bounds[:]) || Bounds[0] != time.Microsecond || Bounds[len(Bounds)-1] != 10*time.Second {
		t.Errorf("%v", Bounds)
	}
}

package series

import (
	"math/bits"
	"runtime"
	"sync"
)

// family holds the addresses of one family, in trees apart so that sessions
// seldom wait for each other. The leading bits of an address choose its tree; a
// block that is larger than what they tell apart is in all of them.
type family struct {
	leading uint8 // how many bits choose the tree
	trees   []lockedTree
}

type lockedTree struct {
	mu sync.Mutex
	tree
}

// The bits that choose the tree: few enough that one tree answers the masks that
// rules have, and that the trees do not all hold the same large blocks; enough
// that the networks which are in use spread.
const (
	leadingIPv4 = 12
	leadingIPv6 = 24
)

func newFamily(leading uint8, windows int) *family {
	f := &family{leading: leading, trees: make([]lockedTree, shards())}
	for i := range f.trees {
		f.trees[i].rings = newRings(windows)
	}
	return f
}

// shards is how many parts with a lock of their own a family or the texts have:
// enough that two threads rarely meet, and few enough that the sum over all of
// them is cheap.
func shards() int {
	n := min(4*runtime.GOMAXPROCS(0), 64)
	return 1 << bits.Len(uint(n-1))
}

// holding is the trees that can hold addresses of the block.
func (f *family) holding(a address, bits uint8) []lockedTree {
	if bits < f.leading {
		return f.trees
	}
	i := f.shard(a)
	return f.trees[i : i+1]
}

// shard spreads neighbouring networks: the golden ratio's multiples do.
func (f *family) shard(a address) uint64 {
	const golden = 0x9e3779b97f4a7c15
	return a.hi >> (64 - f.leading) * golden >> 32 % uint64(len(f.trees))
}

func (f *family) add(a address, m moment, n, oldest int64) (cut bool) {
	t := &f.trees[f.shard(a)]
	t.mu.Lock()
	defer t.mu.Unlock()
	cut = t.add(a, m, n)
	t.sweep(oldest)
	return cut
}

func (f *family) remove(a address, oldest int64) bool {
	t := &f.trees[f.shard(a)]
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.remove(a, oldest)
}

func (f *family) count(a address, bits uint8, s span) (sum int64) {
	trees := f.holding(a, bits)
	for i := range trees {
		sum, _ = plus(sum, trees[i].lockedCount(a, bits, s))
	}
	return sum
}

func (t *lockedTree) lockedCount(a address, bits uint8, s span) int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.count(a, bits, s)
}

func (f *family) tally(dst []int64, a address, bits uint8, s span) {
	trees := f.holding(a, bits)
	for i := range trees {
		trees[i].lockedTally(dst, a, bits, s)
	}
}

func (t *lockedTree) lockedTally(dst []int64, a address, bits uint8, s span) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.tally(dst, a, bits, s)
}

func (f *family) len() (n int) {
	for i := range f.trees {
		t := &f.trees[i]
		t.mu.Lock()
		n += t.keys
		t.mu.Unlock()
	}
	return n
}

package series

import (
	"hash/maphash"
	"math/bits"
	"runtime"
	"sync"
	"sync/atomic"
)

// The kinds of keys. The bits that choose the tree are few enough that one tree
// answers the masks that rules have, and that the trees do not all hold the same
// large blocks; enough that the networks which are in use spread.
var (
	ofIPv4  = kind{bits: 32, leading: 8}
	ofIPv6  = kind{bits: 128, leading: 24, wide: true}
	ofTexts = kind{bits: 32, leading: 12, named: true, seed: maphash.MakeSeed()}
)

// family holds the keys of one kind, in trees apart so that sessions seldom wait
// for each other. The leading bits of an address choose its tree; a block that is
// larger than what they tell apart is in all of them.
type family struct {
	kind
	trees []lockedTree
	gauge bool // a key leaves when it counts nothing
}

type lockedTree struct {
	mu   sync.Mutex
	adds uint64
	tree

	_ [64]byte // so that no two trees share a line of the processor's cache
}

func newFamily(k kind, d Definition, total *atomic.Int64) *family {
	f := &family{kind: k, trees: make([]lockedTree, shards(d.MaxKeys))}
	for i := range f.trees {
		f.trees[i].init(k, d.Windows, total)
	}
	return f
}

// shards is how many trees a family has: enough that two threads rarely meet,
// and few enough that the sum over all of them is cheap and that each of them
// has many keys to choose from when some have to go.
func shards(maxKeys int) int {
	n := min(4*runtime.GOMAXPROCS(0), 64, max(1, maxKeys/1024))
	return 1 << (bits.Len(uint(n)) - 1)
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
	return a.hi >> (64 - f.leading) * golden >> 32 & uint64(len(f.trees)-1)
}

// add adjusts the count of a key, which may be for Deltas to tell; windows before the
// oldest need not be kept.
func (f *family) add(a address, text string, m moment, n, oldest int64, how telling) (cut bool) {
	t := &f.trees[f.shard(a)]
	t.mu.Lock()
	cut = t.add(a, text, m, n)
	t.pending.noteAs(how, a, text, f.keyBits(), m.window, n)
	if f.gauge {
		t.settle(a, text)
	}
	if how != notAtAll { // else it is another's, or was added before
		t.adds++
	}
	t.sweep(oldest)
	t.mu.Unlock()
	return cut
}

func (f *family) remove(a address, text string, oldest int64) bool {
	t := &f.trees[f.shard(a)]
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.remove(a, text, oldest)
}

// count collects a block or a text.
func (f *family) count(y *tally, a address, text string, bits uint8) {
	if f.named {
		bits = f.bits
	}
	trees := f.holding(a, bits)
	for i := range trees {
		t := &trees[i]
		t.mu.Lock()
		t.count(y, a, text, bits)
		t.mu.Unlock()
	}
}

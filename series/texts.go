package series

import (
	"hash/maphash"
	"sync"
)

// texts holds the counters of a series of strings, in tables apart so that
// sessions seldom wait for each other.
type texts struct {
	seed   maphash.Seed
	tables []lockedTable
}

type lockedTable struct {
	mu sync.Mutex
	table
}

func newTexts(windows int) *texts {
	x := &texts{seed: maphash.MakeSeed(), tables: make([]lockedTable, shards())}
	for i := range x.tables {
		x.tables[i].table = table{first: map[uint32]uint32{}, rings: newRings(windows)}
	}
	return x
}

// find is the table that holds the key, and its hash there.
func (x *texts) find(key string) (*lockedTable, uint32) {
	hash := maphash.String(x.seed, key)
	return &x.tables[hash>>32%uint64(len(x.tables))], uint32(hash)
}

func (x *texts) add(key string, m moment, n, oldest int64) (cut bool) {
	t, hash := x.find(key)
	t.mu.Lock()
	defer t.mu.Unlock()
	cut = t.add(hash, key, m, n)
	t.sweep(oldest)
	return cut
}

func (x *texts) remove(key string, oldest int64) bool {
	t, hash := x.find(key)
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.remove(hash, key, oldest)
}

func (x *texts) count(key string, s span) int64 {
	t, hash := x.find(key)
	t.mu.Lock()
	defer t.mu.Unlock()
	if i := t.find(hash, key); i != 0 {
		return t.rings.at(i).sum(s)
	}
	return 0
}

func (x *texts) tally(dst []int64, key string, s span) {
	t, hash := x.find(key)
	t.mu.Lock()
	defer t.mu.Unlock()
	if i := t.find(hash, key); i != 0 {
		t.rings.at(i).tally(dst, s)
	}
}

func (x *texts) len() (n int) {
	for i := range x.tables {
		t := &x.tables[i]
		t.mu.Lock()
		n += t.keys
		t.mu.Unlock()
	}
	return n
}

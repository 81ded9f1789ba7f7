package main

import (
	"encoding/binary"
	"net/netip"
	"path/filepath"
	"slices"
	"time"

	"github.com/cockroachdb/pebble"
	"go.etcd.io/bbolt"

	"github.com/audit-milter/audit-milter/series"
)

// counts are what the daemon has in memory: what each key counts in the window.
type counts struct {
	now   time.Time
	of    []uint32
	value [8]byte
}

func newCounts() counts { return counts{now: time.Now(), of: make([]uint32, keys)} }

// more counts one more and returns what a store keeps: the window and its count.
func (c *counts) more(key uint32) []byte {
	c.of[key]++
	binary.BigEndian.PutUint32(c.value[:], uint32(c.now.Truncate(definition.Interval).Unix()))
	binary.BigEndian.PutUint32(c.value[4:], c.of[key])
	return c.value[:]
}

// counted is a series that a store is read into.
type counted struct {
	*series.Series
	now time.Time
}

func newCounted() counted {
	s, err := series.Define(definition)
	check(err)
	return counted{s, time.Now()}
}

func (c counted) add(key, value []byte) {
	k := series.AddrKey(netip.AddrFrom4([4]byte(key)))
	start, n := binary.BigEndian.Uint32(value), binary.BigEndian.Uint32(value[4:])
	c.Merge(series.Delta{Key: k, Bits: 32, Start: int64(start), Amount: int64(n)}, c.now)
}

// bolt writes one transaction a second, which costs it least, in the order of keys.
type bolt struct {
	counts
	path    string
	db      *bbolt.DB
	waiting []uint32
}

var bucket = []byte("counts")

func newBolt(dir string) way {
	b := &bolt{counts: newCounts(), path: filepath.Join(dir, "bolt")}
	b.open()
	return b
}

func (b *bolt) open() {
	var err error
	b.db, err = bbolt.Open(b.path, 0o600, &bbolt.Options{NoFreelistSync: true, FreelistType: bbolt.FreelistMapType})
	check(err)
}

func (b *bolt) fill() { b.waiting = everyKey() }

func (b *bolt) tick(changed []uint32) { b.waiting = append(b.waiting, changed...) }

func (b *bolt) sync() {
	inOrder(b.waiting)
	check(b.db.Update(func(tx *bbolt.Tx) error {
		counts, err := tx.CreateBucketIfNotExists(bucket)
		check(err)
		for _, key := range b.waiting {
			a := address(key)
			check(counts.Put(a[:], slices.Clone(b.more(key))))
		}
		return nil
	}))
	b.waiting = b.waiting[:0]
}

func (b *bolt) close() { check(b.db.Close()) }

func (b *bolt) read() int {
	s := newCounted()
	b.open()
	check(b.db.View(func(tx *bbolt.Tx) error {
		return tx.Bucket(bucket).ForEach(func(key, value []byte) error {
			s.add(key, value)
			return nil
		})
	}))
	b.close()
	return s.Len()
}

// tree is an LSM tree, which writes a batch each tick and syncs its log once a second.
type tree struct {
	counts
	dir string
	db  *pebble.DB
}

func newPebble(dir string) way {
	t := &tree{counts: newCounts(), dir: dir}
	t.open()
	return t
}

func (t *tree) open() {
	var err error
	t.db, err = pebble.Open(t.dir, &pebble.Options{Logger: silent{}, MemTableSize: 16 << 20})
	check(err)
}

func (t *tree) fill() {
	for from := uint32(0); from < keys; from += perTick {
		var changed []uint32
		for key := range uint32(perTick) {
			changed = append(changed, from+key)
		}
		t.tick(changed)
	}
	check(t.db.Flush())
}

func (t *tree) tick(changed []uint32) {
	b := t.db.NewBatch()
	for _, key := range changed {
		a := address(key)
		check(b.Set(a[:], t.more(key), nil))
	}
	check(b.Commit(pebble.NoSync))
}

func (t *tree) sync()  { check(t.db.LogData(nil, pebble.Sync)) }
func (t *tree) close() { check(t.db.Close()) }

func (t *tree) read() int {
	s := newCounted()
	t.open()
	all, err := t.db.NewIter(nil)
	check(err)
	for all.First(); all.Valid(); all.Next() {
		s.add(all.Key(), all.Value())
	}
	check(all.Close())
	t.close()
	return s.Len()
}

// silent keeps what pebble tells of its files from the output.
type silent struct{}

func (silent) Infof(string, ...any)           {}
func (silent) Errorf(string, ...any)          {}
func (silent) Fatalf(format string, a ...any) { panic(format) }

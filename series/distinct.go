package series

import (
	"iter"
	"slices"
	"sync/atomic"
	"time"
)

// DefaultMaxDistinctKeys is the bound of the number of keys of a [Distinct] where
// none is given: a key's memory grows with what it showed.
const DefaultMaxDistinctKeys = 20_000

// Distinct counts how many DIFFERENT values each key showed, in each window and
// over a range of windows, whose values are a union and no sum. Windows, keys and
// the clock are those of a [Series]. All methods may be called by any number of
// goroutines at a time.
//
// A count is exact up to 64 values, of one window or of a range. Above that it is
// an estimate with a standard error of 1.6 %, and of at least 65.
//
// The blocks that an address is in hold values of their own, for the masks that
// the series was defined with, and count as keys: one address with two masks is
// three. Other masks can be asked for too, which takes a walk over all keys. What
// an address has shown stays in its blocks when the address is removed or evicted.
//
// Values are kept as hashes of 64 bits, which are no secret: who can choose values
// freely can find some that count as one.
type Distinct struct {
	def     Definition
	clock   *clock
	lengths [3][]uint8 // the bits of the holders that an IPv4, an IPv6 address and a text have, itself included
	shards  []shard
	keys    atomic.Int64  // in all shards
	turn    atomic.Uint32 // whose sweep is next
	adds    atomic.Uint64
	gone    atomic.Uint64 // what was evicted
}

// DefineDistinct checks the definition and makes an empty series of it, which keeps
// the unions of blocks under these masks.
func DefineDistinct(def Definition, masks []Mask) (*Distinct, error) {
	if err := def.check(); err != nil {
		return nil, err
	}
	if def.MaxKeys == 0 {
		def.MaxKeys = DefaultMaxDistinctKeys
	}
	d := &Distinct{def: def, clock: newClock(def.Interval), shards: make([]shard, shards(def.MaxKeys))}
	d.lengths = [...][]uint8{{Host.IPv4}, {Host.IPv6}, {0}}
	for _, m := range masks {
		d.lengths[0] = append(d.lengths[0], m.IPv4)
		d.lengths[1] = append(d.lengths[1], m.IPv6)
	}
	for i := range d.lengths {
		slices.Sort(d.lengths[i])
		d.lengths[i] = slices.Compact(d.lengths[i])
	}
	for i := range d.shards {
		d.shards[i].init(def.Windows, &d.keys)
	}
	return d, nil
}

// DistinctMemory is about the most memory, in bytes, that a Distinct of this
// definition takes: when each of its keys shows many values in every window.
func DistinctMemory(def Definition) int64 {
	keys := def.MaxKeys
	if keys == 0 {
		keys = DefaultMaxDistinctKeys
	}
	return int64(keys) * (holderBytes + int64(def.Windows)*setBytes)
}

// Definition is what the series was defined as.
func (d *Distinct) Definition() Definition { return d.def }

// Takes reports whether the series counts keys of this kind and family. An
// absent key it never takes, nor a text over 255 bytes.
func (d *Distinct) Takes(k Key) bool { return d.def.Type.takes(k) }

// kept is the bits of all holders that a key's values go to.
func (d *Distinct) kept(k Key) []uint8 {
	switch {
	case k.addr.Is4():
		return d.lengths[0]
	case k.addr.IsValid():
		return d.lengths[1]
	}
	return d.lengths[2]
}

func (d *Distinct) shard(h holder) *shard { return &d.shards[shardOf(h, len(d.shards))] }

func (d *Distinct) oldest(current int64) int64 { return current - int64(d.def.Windows-1) }

// Begin is as [Series.Begin].
func (d *Distinct) Begin(now time.Time) { d.clock.read(now) }

// Begun is as [Series.Begun].
func (d *Distinct) Begun(now time.Time) time.Time { return time.Unix(0, d.clock.begun(now)) }

// Since is as [Series.Since].
func (d *Distinct) Since(begun, now time.Time) { d.clock.since(begun.UnixNano(), now) }

// Covered is as [Series.Covered].
func (d *Distinct) Covered(now time.Time) int {
	return int(min(d.clock.covered(now), int64(d.def.Windows-1)))
}

// Add notes in the current window that k has shown a value. An empty value and a
// key that the series does not take are ignored.
func (d *Distinct) Add(k Key, value string, now time.Time) {
	current, _ := d.clock.read(now)
	if value == "" || !d.Takes(k) {
		return
	}
	d.adds.Add(1)
	hash, m := hashOf(value), momentOf(current, d.def.Windows)
	for _, bits := range d.kept(k) {
		h := k.block(bits)
		sh := d.shard(h)
		sh.mu.Lock()
		sh.add(h, hash, m)
		sh.mu.Unlock()
		d.tidy(sh, d.oldest(current))
	}
}

// tidy looks for one holder that has expired, and evicts some when there are too
// many, from the shard that got one: so all shards, among which hashes choose, stay
// about as large. While it does, other sessions add theirs, so for a moment there
// can be as many more as there are sessions.
func (d *Distinct) tidy(sh *shard, oldest int64) {
	if next := d.next(); next.mu.TryLock() {
		next.sweep(oldest)
		next.mu.Unlock()
	}
	for d.keys.Load() > int64(d.def.MaxKeys) {
		sh.mu.Lock()
		evicted := sh.evict(oldest)
		sh.mu.Unlock()
		if evicted {
			d.gone.Add(1)
		} else {
			sh = d.next()
		}
	}
}

// next is one shard after the other.
func (d *Distinct) next() *shard { return &d.shards[d.turn.Add(1)%uint32(len(d.shards))] }

// Count is how many different values were shown in the windows from..to, both ends
// included, where 0 is the current one: by the block that k is in under the mask,
// or by the text k. Windows that the series does not have show nothing.
func (d *Distinct) Count(k Key, m Mask, from, to int, now time.Time) int64 {
	current, _ := d.clock.read(now)
	if !d.Takes(k) {
		return 0
	}
	newest, oldest := current-int64(max(from, 0)), current-int64(min(to, d.def.Windows-1))
	if h := k.block(m.bits(k.addr)); slices.Contains(d.kept(k), h.bits) {
		return d.shard(h).count(h, newest, oldest)
	}
	u := new(union)
	d.walk(k, m, func(sh *shard, i uint32) { sh.unite(u, i, newest, oldest) })
	return u.count()
}

// Counts is the count of every single window, the current one first, appended
// to dst[:0], and how much of the current window has passed.
func (d *Distinct) Counts(dst []int64, k Key, m Mask, now time.Time) (counts []int64, elapsed time.Duration) {
	current, elapsed := d.clock.read(now)
	counts = appendZeros(dst[:0], d.def.Windows)
	if !d.Takes(k) {
		return counts, elapsed
	}
	if h := k.block(m.bits(k.addr)); slices.Contains(d.kept(k), h.bits) {
		d.shard(h).counts(counts, h, current)
		return counts, elapsed
	}
	unions := make([]union, len(counts))
	d.walk(k, m, func(sh *shard, i uint32) {
		for w, s := range sh.between(i, current, d.oldest(current)) {
			unions[current-w].take(&sh.sets, *s)
		}
	})
	for i := range unions {
		counts[i] = unions[i].count()
	}
	return counts, elapsed
}

// walk shows the index of each key in the block of k, under its shard's lock.
func (d *Distinct) walk(k Key, m Mask, visit func(sh *shard, i uint32)) {
	block := m.Of(k.addr)
	for h := range d.holders() {
		if !h.single() || !block.Contains(h.addr) {
			continue
		}
		sh := d.shard(h)
		sh.mu.Lock()
		if i, known := sh.index[h]; known {
			visit(sh, i)
		}
		sh.mu.Unlock()
	}
}

// holders yields all keys and blocks that are there all the time. No lock is held
// meanwhile, and none for longer than it takes to look at a few of them.
func (d *Distinct) holders() iter.Seq[holder] {
	return func(yield func(holder) bool) {
		var some []holder
		for i := range d.shards {
			for at := uint32(1); at > 0; {
				some, at = d.shards[i].appendHolders(some[:0], at)
				for _, h := range some {
					if !yield(h) {
						return
					}
				}
			}
		}
	}
}

// All yields every key, without the blocks, and its counts as [Distinct.Counts]
// tells them, if any window has one. They are good until the next key. What comes
// or goes meanwhile may be among them or not, and what goes and comes again may be
// among them twice.
func (d *Distinct) All(now time.Time) iter.Seq2[Key, []int64] {
	return func(yield func(Key, []int64) bool) {
		var counts []int64
		for h := range d.holders() {
			if !h.single() {
				continue
			}
			counts, _ = d.Counts(counts, h.Key, Host, now)
			if slices.ContainsFunc(counts, isCount) && !yield(h.Key, counts) {
				return
			}
		}
	}
}

// Remove forgets what k has shown, in every window; its blocks do not. It
// reports false when there was nothing to forget.
func (d *Distinct) Remove(k Key) bool { return d.remove(k, true) }

// remove is Remove, which may be for Deltas to tell.
func (d *Distinct) remove(k Key, told bool) bool {
	if !d.Takes(k) {
		return false
	}
	h := k.block(Host.bits(k.addr))
	sh := d.shard(h)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	i, known := sh.index[h]
	if !known {
		return false
	}
	if told {
		sh.changes.remove(sh.heads.at(i).Key)
	}
	live := sh.values(i, d.oldest(d.clock.current())) > 0
	sh.drop(i)
	return live
}

// Len is how many keys and blocks the series holds, MaxKeys at the most.
func (d *Distinct) Len() int { return int(d.keys.Load()) }

// Evictions tells what has been evicted since it was asked last: how many keys and
// blocks, and the sum of their windows' counts. Nothing goes on to count it.
func (d *Distinct) Evictions() (all []Evicted) {
	gone := Evicted{Bits: Nowhere}
	for i := range d.shards {
		sh := &d.shards[i]
		sh.mu.Lock()
		gone.Keys += sh.evicted.keys
		gone.Amount = Plus(gone.Amount, sh.evicted.amount)
		sh.evicted = fold{}
		sh.mu.Unlock()
	}
	if gone.Keys > 0 {
		all = append(all, gone)
	}
	return all
}

// Stats are those of a [Series]: an add counts once, also where blocks have it, and
// what was evicted are keys and blocks.
func (d *Distinct) Stats() Stats {
	return Stats{Adds: d.adds.Load(), Evicted: d.gone.Load()}
}

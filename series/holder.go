package series

import (
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// holder is whose values are kept together: a key, or the block of so many leading
// bits that an address is in. A text has no bits.
type holder struct {
	Key
	bits uint8
}

// block is the holder that an address is in, or the text itself.
func (k Key) block(bits uint8) holder {
	if !k.addr.IsValid() {
		return holder{k, 0}
	}
	p, err := k.addr.Prefix(int(bits))
	if err != nil {
		panic(err) // a mask beyond the family's length is refused where masks are read
	}
	return holder{Key{addr: p.Addr()}, bits}
}

// single reports whether it is a key and no block.
func (h holder) single() bool { return !h.addr.IsValid() || int(h.bits) == h.addr.BitLen() }

// shardOf spreads holders over so many shards, a power of two.
func shardOf(h holder, shards int) int {
	a := ofTexts.addressOfText(h.text)
	if h.addr.IsValid() {
		a = addressOf(h.addr)
	}
	return int((a.hi^a.lo*golden^uint64(h.bits))*golden>>32) & (shards - 1)
}

// shard is a part of a [Distinct] that has its own lock.
type shard struct {
	mu      sync.Mutex // owns all of it
	windows int64
	index   map[holder]uint32
	heads   arena[head]
	rows    slab[set] // the sets by window, as in a row of counts; has the indexes of the heads too
	sets    sets
	total   *atomic.Int64 // holders in all shards
	union   union         // of the count in hand
	changes changes

	expiry
	came    uint32   // how many holders have come
	dice    rand.PCG // which of them are looked at when one has to leave
	evicted fold
}

// head is what there is to know of a holder beside its values.
type head struct {
	holder
	window int64  // the newest of its windows
	came   uint32 // the shard's at the time of the last add
}

// holderBytes is about what a holder takes beside its sets and its text, its share
// in a map that is half full included.
const holderBytes = 256

func (sh *shard) init(windows int, total *atomic.Int64) {
	sh.windows, sh.total = int64(windows), total
	sh.index = make(map[holder]uint32)
	sh.rows = newSlab[set](windows)
	sh.sets = newSets()
	sh.oldest = longAgo
}

// at is the set of a window of a holder, which may be new; nil when the window has
// left it.
func (sh *shard) at(h holder, m moment) (i uint32, s *set) {
	i, known := sh.index[h]
	if !known {
		i = sh.insert(h, m.window)
	}
	newest, row := &sh.heads.at(i).window, sh.rows.at(i)
	for w := max(*newest, m.window-sh.windows) + 1; w <= m.window; w++ {
		sh.sets.empty(&row[momentOf(w, len(row)).place])
	}
	*newest = max(*newest, m.window)
	if m.window <= *newest-sh.windows {
		return i, nil
	}
	return i, &row[m.place]
}

func (sh *shard) insert(h holder, window int64) uint32 {
	i := sh.rows.take()
	sh.rows.reset(i)
	h.text = strings.Clone(h.text) // it may be a piece of something larger
	sh.came++
	*sh.heads.reset(i) = head{h, window, sh.came}
	sh.index[h] = i
	sh.total.Add(1)
	return i
}

// add puts a hash into a window of a holder.
func (sh *shard) add(h holder, hash uint64, m moment) {
	i, s := sh.at(h, m)
	sh.heads.at(i).came = sh.came
	if s != nil && sh.sets.add(s, hash) {
		sh.changes.note(i)
	}
}

// drop forgets a holder.
func (sh *shard) drop(i uint32) {
	row := sh.rows.at(i)
	for place := range row {
		sh.sets.empty(&row[place])
	}
	delete(sh.index, sh.heads.at(i).holder)
	*sh.heads.at(i) = head{}
	sh.rows.give(i)
	sh.total.Add(-1)
}

// lives reports whether a holder has this index.
func (sh *shard) lives(i uint32) bool { return !sh.heads.at(i).IsZero() }

// between yields a holder's windows newest to oldest, as far as it has them, and
// their sets.
func (sh *shard) between(i uint32, newest, oldest int64) func(yield func(int64, *set) bool) {
	return func(yield func(int64, *set) bool) {
		head, row := sh.heads.at(i), sh.rows.at(i)
		newest, oldest := min(newest, head.window), max(oldest, head.window-sh.windows+1)
		place := momentOf(newest, len(row)).place
		for w := newest; w >= oldest; w-- {
			if !yield(w, &row[place]) {
				return
			}
			place = before(place, 1, len(row))
		}
	}
}

// unite puts the values of a holder's windows newest to oldest into a union.
func (sh *shard) unite(u *union, i uint32, newest, oldest int64) {
	for _, s := range sh.between(i, newest, oldest) {
		u.take(&sh.sets, *s)
	}
}

// count is how many different values a holder has in its windows newest to oldest.
func (sh *shard) count(h holder, newest, oldest int64) int64 {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	i, known := sh.index[h]
	if !known {
		return 0
	}
	var only set
	shown := 0
	for _, s := range sh.between(i, newest, oldest) {
		if s.n > 0 {
			only = *s
			shown++
		}
	}
	if shown <= 1 {
		return sh.sets.count(only)
	}
	sh.union.reset()
	sh.unite(&sh.union, i, newest, oldest)
	return sh.union.count()
}

// counts puts the count of each window of a holder into its element of dst, the
// current one first.
func (sh *shard) counts(dst []int64, h holder, current int64) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if i, known := sh.index[h]; known {
		for w, s := range sh.between(i, current, current-int64(len(dst)-1)) {
			dst[current-w] = sh.sets.count(*s)
		}
	}
}

// values is how many values a holder has in its windows, oldest and later, added
// up.
func (sh *shard) values(i uint32, oldest int64) (sum int64) {
	for _, s := range sh.between(i, math.MaxInt64, oldest) {
		sum += sh.sets.count(*s)
	}
	return sum
}

// atOnce is how many indexes a walk looks at under one lock.
const atOnce = 256

// appendHolders appends those that have the indexes from the given one on, as many
// as are looked at once, and returns the index behind them; 0 behind the last one.
func (sh *shard) appendHolders(dst []holder, from uint32) (holders []holder, next uint32) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	next = min(from+atOnce, sh.rows.used+1)
	for i := from; i < next; i++ {
		if sh.lives(i) {
			dst = append(dst, sh.heads.at(i).holder)
		}
	}
	if next > sh.rows.used {
		next = 0
	}
	return dst, next
}

// sweep looks at one holder, while there is a pass: it drops what has expired of
// it, and the holder itself when that is all. An add moves a pass on in this shard
// or another.
func (sh *shard) sweep(oldest int64) {
	i := sh.turn(oldest, sh.rows.used)
	if i == 0 || !sh.lives(i) {
		return
	}
	for _, s := range sh.between(i, oldest-1, longAgo) {
		sh.sets.empty(s)
	}
	if !slices.ContainsFunc(sh.rows.at(i), func(s set) bool { return s.n > 0 }) {
		sh.drop(i)
	}
}

const (
	holderVisits = 32  // holders of which the one worth least leaves
	indexVisits  = 256 // indexes looked at for them, with those that are free
	youth        = 4   // one part in so many of a shard's holders comes while one is young
)

// worth is what a holder is compared by when one has to leave.
type worth struct {
	values int64  // in all windows
	young  bool   // it has had no time to show what it is
	age    uint32 // how many have come to the shard since it was counted
}

// less reports whether w is to leave rather than other: first who has nothing,
// then who has fewest values, unless it is young, and of those the one that was
// not counted for longest.
func (w worth) less(other worth) bool {
	switch {
	case (w.values == 0) != (other.values == 0):
		return w.values == 0
	case w.young != other.young:
		return other.young
	case w.values != other.values:
		return w.values < other.values
	}
	return w.age > other.age
}

// evict drops the holder that is worth least of some, drawn at random: neighbours
// came at the same time and would be compared with each other only. It reports
// whether it saw any.
func (sh *shard) evict(oldest int64) bool {
	var least uint32
	var lowest worth
	for seen, tries := 0, 0; seen < holderVisits && tries < indexVisits && len(sh.index) > 0; tries++ {
		i := uint32(sh.dice.Uint64()>>32*uint64(sh.rows.used)>>32) + 1
		if !sh.lives(i) {
			continue
		}
		seen++
		age := sh.came - sh.heads.at(i).came
		w := worth{sh.values(i, oldest), int(age) < len(sh.index)/youth, age}
		if least == 0 || w.less(lowest) {
			least, lowest = i, w
		}
	}
	if least == 0 {
		return false
	}
	sh.evicted.keys++
	sh.evicted.amount = Plus(sh.evicted.amount, lowest.values)
	sh.drop(least)
	return true
}

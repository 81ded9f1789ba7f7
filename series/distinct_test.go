package series

import (
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/audit-milter/audit-milter/internal/short"
)

func defineDistinct(t testing.TB, def Definition, masks ...Mask) *Distinct {
	t.Helper()
	def.Name = "test"
	d, err := DefineDistinct(def, masks)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestDefineDistinctSaysWhatIsWrong(t *testing.T) {
	_, err := DefineDistinct(Definition{Name: "test", Type: IP, Interval: time.Minute}, nil)
	if want := "windows 0: must be 1 to 1024"; err == nil || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
	d := defineDistinct(t, Definition{Type: IP, Interval: time.Minute, Windows: 1})
	if n := d.Definition().MaxKeys; n != 20_000 {
		t.Errorf("max_keys is %d where not given", n)
	}
}

func TestDistinctCounts(t *testing.T) {
	d := defineDistinct(t, Definition{Type: IP, Interval: time.Hour, Windows: 3}, Mask{24, 64})
	show := func(clock, k string, values ...string) {
		for _, v := range values {
			d.Add(key(k), v, at(clock))
		}
	}
	show("10:00:00", "192.0.2.1", "a", "b", "a")
	show("11:59:59", "192.0.2.1", "b", "c")
	show("12:00:00", "192.0.2.1", "c")
	show("12:30:00", "192.0.2.7", "c", "d")
	show("12:30:00", "::ffff:192.0.2.9", "e")
	show("12:30:00", "2001:db8::1", "x")
	show("12:30:00", "2001:db8::2", "x", "")
	show("12:30:00", "a text", "x")

	for _, row := range []struct {
		what     string
		clock    string
		key      string
		mask     Mask
		from, to int
		want     int64
	}{
		{"a value is counted once in a window", "12:59:59", "192.0.2.1", Host, 2, 2, 2},
		{"a window has its own values", "12:59:59", "192.0.2.1", Host, 1, 1, 2},
		{"a range is a union", "12:59:59", "192.0.2.1", Host, 0, 2, 3},
		{"a range ends with the windows that there are", "12:59:59", "192.0.2.1", Host, -1, 99, 3},
		{"a range that ends before it begins has nothing", "12:59:59", "192.0.2.1", Host, 1, 0, 0},
		{"a block is the union of its addresses", "12:59:59", "192.0.2.200", Mask{24, 64}, 0, 0, 3},
		{"over a range, too", "12:59:59", "192.0.2.200", Mask{24, 64}, 0, 2, 5},
		{"a block that is not kept is united when it is asked for", "12:59:59", "192.0.2.200", Mask{20, 48}, 0, 2, 5},
		{"a part of a block that is kept, too", "12:59:59", "192.0.2.7", Mask{29, 64}, 0, 2, 4},
		{"addresses of a block can show the same", "12:59:59", "2001:db8::3", Mask{24, 64}, 0, 0, 1},
		{"everything", "12:59:59", "2001:db8::3", Mask{}, 0, 0, 1},
		{"an empty value is none", "12:59:59", "2001:db8::2", Host, 0, 0, 1},
		{"an address that showed nothing", "12:59:59", "192.0.2.2", Host, 0, 2, 0},
		{"the oldest window has left with an hour", "13:00:00", "192.0.2.1", Host, 0, 2, 2},
		{"a key that the series does not take", "13:00:00", "a text", Host, 0, 2, 0},
	} {
		if got := d.Count(key(row.key), row.mask, row.from, row.to, at(row.clock)); got != row.want {
			t.Errorf("%s: %d, want %d", row.what, got, row.want)
		}
	}
}

// Every single window and how much of the current one has passed, for a block that
// is kept and for one that is not.
func TestDistinctCountsOfWindows(t *testing.T) {
	d := defineDistinct(t, Definition{Type: CIDR, Interval: time.Minute, Windows: 4}, Mask{IPv4: 24})
	for i := range 100 {
		d.Add(numbered(i<<7, false), strconv.Itoa(i/2), at("10:00:30"))
	}
	for i := range 100 {
		d.Add(numbered(i<<7, false), strconv.Itoa(i%2), at("10:02:15"))
	}
	for _, row := range []struct {
		bits uint8
		want []int64
	}{{32, []int64{1, 0, 1, 0}}, {24, []int64{2, 0, 1, 0}}, {8, []int64{2, 0, 50, 0}}} {
		got, elapsed := d.Counts(nil, numbered(0, false), Mask{IPv4: row.bits}, at("10:02:15"))
		if !slices.Equal(got, row.want) || elapsed != 15*time.Second {
			t.Errorf("/%d: %v, %s elapsed, want %v", row.bits, got, elapsed, row.want)
		}
	}
}

// distinctModel is a distinct series written down in the plainest way.
type distinctModel struct {
	clock model
	masks []Mask
	shown []shown
}

type shown struct {
	key     Key
	value   string
	window  Window
	removed bool
}

func (m *distinctModel) count(k Key, mask Mask, from, to int, now time.Time) int64 {
	w := m.clock.read(now)
	values := map[string]bool{}
	for _, s := range m.shown {
		kept := k.addr.IsValid() && mask.bits(k.addr) < Host.bits(k.addr) && slices.ContainsFunc(m.masks, func(m Mask) bool { return m.bits(k.addr) == mask.bits(k.addr) })
		inRange := s.window <= w-Window(from) && s.window >= w-Window(min(to, m.clock.def.Windows-1))
		same := s.key == k || k.addr.IsValid() && mask.Of(k.addr).Contains(s.key.addr)
		if inRange && same && (kept || !s.removed) {
			values[s.value] = true
		}
	}
	return int64(len(values))
}

func (m *distinctModel) remove(k Key) (live bool) {
	for i := range m.shown {
		if s := &m.shown[i]; s.key == k && !s.removed {
			live = live || m.clock.covers(s.window)
			s.removed = true
		}
	}
	return live
}

// TestDistinctModel plays random events, also over steps of the clock, on a
// series and on its model, which must agree, above 64 values about.
func TestDistinctModel(t *testing.T) {
	keys := map[Type]func(i int) Key{
		String: func(i int) Key { return TextKey(fmt.Sprint("user", i)) },
		IP:     func(i int) Key { return numbered(i*37, i%2 == 0) },
		CIDR:   func(i int) Key { return numbered(i*37, false) },
	}
	for typ, key := range keys {
		for seed := range uint64(short.Part(8, 2)) {
			t.Run(fmt.Sprint(typ, "/", seed), func(t *testing.T) {
				r := rand.New(rand.NewPCG(seed, 7))
				def := Definition{Type: typ, Interval: time.Minute, Windows: 1 + r.IntN(8)}
				masks := []Mask{{24, 64}, {16, 48}}
				d := defineDistinct(t, def, masks...)
				m := &distinctModel{clock: model{def: d.Definition()}, masks: masks}
				now := at("10:00:00")
				for range 3000 {
					now = now.Add(tick(r))
					k := key(r.IntN(12))
					switch {
					case r.IntN(200) == 0:
						if got, want := d.Remove(k), m.remove(k); got != want {
							t.Fatalf("remove %s: %v, want %v", k, got, want)
						}
					case r.IntN(4) == 0:
						mask, from, to := Mask{uint8(8 * r.IntN(5)), uint8(16 * r.IntN(9))}, r.IntN(4), r.IntN(9)
						got, want := d.Count(k, mask, from, to, now), m.count(k, mask, from, to, now)
						if want <= exact && got != want || math.Abs(float64(got-want)) > 0.05*float64(want) {
							t.Fatalf("%s %v in %d-%d: %d, want %d", k, mask, from, to, got, want)
						}
					default:
						value := strconv.Itoa(r.IntN(150))
						d.Add(k, value, now)
						m.shown = append(m.shown, shown{k, value, m.clock.read(now), false})
					}
				}
			})
		}
	}
}

// tick is a step of the clock: mostly a little forward, now and then back.
func tick(r *rand.Rand) time.Duration {
	switch r.IntN(400) {
	case 0:
		return -time.Duration(r.IntN(300)) * time.Second
	case 1:
		return time.Duration(r.IntN(900)) * time.Second
	}
	return time.Duration(r.IntN(2000)) * time.Millisecond
}

func TestDistinctAll(t *testing.T) {
	d := defineDistinct(t, Definition{Type: IP, Interval: time.Minute, Windows: 2}, Mask{24, 64})
	d.Add(key("192.0.2.1"), "a", at("09:59:59"))
	for i := range 100 {
		d.Add(numbered(i, i%2 == 0), "a", at("10:00:00"))
	}
	for i := range 100 {
		d.Add(numbered(i, i%2 == 0), strconv.Itoa(i%2), at("10:01:00"))
		d.Add(numbered(i, i%2 == 0), "b", at("10:01:00"))
	}
	if stats := d.Stats(); stats != (Stats{Adds: 301}) {
		t.Errorf("%+v; want 301 adds, blocks not counted", stats)
	}
	got := map[Key]string{}
	for k, counts := range d.All(at("10:01:30")) {
		got[k] = fmt.Sprint(counts)
	}
	want := map[Key]string{}
	for i := range 100 {
		want[numbered(i, i%2 == 0)] = "[2 1]"
	}
	if !maps.Equal(got, want) {
		t.Errorf("%v", got)
	}
	for range d.All(at("10:01:30")) {
		break
	}
	for k := range d.All(at("10:05:00")) {
		t.Errorf("%s has only windows that have left", k)
	}
}

// A walk takes along only a few at a time, so it keeps nobody waiting: what is there
// all the time comes once, and some of what comes meanwhile does, too.
func TestDistinctAllAmongComersAndGoers(t *testing.T) {
	d := defineDistinct(t, Definition{Type: IP, Interval: time.Minute, Windows: 2, MaxKeys: 2000}) // one shard
	now := at("10:00:00")
	for i := range 1500 {
		d.Add(numbered(i, false), "a", now)
	}
	seen := map[Key]int{}
	for k := range d.All(now) {
		seen[k]++
		if i := len(seen); i <= 500 {
			d.Remove(numbered(1500-i, false))
			d.Add(numbered(1500+i, false), "a", now)
			d.Add(numbered(2000+i, false), "a", now)
		}
	}
	for i := range 1000 {
		if n := seen[numbered(i, false)]; n != 1 {
			t.Fatalf("%s came %d times", numbered(i, false), n)
		}
	}
	if len(seen) <= 1500 {
		t.Error("all keys were taken along before the first one came")
	}
}

// What has expired leaves while others are added, until nothing of it is left.
func TestDistinctExpiry(t *testing.T) {
	d := defineDistinct(t, Definition{Type: CIDR, Interval: time.Minute, Windows: 3}, Mask{IPv4: 24})
	for i := range 1000 {
		for v := range i % 80 {
			d.Add(numbered(i, false), strconv.Itoa(v), at("10:00:00"))
		}
	}
	before := d.Len()
	lonely := key("198.51.100.1")
	for n := range 2 * before {
		d.Add(lonely, strconv.Itoa(n%3), at("10:03:00"))
	}
	if got := d.Len(); got != 2 {
		t.Errorf("%d keys and blocks of %d are left, want 2", got, before)
	}
	for i := range d.shards {
		sh := &d.shards[i]
		used := inUse(&sh.rows.indexes)
		if sketches := inUse(&sh.sets.sketches.indexes); used != len(sh.index) || sketches != 0 {
			t.Errorf("%d rows are taken and %d sketches, for %d keys", used, sketches, len(sh.index))
		}
	}
}

// In a flood the keys with few values leave, and what leaves is told.
func TestDistinctEviction(t *testing.T) {
	const maxKeys = 4000
	d := defineDistinct(t, Definition{Type: String, Interval: time.Minute, Windows: 3, MaxKeys: maxKeys})
	large := func(i int) Key { return TextKey(fmt.Sprint("large", i)) }
	for i := range maxKeys / 10 {
		for v := range 2 + i%100 {
			d.Add(large(i), strconv.Itoa(v), at("10:00:00"))
		}
	}
	const flood = 20 * maxKeys
	for i := range flood {
		d.Add(TextKey(fmt.Sprint("small", i)), "a", at("10:00:30"))
		if n := d.Len(); n > maxKeys {
			t.Fatalf("%d keys", n)
		}
	}
	for i := range maxKeys / 10 {
		if got, want := d.Count(large(i), Host, 0, 0, at("10:00:30")), int64(2+i%100); want <= exact && got != want || got < exact && want > exact {
			t.Errorf("%s has %d values, want %d", large(i), got, want)
		}
	}
	gone := d.Evictions()
	if len(gone) != 1 || gone[0].Bits != Nowhere || gone[0].Keys < flood-maxKeys || gone[0].Keys > flood-maxKeys*9/10+maxKeys/1000*10 {
		t.Errorf("evicted: %+v", gone)
	}
	if again := d.Evictions(); again != nil {
		t.Errorf("told twice: %+v", again)
	}
	if all := d.Stats().Evicted; all != gone[0].Keys {
		t.Errorf("%d evicted in all, %d told", all, gone[0].Keys)
	}
	if d.Remove(TextKey("small0")) {
		t.Error("the first of the flood is still there")
	}
}

// Keys whose windows are empty leave before any other.
func TestDistinctEvictsTheEmptyFirst(t *testing.T) {
	d := defineDistinct(t, Definition{Type: String, Interval: time.Minute, Windows: 2, MaxKeys: 16})
	for i := range 8 {
		d.Add(TextKey(fmt.Sprint("old", i)), "a", at("10:00:00"))
		d.Add(TextKey(fmt.Sprint("old", i)), "b", at("10:00:00"))
	}
	for i := range 16 {
		d.Add(TextKey(fmt.Sprint("new", i)), "a", at("10:02:00"))
	}
	for i := range 16 {
		if d.Count(TextKey(fmt.Sprint("new", i)), Host, 0, 1, at("10:02:00")) != 1 {
			t.Errorf("new%d has left", i)
		}
	}
	if gone := d.Evictions(); len(gone) > 0 && gone[0].Amount != 0 {
		t.Errorf("%+v", gone)
	}
}

func TestDistinctAllocatesNothing(t *testing.T) {
	d := defineDistinct(t, Definition{Type: IP, Interval: time.Minute, Windows: 6}, Mask{24, 64})
	now, k := at("10:00:00"), key("192.0.2.1")
	for v := range 1000 {
		d.Add(k, strconv.Itoa(v), now)
	}
	if n := testing.AllocsPerRun(100, func() {
		d.Add(k, "1", now)
		d.Count(k, Mask{24, 64}, 0, 5, now)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

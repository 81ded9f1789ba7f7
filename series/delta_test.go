package series

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"
)

// Two nodes show values, some of them the same, and tell each other and a third one
// what is new, now and then, twice and in any order. In the end all three count
// what one series counts to which everything was added.
func TestDeltasInAnyOrder(t *testing.T) {
	for seed := range uint64(8) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 3))
			def := Definition{Type: IP, Interval: time.Minute, Windows: 4}
			masks := []Mask{{24, 64}, {16, 48}}
			nodes := []*Distinct{defineDistinct(t, def, masks...), defineDistinct(t, def, masks...), defineDistinct(t, def, masks...)}
			for _, n := range nodes {
				n.Follow()
			}
			all := defineDistinct(t, def, masks...)
			told := make([][]Delta, len(nodes))
			now := at("10:00:00")
			for range 3000 {
				now = now.Add(time.Duration(r.IntN(80)) * time.Millisecond)
				who := r.IntN(2)
				switch r.IntN(20) {
				case 0:
					nodes[who].Deltas(func(delta Delta) { told[who] = append(told[who], delta) })
				case 1:
					mergeSome(r, nodes, told, now)
				default:
					k, value := numbered(r.IntN(9)*50, false), strconv.Itoa(r.IntN(300))
					nodes[who].Add(k, value, now)
					all.Add(k, value, now)
				}
			}
			for who, n := range nodes {
				n.Deltas(func(delta Delta) { told[who] = append(told[who], delta) })
			}
			for who, deltas := range told {
				deltas = append(deltas, deltas...)
				r.Shuffle(len(deltas), func(i, j int) { deltas[i], deltas[j] = deltas[j], deltas[i] })
				for i, n := range nodes {
					for _, delta := range deltas {
						if i != who {
							n.Merge(delta, now)
						}
					}
				}
			}
			for i, n := range nodes {
				sameCounts(t, fmt.Sprint("node ", i), n, all, now)
				n.Deltas(func(delta Delta) { t.Errorf("node %d tells what it was told: %+v", i, delta) })
			}
		})
	}
}

// mergeSome brings any of what was told to one of the others.
func mergeSome(r *rand.Rand, nodes []*Distinct, told [][]Delta, now time.Time) {
	from, to := r.IntN(2), r.IntN(3)
	for range 10 {
		if n := len(told[from]); n > 0 && from != to {
			nodes[to].Merge(told[from][r.IntN(n)], now)
		}
	}
}

// sameCounts compares keys and blocks, in every window and over all.
func sameCounts(t *testing.T, what string, got, want *Distinct, now time.Time) {
	t.Helper()
	for i := range 9 {
		for _, m := range []Mask{Host, {24, 64}, {16, 48}} {
			k := numbered(i*50, false)
			g, _ := got.Counts(nil, k, m, now)
			w, _ := want.Counts(nil, k, m, now)
			g, w = append(g, got.Count(k, m, 0, 3, now)), append(w, want.Count(k, m, 0, 3, now))
			if !slices.Equal(g, w) {
				t.Errorf("%s: %s/%d: %v, want %v", what, k, m.IPv4, g, w)
			}
		}
	}
}

func TestDeltasTellOnlyWhatIsNew(t *testing.T) {
	d := defineDistinct(t, Definition{Type: String, Interval: time.Minute, Windows: 2})
	d.Follow()
	now := at("10:00:59")
	show := func(from, to int) {
		for i := from; i < to; i++ {
			d.Add(TextKey("a"), strconv.Itoa(i), now)
		}
	}
	tell := func() (told []string) {
		d.Deltas(func(delta Delta) {
			if delta.Removed {
				told = append(told, fmt.Sprintf("%s is removed", delta.Key))
				return
			}
			begins := time.Unix(delta.Start, 0).UTC().Format(time.TimeOnly)
			if delta.Sketch != nil {
				told = append(told, fmt.Sprintf("%s %s: a sketch", delta.Key, begins))
				return
			}
			told = append(told, fmt.Sprintf("%s %s: %d values", delta.Key, begins, len(delta.Values)))
		})
		return told
	}
	for _, step := range []struct {
		what string
		do   func()
		want string
	}{
		{"what was shown is told", func() { show(0, 3) }, "[a 10:00:00: 3 values]"},
		{"nothing is new", func() { show(0, 3) }, "[]"},
		{"two values are", func() { show(1, 5) }, "[a 10:00:00: 2 values]"},
		{"a window that became a sketch is told as one", func() { show(0, 65) }, "[a 10:00:00: a sketch]"},
		{"known values do not change a sketch", func() { show(0, 65) }, "[]"},
		{"a new one does", func() { show(100, 110) }, "[a 10:00:00: a sketch]"},
		{"the next window is its own", func() { now = now.Add(time.Minute); show(0, 1) }, "[a 10:01:00: 1 values]"},
		{"of what was removed it is told that", func() { show(1, 2); d.Remove(TextKey("a")) }, "[a is removed]"},
		{"and then what it shows again", func() { show(1, 2); d.Remove(TextKey("a")); show(1, 2) }, "[a is removed a 10:01:00: 1 values]"},
		{"what was there before is not told again", func() { d.Unfollow(); show(2, 3); d.Follow() }, "[]"},
		{"what comes instead is", func() { d.Add(TextKey("b"), "x", now) }, "[b 10:01:00: 1 values]"},
	} {
		step.do()
		if got := fmt.Sprint(tell()); got != step.want {
			t.Errorf("%s: %s, want %s", step.what, got, step.want)
		}
	}
}

// What is to be told takes a mark for each key at the most, whatever comes and goes.
func TestDeltasAreBounded(t *testing.T) {
	d := defineDistinct(t, Definition{Type: String, Interval: time.Minute, Windows: 2, MaxKeys: 100})
	d.Follow()
	for i := range 10_000 {
		d.Add(TextKey(strconv.Itoa(i)), "x", at("10:00:00"))
	}
	if n := len(d.shards[0].changes.list); n > 101 {
		t.Errorf("%d marks for 100 keys", n)
	}
	told := 0
	d.Deltas(func(Delta) { told++ })
	if told != d.Len() {
		t.Errorf("%d are told of %d", told, d.Len())
	}
}

func TestMerge(t *testing.T) {
	now := at("10:10:30")
	start := func(clock string) int64 { return at(clock).Unix() }
	block := Delta{Key: key("192.0.2.0"), Bits: 24, Start: start("10:10:00"), Values: []uint64{1, 2}}
	for _, row := range []struct {
		what   string
		change func(*Delta)
		want   bool
	}{
		{"a block that is kept", func(*Delta) {}, true},
		{"nothing", func(d *Delta) { d.Values = nil }, false},
		{"an address", func(d *Delta) { d.Bits = 32 }, true},
		{"a block that is not kept", func(d *Delta) { d.Bits = 20 }, false},
		{"the bits of no address", func(d *Delta) { d.Bits = 255 }, false},
		{"a key of another kind", func(d *Delta) { *d = Delta{Key: key("text"), Start: d.Start, Values: d.Values} }, false},
		{"no key", func(d *Delta) { d.Key = Key{} }, false},
		{"the oldest window", func(d *Delta) { d.Start = start("10:08:00") }, true},
		{"a window that has left", func(d *Delta) { d.Start = start("10:07:00") }, false},
		{"the next window, of a clock that is ahead", func(d *Delta) { d.Start = start("10:11:00") }, true},
		{"a window in the future", func(d *Delta) { d.Start = start("10:12:00") }, false},
		{"a sketch with ranks that there are not", func(d *Delta) { d.Values, d.Sketch = nil, &Sketch{255, 254} }, true},
	} {
		d := defineDistinct(t, Definition{Type: CIDR, Interval: time.Minute, Windows: 3}, Mask{IPv4: 24})
		delta := block
		row.change(&delta)
		if got := d.Merge(delta, now); got != row.want {
			t.Errorf("%s: %v", row.what, got)
		}
		if d.Merge(delta, now) {
			t.Errorf("%s: the second time changes something", row.what)
		}
	}
}

// A step back of the clock relabels the windows, for what is told and what is merged
// alike.
func TestDeltasOverAStepBack(t *testing.T) {
	a := defineDistinct(t, Definition{Type: String, Interval: time.Minute, Windows: 3})
	b := defineDistinct(t, Definition{Type: String, Interval: time.Minute, Windows: 3})
	a.Follow()
	a.Add(TextKey("k"), "x", at("12:00:00"))
	a.Add(TextKey("k"), "y", at("10:00:00")) // the current window now begins here
	b.Add(TextKey("k"), "z", at("10:00:00"))
	a.Deltas(func(delta Delta) { b.Merge(delta, at("10:00:00")) })
	if got := b.Count(TextKey("k"), Host, 0, 0, at("10:00:00")); got != 3 {
		t.Errorf("%d values, want 3", got)
	}
}

// Sessions show values, count, tell and merge while windows pass; what they
// showed in the last one is all there at the end.
func TestDistinctManySessions(t *testing.T) {
	d := defineDistinct(t, Definition{Type: IP, Interval: time.Second, Windows: 3, MaxKeys: 5000}, Mask{24, 64})
	copied := defineDistinct(t, d.Definition(), Mask{24, 64})
	d.Follow()
	begin := at("10:00:00")
	session := func(number, second int) {
		for i := second * 1000; i < (second+1)*1000; i++ {
			now := begin.Add(time.Duration(i) * time.Millisecond)
			k := numbered(i%50, false)
			d.Add(k, strconv.Itoa(number*10+i%10), now)
			switch i % 100 {
			case 0:
				d.Deltas(func(delta Delta) { copied.Merge(delta, now) })
			case 1:
				d.Count(k, Mask{20, 48}, 0, 2, now)
			case 2:
				for range d.All(now) {
				}
			case 3:
				d.Remove(numbered(1000+i, false))
			}
		}
	}
	for second := range 3 { // none is behind by more than an interval
		var wg sync.WaitGroup
		for number := range 8 {
			wg.Go(func() { session(number, second) })
		}
		wg.Wait()
	}
	now := begin.Add(2999 * time.Millisecond)
	d.Deltas(func(delta Delta) { copied.Merge(delta, now) })
	for _, got := range []*Distinct{d, copied} {
		for i := range 50 {
			if n := got.Count(numbered(i, false), Host, 0, 0, now); n != 8 {
				t.Errorf("%d has %d values, want 8", i, n)
			}
		}
		if n := got.Count(numbered(0, false), Mask{24, 64}, 0, 0, now); n < 76 || n > 84 {
			t.Errorf("the block has %d values, want 80", n)
		}
	}
}

// A node whose clock is a little ahead tells of a window that has not begun here: that
// ends nothing, and what it told is there when the window begins.
func TestMergeOfTheNextWindow(t *testing.T) {
	d := defineDistinct(t, Definition{Type: String, Interval: time.Minute, Windows: 2})
	k := TextKey("k")
	d.Add(k, "oldest", at("10:09:30"))
	d.Add(k, "here", at("10:10:59"))
	d.Merge(Delta{Key: k, Start: at("10:11:00").Unix(), Values: []uint64{7}}, at("10:10:59"))
	for _, row := range []struct {
		clock    string
		from, to int
		want     int64
	}{
		{"10:10:59", 0, 0, 2}, {"10:10:59", 0, 1, 3}, {"10:11:00", 0, 1, 2},
	} {
		if got := d.Count(k, Host, row.from, row.to, at(row.clock)); got != row.want {
			t.Errorf("at %s windows %d-%d have %d values, want %d", row.clock, row.from, row.to, got, row.want)
		}
	}
}

// What is removed at once is far more than what comes in a tick, and the room for it goes
// when it is told.
func TestWhatWasToldTakesNoRoom(t *testing.T) {
	for _, typ := range []Type{CIDR, String} {
		t.Run(typ.String(), func(t *testing.T) {
			const keys, windows = 2000, 64 // of one tree, on any machine
			s := bounded(t, typ, windows, keys)
			s.Follow()
			key := func(i int) Key {
				if typ == String {
					return TextKey(fmt.Sprintf("%0200d", i))
				}
				return AddrKey(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}))
			}
			told := func() (n int) {
				s.Deltas(func(Delta) { n++ })
				return n
			}
			now := time.Unix(1_800_000_000, 0)
			for range windows {
				now = now.Add(s.def.Interval)
				for i := range keys {
					s.Add(key(i), 1, now)
				}
				told()
			}
			for i := range keys {
				s.Remove(key(i))
			}
			if n := told(); n < keys*windows*9/10 {
				t.Fatalf("%d removals are told", n)
			}
			told()
			for _, tree := range s.trees {
				p := &tree.pending
				if room := max(cap(p.list), cap(p.spare)); room > patience {
					t.Errorf("there is room for %d adjustments, which nothing needs", room)
				}
				if room := max(cap(p.texts), cap(p.spareTexts)); room > 16*patience {
					t.Errorf("there is room for %d bytes of texts, which nothing needs", room)
				}
			}
		})
	}
}

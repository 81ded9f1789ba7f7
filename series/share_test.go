package series

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// divided is a series of two nodes: this one's ledger and another one's share.
type divided struct {
	*Series
	own, share *Series
}

func newDivided(t *testing.T, maxKeys int) divided {
	s := bounded(t, IP, 4, maxKeys)
	own, share := s.Beside(), s.Beside()
	s.Follow()
	own.Follow()
	return divided{s, own, share}
}

// add counts a key here, or lets the other node tell it.
func (x divided) add(r *rand.Rand, k Key, now time.Time) {
	n := 1 + r.Int64N(9)
	if r.IntN(2) == 0 {
		x.Add(k, n, now)
		return
	}
	d := Delta{Key: k, Bits: 128, Start: now.Truncate(time.Minute).Unix(), Amount: n}
	if k.addr.Is4() {
		d.Bits = 32
	}
	if x.Settle(&d, now) {
		x.share.Merge(d, now)
		x.Merge(d, now)
	}
}

func (x divided) enter() { x.Deltas(func(d Delta) { x.own.Apply(d) }) }

// isSumOf compares the counts of both families' keys and networks with those of the parts.
func (x divided) isSumOf(t *testing.T, what string, masks []Mask, now time.Time, parts ...*Series) {
	t.Helper()
	for _, m := range masks {
		for i := range 1200 {
			k := numbered(i%600, i < 600)
			want := make([]int64, x.def.Windows)
			for _, p := range parts {
				counts, _ := p.Counts(nil, k, m, now)
				for i, n := range counts {
					want[i] += n
				}
			}
			if got, _ := x.Counts(nil, k, m, now); !slices.Equal(got, want) {
				t.Fatalf("%s, %d keys at the most: %s/%v counts %v, want %v", what, x.def.MaxKeys, k, m, got, want)
			}
		}
	}
}

// What is taken back or out leaves exactly what the other part counts, in every key and
// network, also when keys had to leave; and the ledger tells what it has taken back.
func TestWhatIsTakenOutLeavesTheRest(t *testing.T) {
	for _, maxKeys := range []int{0, 300} {
		for seed := range uint64(4) {
			r := rand.New(rand.NewPCG(seed, 1))
			x := newDivided(t, maxKeys)
			now := at("10:00:00")
			for range 4000 {
				now = now.Add(time.Duration(r.IntN(60)) * time.Millisecond)
				x.add(r, numbered(r.IntN(600), r.IntN(4) == 0), now)
			}
			x.enter()
			other := defined(t, x.def)
			x.own.Deltas(func(d Delta) { other.Merge(d, now) })
			block := netip.PrefixFrom(numbered(0, false).addr, 24+r.IntN(4)).Masked()
			x.TakeBackBlock(x.own, block)
			k := numbered(599, false)
			x.TakeBack(x.own, k)
			x.own.Deltas(func(d Delta) {
				if !d.Removed {
					t.Errorf("%+v is told as no removal", d)
				}
				other.Merge(d, now)
			})
			masks := []Mask{{}, {8, 16}, {16, 48}, {24, 64}}
			if maxKeys == 0 {
				masks = append(masks, Host, Mask{uint8(block.Bits()), 128})
			} else {
				masks = []Mask{{}}
			}
			in := Key{addr: block.Addr()}
			for _, m := range masks {
				for i := range 600 {
					k := numbered(i, false)
					got, _ := other.Counts(nil, k, m, now)
					if want, _ := x.own.Counts(nil, k, m, now); !slices.Equal(got, want) {
						t.Fatalf("who was told has %v for %s/%d, want %v", got, k, m.IPv4, want)
					}
				}
			}
			if n := x.own.Count(in, Mask{uint8(block.Bits()), 0}, 0, 3, now); n != 0 {
				t.Errorf("the ledger has %d in the block that was taken back", n)
			}
			x.isSumOf(t, fmt.Sprint("after taking back, seed ", seed), masks, now, x.own, x.share)
			x.TakeOut(x.share)
			x.isSumOf(t, fmt.Sprint("without the share, seed ", seed), masks, now, x.own)
			x.Deltas(func(d Delta) { t.Errorf("the total tells %+v", d) })
		}
	}
}

// What replaces a part counts in its place, in every key and network: some of it is the
// same, some is more, less, or below nothing, some has come or gone, and keys had to leave.
func TestWhatReplacesAPartCountsInItsPlace(t *testing.T) {
	for _, maxKeys := range []int{0, 300} {
		for seed := range uint64(4) {
			r := rand.New(rand.NewPCG(seed, 3))
			x := newDivided(t, maxKeys)
			now := at("10:00:00")
			after := x.Beside()
			for range 4000 {
				now = now.Add(time.Duration(r.IntN(60)) * time.Millisecond)
				k := numbered(r.IntN(600), r.IntN(4) == 0)
				x.add(r, k, now)
				switch r.IntN(4) {
				case 0:
					after.Add(k, 5-r.Int64N(9), now)
				case 1:
					after.Add(k, x.share.Count(k, Host, 0, 0, now)-after.Count(k, Host, 0, 0, now), now)
				}
			}
			x.enter()
			called := 0
			x.Replace(x.share, after, func() { called++ })
			masks := []Mask{{}}
			if maxKeys == 0 {
				masks = append(masks, Mask{8, 16}, Mask{24, 64}, Host)
			}
			x.isSumOf(t, fmt.Sprint("seed ", seed), masks, now, x.own, after)
			if called != 1 {
				t.Errorf("half of it was called %d times", called)
			}
			x.Deltas(func(d Delta) { t.Errorf("the total tells %+v", d) })
		}
	}
}

// Of texts the total has no sums; what is put in place of a part, or taken back or out, is
// taken from the keys that have not had to leave.
func TestTextsThatHadToLeaveAreTakenOut(t *testing.T) {
	x := divided{Series: bounded(t, String, 2, 2000)}
	x.own, x.share = x.Beside(), x.Beside()
	x.Follow()
	x.own.Follow()
	now := at("10:00:00")
	text := func(i int) Key { return TextKey(fmt.Sprint("user", i)) }
	for i := range 6000 {
		x.Add(text(i), 3, now)
		d := Delta{Key: text(i), Start: now.Unix(), Amount: 5}
		x.share.Merge(d, now)
		x.Merge(d, now)
	}
	x.enter()
	after := x.Beside()
	for i := range 6000 {
		after.Add(text(i), 4, now)
	}
	var whole []Key // those that no part has let go
	for i := range 6000 {
		if k := text(i); x.own.Count(k, Host, 0, 0, now) == 3 && x.share.Count(k, Host, 0, 0, now) == 5 && after.Count(k, Host, 0, 0, now) == 4 {
			whole = append(whole, k)
		}
	}
	if len(whole) < 100 {
		t.Fatalf("%d keys are in all parts", len(whole))
	}
	count := func(what string, most int64) {
		t.Helper()
		counted := 0
		for _, k := range whole {
			got := x.Count(k, Host, 0, 1, now)
			if got < 0 || got > most {
				t.Fatalf("%s: %s counts %d, of %d", what, k, got, most)
			}
			if got == most {
				counted++
			}
		}
		if counted == 0 {
			t.Errorf("%s: no key counts %d", what, most)
		}
	}
	count("at the begin", 8)
	x.Replace(x.share, after, func() {})
	count("another part in place", 7)
	for _, k := range whole {
		x.TakeBack(x.own, k)
	}
	count("keys taken back", 4)
	x.TakeOut(after)
	count("all taken out", 0)
}

func defined(t *testing.T, d Definition) *Series {
	s, err := Define(d)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// A window begins for all that share a clock at once, by whichever of them it was read.
func TestSharedClocks(t *testing.T) {
	s := define(t, IP, time.Minute, 3)
	beside := s.Beside()
	k := key("192.0.2.1")
	s.Add(k, 1, at("10:00:59"))
	d := Delta{Key: k, Bits: 32, Start: at("10:01:00").Unix(), Amount: 5}
	if !s.Settle(&d, at("10:00:59")) || d.Start != at("10:00:00").Unix() {
		t.Errorf("the next window settles at %s, want the current one", time.Unix(d.Start, 0).UTC())
	}
	s.Add(k, 1, at("10:01:00"))
	beside.Merge(d, at("10:01:00"))
	if n := beside.Count(k, Host, 1, 1, at("10:01:00")); n != 5 {
		t.Errorf("%d are in the window before, want 5", n)
	}
	s.Add(k, 1, at("09:00:00")) // a step back
	if got, _ := beside.Counts(nil, k, Host, at("09:00:00")); fmt.Sprint(got) != "[0 5 0]" {
		t.Errorf("after a step back it counts %v, want what it had in the window before", got)
	}
	for what, late := range map[string]Delta{
		"a window that has left": {Key: k, Start: at("08:57:00").Unix()},
		"one of a far future":    {Key: k, Start: at("09:02:00").Unix()},
		"a key of another type":  {Key: TextKey("text"), Start: at("09:00:00").Unix()},
	} {
		if s.Settle(&late, at("09:00:00")) {
			t.Errorf("%s is taken", what)
		}
	}
}

func TestValuesThatOnePartHasStay(t *testing.T) {
	now := at("10:00:00")
	d := defineDistinct(t, Definition{Type: IP, Interval: time.Minute, Windows: 3}, Mask{24, 64})
	one, other := d.Beside(), d.Beside()
	k := key("192.0.2.1")
	for i := range 100 { // half of them are shown to both, and some make a sketch
		value := fmt.Sprint(i)
		if i < 70 {
			one.Add(k, value, now)
			d.Add(k, value, now)
		}
		if i >= 60 {
			other.Add(k, value, now)
			d.Add(k, value, now)
		}
	}
	d.TakeOut(other, []*Distinct{one})
	for _, m := range []Mask{Host, {24, 64}} {
		if got, want := d.Count(k, m, 0, 2, now), one.Count(k, m, 0, 2, now); got != want {
			t.Errorf("under /%d it has %d values, want %d", m.IPv4, got, want)
		}
	}
	d.PutIn(other)
	if n := d.Count(k, Host, 0, 2, now); n < 97 || n > 103 {
		t.Errorf("with the other part it has about %d values, want 100", n)
	}
	d.Rebuild(k, []*Distinct{other})
	if got := d.Count(k, Host, 0, 2, now); got != 40 {
		t.Errorf("put together anew of one part it has %d values, want 40", got)
	}
	if got := d.Count(k, Mask{24, 64}, 0, 2, now); got < 97 {
		t.Errorf("its block has %d values: it forgets none with a key", got)
	}
}

// A key that had to leave the total is in the ledger still, and in another node's share.
// What is taken of it then comes out of the networks around it.
func TestNothingCountsLessThanNothingWhenKeysHadToLeave(t *testing.T) {
	for seed := range uint64(4) {
		r := rand.New(rand.NewPCG(seed, 2))
		x := newDivided(t, 100)
		now := at("10:00:00")
		for i := range 60 {
			x.Add(numbered(i, false), 5, now)
		}
		x.enter()
		for i := range 600 {
			d := Delta{Key: numbered(1000+r.IntN(600), i%3 == 0), Bits: 32, Start: now.Unix(), Amount: 100}
			x.share.Merge(d, now)
			x.Merge(d, now)
		}
		left := 0
		for i := range 60 {
			k := numbered(i, false)
			if x.Count(k, Host, 0, 3, now) == 0 {
				left++
			}
			if i%2 == 0 {
				x.TakeBack(x.own, k)
			}
		}
		if left == 0 {
			t.Fatal("no key had to leave")
		}
		nowhere := func(when string) {
			t.Helper()
			for i := range 1600 {
				for _, m := range []Mask{{}, {8, 16}, {16, 48}, {24, 64}, {28, 96}, Host} {
					if n := x.Count(numbered(i, i%3 == 0), m, 0, 3, now); n < 0 {
						t.Fatalf("seed %d, %s: %s/%d counts %d", seed, when, numbered(i, i%3 == 0), m.IPv4, n)
					}
				}
			}
		}
		nowhere("after taking back")
		x.TakeOut(x.share)
		nowhere("without the share")
		own := x.own.Count(numbered(0, false), Mask{}, 0, 3, now)
		if n := x.Count(numbered(0, false), Mask{}, 0, 3, now); n != own || own != 30*5 {
			t.Errorf("seed %d: all count %d, want the %d of the ledger, which are 150", seed, n, own)
		}
		k := numbered(0, false)
		if x.Add(k, 3, now); x.Count(k, Host, 0, 3, now) != 3 {
			t.Errorf("a key that came anew counts %d, want 3", x.Count(k, Host, 0, 3, now))
		}
	}
}

// What was removed elsewhere may have had to leave here, and have left what it had to other
// networks than there: no count goes below nothing, and all together are exact.
func TestWhatWasRemovedElsewhereCountsNoLessThanNothing(t *testing.T) {
	masks := []Mask{{}, {8, 16}, {16, 48}, {24, 64}, {28, 96}, Host}
	for _, typ := range []Type{CIDR, String} {
		for seed := range uint64(4) {
			r := rand.New(rand.NewPCG(seed, 4))
			there, x := bounded(t, typ, 4, 100), divided{Series: bounded(t, typ, 4, 100)}
			x.share = x.Beside()
			there.Follow()
			now := at("10:00:00")
			for n := range 2001 {
				there.Add(keyOf(typ, r.IntN(300)), 1+r.Int64N(9), now)
				x.Add(keyOf(typ, r.IntN(300)), 1+r.Int64N(9), now)
				if n%20 > 0 {
					continue
				}
				k := keyOf(typ, r.IntN(300))
				there.Remove(k)
				if typ != String && n%200 == 0 {
					there.RemoveBlock(Mask{16, 48}.Of(k.addr))
				}
				there.Deltas(func(d Delta) {
					x.share.Merge(d, now)
					x.Merge(d, now)
				})
				for i := 0; i < 300 && n%200 == 0; i++ {
					for _, m := range masks {
						for what, s := range map[string]*Series{"total": x.Series, "share": x.share} {
							if n := s.Count(keyOf(typ, i), m, 0, 3, now); n < 0 {
								t.Fatalf("seed %d: %s counts %d under /%d in the %s", seed, keyOf(typ, i), n, m.IPv4, what)
							}
						}
					}
				}
			}
			if typ == String {
				continue
			}
			all := func(s *Series) int64 { return s.Count(keyOf(typ, 0), Mask{}, 0, 3, now) }
			if all(x.share) != all(there) {
				t.Errorf("seed %d: the share counts %d in all, want %d", seed, all(x.share), all(there))
			}
			own := all(x.Series) - all(x.share)
			for range 3 {
				after := x.Beside()
				x.share.whole(func(d Delta) { after.Merge(d, now) })
				x.Replace(x.share, after, func() {})
				x.share = after
			}
			x.TakeOut(x.share)
			if all(x.Series) != own {
				t.Errorf("seed %d: without the share all count %d, want %d", seed, all(x.Series), own)
			}
		}
	}
}

// What keys that had to leave have left to everything is taken back from everything,
// wherever the keys were.
func TestWhatHadToLeaveIsTakenBackFromEverything(t *testing.T) {
	x := newDivided(t, 8192) // several parts on any machine
	now := at("10:00:00")
	for i := range 20_000 {
		x.Add(numbered(i, true), 1+int64(i%3), now)
		if i%4096 == 0 {
			x.enter()
		}
	}
	x.enter()
	x.TakeBackBlock(x.own, netip.MustParsePrefix("0.0.0.0/0"))
	if n := x.Count(numbered(0, true), Mask{}, 0, 3, now); n != 0 {
		t.Errorf("everything counts %d", n)
	}
}

// With a block that is taken back goes what keys that had to leave have left to it, and to
// the networks in it.
func TestWhatHadToLeaveIsTakenBackWithABlock(t *testing.T) {
	key := func(i int) Key { return numbered(10<<24+int(mix(i)%65536), false) }
	for _, block := range []string{"10.0.0.0/16", "10.0.128.0/20"} {
		x := newDivided(t, 1000)
		p, now := netip.MustParsePrefix(block), at("10:00:00")
		for i := range 6000 {
			if x.Add(key(i), 1+int64(i%3), now); i%50 == 0 {
				x.enter()
			}
		}
		x.enter()
		x.TakeBackBlock(x.own, p)
		for i := range 6000 {
			for _, m := range []Mask{{16, 0}, {20, 0}, {24, 0}, {28, 0}, Host} {
				if k := key(i); int(m.IPv4) >= p.Bits() && p.Contains(k.addr) {
					if n := x.Count(k, m, 0, 3, now); n != 0 {
						t.Fatalf("without %s, %s/%d counts %d", block, k, m.IPv4, n)
					}
				}
			}
		}
		if got, want := x.Count(key(0), Mask{}, 0, 3, now), x.own.Count(key(0), Mask{}, 0, 3, now); got != want {
			t.Errorf("without %s all count %d, want the %d of the ledger", block, got, want)
		}
	}
}

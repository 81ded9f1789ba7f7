package series

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/audit-milter/audit-milter/internal/short"
)

// journal is what was told of a series: in memory, as another one would keep it.
type journal struct {
	deltas []stamped
	begun  int  // where the newest snapshot begins
	whole  bool // it is complete
}

type stamped struct {
	Delta
	now time.Time
}

// replay is the series that a journal gives, from its beginning or from the newest
// snapshot.
func (j *journal) replay(t *testing.T, def Definition, fromSnapshot bool) *Series {
	s := define(t, def.Type, def.Interval, def.Windows)
	deltas := j.deltas
	if fromSnapshot {
		deltas = deltas[j.begun:]
	}
	for _, d := range deltas {
		if fromSnapshot && d.For == Older || !fromSnapshot && d.For == Newer {
			continue
		}
		s.Merge(d.Delta, d.now)
	}
	return s
}

// All that is done to a series is told, and gives it again: from the beginning on, and
// from the begin of any snapshot that has come to its end, though the series was in use
// while it was taken.
func TestWhatIsToldGivesTheSeriesAgain(t *testing.T) {
	for _, typ := range []Type{IP, CIDR, CIDR6, String} {
		for seed := range uint64(short.Part(3, 1)) {
			t.Run(fmt.Sprint(typ, seed), func(t *testing.T) {
				r := rand.New(rand.NewPCG(seed, uint64(typ)))
				s := bounded(t, typ, 4, 4096) // few trees on any machine, so that snapshots come to their end
				s.Follow()
				var j journal
				var taken Snapshot
				now := at("10:00:00")
				note := func(d Delta) { j.deltas = append(j.deltas, stamped{d, now}) }
				whole := 0
				for range 4000 {
					now = now.Add(time.Duration(r.IntN(60)) * time.Millisecond)
					k := keyOf(typ, r.IntN(900))
					switch n := r.IntN(200); {
					case n == 0:
						s.Deltas(note)
					case n == 1 && r.IntN(3) == 0:
						taken = s.Snapshot()
						j.begun, j.whole = len(j.deltas), false
						s.Deltas(note)
					case n < 12 && taken != nil:
						if !taken.Next(note) {
							taken, j.whole = nil, true
							whole++
						}
					case n < 18:
						s.Remove(k)
					case n == 18 && typ != String && r.IntN(4) == 0:
						s.RemoveBlock(Mask{24, 124}.Of(k.addr))
					default:
						s.Add(k, int64(r.IntN(5)-1), now)
					}
					if r.IntN(300) > 0 {
						continue
					}
					s.Deltas(note)
					sameSeries(t, "from the beginning", j.replay(t, s.def, false), s, now)
					if j.whole {
						sameSeries(t, "from the snapshot", j.replay(t, s.def, true), s, now)
					}
				}
				if whole == 0 {
					t.Error("no snapshot came to its end")
				}
			})
		}
	}
}

// keyOf is one of the keys of a type, some of which are neighbours.
func keyOf(typ Type, i int) Key {
	n := uint32(i/9*0x00630000 + i%9*7)
	b := [16]byte{0x20, 1, byte(n >> 24), byte(n >> 16), byte(n >> 8), 15: byte(n)}
	switch {
	case typ == String:
		return TextKey("user" + strconv.Itoa(i))
	case typ == CIDR6, typ == IP && i%2 == 0:
		return AddrKey(netip.AddrFrom16(b))
	}
	return AddrKey(netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}))
}

// sameSeries compares everything that can be asked of two series.
func sameSeries(t *testing.T, what string, got, want *Series, now time.Time) {
	t.Helper()
	for i := range 900 {
		k := keyOf(want.def.Type, i)
		for _, m := range []Mask{Host, {28, 120}, {24, 64}, {8, 16}, {}} {
			g, _ := got.Counts(nil, k, m, now)
			w, _ := want.Counts(nil, k, m, now)
			if !slices.Equal(g, w) {
				t.Fatalf("%s: %s under %v: %v, want %v", what, k, m, g, w)
			}
		}
	}
}

// A snapshot tells what evicted keys have left to networks, also of those that are
// evicted while it is taken: everything counts what
// it did, and no network more than there was.
func TestASnapshotAmongEvictions(t *testing.T) {
	for _, while := range []bool{false, true} {
		s, all := bounded(t, IP, 3, 2000), define(t, IP, time.Minute, 3)
		s.Follow()
		now := at("10:00:00")
		r := rand.New(rand.NewPCG(1, 2))
		flood := func(n int) {
			for range n {
				k, n := numbered(r.IntN(60_000), true), int64(1+r.IntN(3))
				s.Add(k, n, now)
				all.Add(k, n, now)
			}
		}
		flood(20_000)
		now = now.Add(time.Minute)
		flood(20_000)
		var j journal
		note := func(d Delta) { j.deltas = append(j.deltas, stamped{d, now}) }
		taken := s.Snapshot()
		for taken.Next(note) {
			if while {
				flood(100)
			}
		}
		s.Deltas(note)
		got := j.replay(t, s.def, true)
		for _, k := range []Key{numbered(0, true)} {
			g, _ := got.Counts(nil, k, Mask{}, now)
			w, _ := s.Counts(nil, k, Mask{}, now)
			if !slices.Equal(g, w) {
				t.Errorf("everything of %s counts %v, want %v", k, g, w)
			}
		}
		kept := 0
		for block, w := range s.Blocks(Mask{8, 32}, now) {
			g, _ := got.Counts(nil, AddrKey(block.Addr()), Mask{8, 32}, now)
			if was := all.Count(AddrKey(block.Addr()), Mask{8, 32}, 0, 2, now); sum(g) > was {
				t.Errorf("%s counts %d, and there were %d", block, sum(g), was)
			}
			if sum(g) == sum(w) {
				kept++
			}
		}
		if kept == 0 {
			t.Error("no network counts what it did")
		}
	}
}

// Of adds that nobody asks for no more is kept than there are keys.
func TestWhatIsNotAskedForIsBounded(t *testing.T) {
	s := define(t, String, time.Minute, 2)
	s.Follow()
	now := at("10:00:00")
	const keys, adds = 128, 20 * patience
	for i := range adds {
		s.Add(TextKey(strconv.Itoa(i%keys)), 1, now)
	}
	kept := 0
	for _, tree := range s.trees {
		kept += cap(tree.pending.list)
	}
	if kept > 2*patience*len(s.trees) {
		t.Errorf("%d adjustments of %d keys are kept", kept, keys)
	}
	got := define(t, String, time.Minute, 2)
	s.Deltas(func(d Delta) { got.Merge(d, now) })
	for i := range keys {
		if n := got.Count(TextKey(strconv.Itoa(i)), Mask{}, 0, 0, now); n != adds/keys {
			t.Errorf("%d counts %d, want %d", i, n, adds/keys)
		}
	}
}

// Who no longer follows is told nothing, and nothing is kept for him.
func TestUnfollow(t *testing.T) {
	s := define(t, IP, time.Minute, 2)
	s.Follow()
	s.Add(key("192.0.2.1"), 1, at("10:00:00"))
	s.Unfollow()
	s.Add(key("192.0.2.1"), 1, at("10:00:00"))
	s.Follow()
	s.Deltas(func(d Delta) { t.Errorf("told: %+v", d) })
}

// What is merged is not told again, and takes part in no window that has left.
func TestMergeIntoASeries(t *testing.T) {
	now := at("10:10:30")
	for _, row := range []struct {
		what  string
		delta Delta
		want  bool
	}{
		{"an amount", Delta{Key: key("192.0.2.1"), Bits: 32, Start: at("10:10:00").Unix(), Amount: 3}, true},
		{"nothing", Delta{Key: key("192.0.2.1"), Bits: 32, Start: at("10:10:00").Unix()}, false},
		{"the oldest window", Delta{Key: key("192.0.2.1"), Bits: 32, Start: at("10:08:00").Unix(), Amount: 3}, true},
		{"one that has left", Delta{Key: key("192.0.2.1"), Bits: 32, Start: at("10:07:00").Unix(), Amount: 3}, false},
		{"the next", Delta{Key: key("192.0.2.1"), Bits: 32, Start: at("10:11:00").Unix(), Amount: 3}, true},
		{"one to come", Delta{Key: key("192.0.2.1"), Bits: 32, Start: at("10:12:00").Unix(), Amount: 3}, false},
		{"a text", Delta{Key: TextKey("a"), Start: at("10:10:00").Unix(), Amount: 3}, false},
		{"a block", Delta{Key: key("192.0.2.0"), Bits: 24, Start: at("10:10:00").Unix(), Amount: 3}, true},
	} {
		s := define(t, IP, time.Minute, 3)
		s.Follow()
		if got := s.Merge(row.delta, now); got != row.want {
			t.Errorf("%s: %v", row.what, got)
		}
		want := int64(0)
		if row.want {
			want = 3
		}
		if got := s.Count(key("192.0.2.9"), Mask{}, 0, 2, now); got != want {
			t.Errorf("%s: everything counts %d, want %d", row.what, got, want)
		}
		s.Deltas(func(d Delta) { t.Errorf("%s: told again: %+v", row.what, d) })
	}
}

// A distinct series is given again by what it tells, as any other is.
func TestWhatIsToldGivesDifferentValuesAgain(t *testing.T) {
	for seed := range uint64(6) {
		r := rand.New(rand.NewPCG(seed, 9))
		def := Definition{Type: IP, Interval: time.Minute, Windows: 4}
		masks := []Mask{{24, 64}}
		d := defineDistinct(t, def, masks...)
		d.Follow()
		var all, newest []stamped
		var taken Snapshot
		now := at("10:00:00")
		whole := false
		note := func(delta Delta) {
			all, newest = append(all, stamped{delta, now}), append(newest, stamped{delta, now})
		}
		for range 6000 {
			now = now.Add(time.Duration(r.IntN(60)) * time.Millisecond)
			k := numbered(r.IntN(9)*50, false)
			switch n := r.IntN(100); {
			case n == 0:
				d.Deltas(note)
			case n == 1 && taken == nil:
				taken, newest, whole = d.Snapshot(), nil, false
			case n == 2:
				d.Remove(k)
			case n < 8 && taken != nil:
				if !taken.Next(note) {
					taken, whole = nil, true
				}
			default:
				d.Add(k, strconv.Itoa(r.IntN(100)), now)
			}
			if r.IntN(500) > 0 {
				continue
			}
			d.Deltas(note)
			sameCounts(t, "from the beginning", merged(t, def, masks, all, Newer), d, now)
			if whole {
				sameCounts(t, "from the snapshot", merged(t, def, masks, newest, Older), d, now)
			}
		}
	}
}

// merged is the series that deltas give, without those that are for another one.
func merged(t *testing.T, def Definition, masks []Mask, deltas []stamped, not For) *Distinct {
	d := defineDistinct(t, def, masks...)
	for _, delta := range deltas {
		if delta.For != not {
			d.Merge(delta.Delta, delta.now)
		}
	}
	return d
}

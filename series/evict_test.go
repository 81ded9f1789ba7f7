package series

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/audit-milter/audit-milter/internal/short"
)

func bounded(t testing.TB, typ Type, windows, maxKeys int) *Series {
	t.Helper()
	s, err := Define(Definition{Name: "bounded", Type: typ, Interval: time.Minute, Windows: windows, MaxKeys: maxKeys})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// floods are rows of different keys, from which offenders are told apart by
// their numbers being below zero.
var floods = []struct {
	name string
	typ  Type
	mask uint8 // of the smallest block that all keys are in
	key  func(i int) Key
}{
	{"IPv4 addresses from everywhere", CIDR, 0, func(i int) Key { return numbered(i, true) }},
	{"IPv4 addresses in a row inside one /8", CIDR, 8, func(i int) Key { return numbered(10<<24+i, false) }},
	{"IPv6 addresses inside one /16", IP, 16, func(i int) Key { return inside16(i, mix(i)) }},
	{"IPv6 addresses inside one /64", CIDR6, 64, func(i int) Key {
		b := [16]byte{0x20, 0x01, 0x0d, 0xb8}
		binary.BigEndian.PutUint32(b[12:], mix(i))
		return AddrKey(netip.AddrFrom16(b))
	}},
	{"IPv6 addresses in a row inside one /16", CIDR6, 16, func(i int) Key { return inside16(0, uint32(i)<<8) }},
	{"texts", String, 0, func(i int) Key { return TextKey(fmt.Sprint("user", i, "@example.com")) }},
}

// inside16 is an address in a /64 of its own inside 2001::/16.
func inside16(i int, spread uint32) Key {
	b := [16]byte{0x20, 0x01, 15: byte(i)}
	binary.BigEndian.PutUint32(b[2:], spread)
	return AddrKey(netip.AddrFrom16(b))
}

const offenders = 100

// flood counts new keys, n of them, and offenders in between: each of those once
// for a tenth of the keys that the series may have.
func flood(s *Series, key func(i int) Key, n int, now time.Time) (perOffender int64) {
	gap := s.def.MaxKeys / 10
	for i := range n {
		s.Add(key(offenders+i), 1, now)
		if i*offenders/gap != (i+1)*offenders/gap {
			for o := i * offenders / gap; o < (i+1)*offenders/gap; o++ {
				s.Add(key(o%offenders), 1, now)
			}
		}
	}
	return int64(n / gap)
}

// checkFlood looks at what must be exact after a flood in one window.
func checkFlood(t testing.TB, s *Series, key func(i int) Key, mask uint8, n int, each int64, now time.Time) {
	t.Helper()
	if s.Len() > s.def.MaxKeys {
		t.Errorf("%d keys; there may be %d", s.Len(), s.def.MaxKeys)
	}
	for o := range offenders {
		if got := s.Count(key(o), Host, 0, 0, now); got != each {
			t.Errorf("offender %v: %d; want %d", key(o), got, each)
		}
	}
	for bits := range mask + 1 {
		if got, want := s.Count(key(0), Mask{bits, bits}, 0, 0, now), int64(n)+offenders*each; got != want && s.texts == nil {
			t.Errorf("/%d: %d; want %d", bits, got, want)
		}
	}
}

func TestOffendersOutlastAFlood(t *testing.T) {
	n, maxKeys := short.Part(200_000, 20_000), short.Part(10_000, 1000)
	for _, f := range floods {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			s := bounded(t, f.typ, 6, maxKeys)
			now := at("10:00:00")
			each := flood(s, f.key, n, now)
			checkFlood(t, s, f.key, f.mask, n, each, now)
			checkStructure(t, s)
			var evicted Evicted
			for _, e := range s.Evictions() {
				evicted.Keys += e.Keys
				evicted.Amount += e.Amount
			}
			if gone := n + offenders - s.Len(); evicted.Keys != uint64(gone) || evicted.Amount != int64(gone) {
				t.Errorf("%+v evicted; %d are gone", evicted, gone)
			}
			if again := s.Evictions(); again != nil {
				t.Errorf("%+v told twice", again)
			}
			if all := s.Stats().Evicted; all != evicted.Keys {
				t.Errorf("%d evicted in all, %d told", all, evicted.Keys)
			}
		})
	}
}

// What was evicted still counts in every block that holds it whole, and says
// which those are.
func TestEvictedKeysFoldIntoNetworks(t *testing.T) {
	const maxKeys = 4000
	s := bounded(t, CIDR, 3, maxKeys)
	now, r := at("10:00:00"), rand.New(rand.NewPCG(1, 2))
	all := map[uint8]map[netip.Prefix]int64{0: {}, 4: {}, 8: {}, 12: {}, 16: {}, 20: {}, 24: {}, 28: {}, 32: {}}
	for range 50_000 {
		k := numbered(int(r.Int64N(1<<(8+r.IntN(24)))), false)
		s.Add(k, 1, now)
		for bits, blocks := range all {
			blocks[Mask{bits, 0}.Of(k.addr)]++
		}
	}
	folded := map[uint8]int64{}
	for _, e := range s.Evictions() {
		if e.IPv6 || e.Bits%slotBits != 0 || int64(e.Keys) > e.Amount {
			t.Errorf("evicted: %+v", e)
		}
		folded[uint8(e.Bits)] += e.Amount
	}
	for bits, blocks := range all {
		var sum, lost int64
		for block, n := range blocks {
			got := s.Count(AddrKey(block.Addr()), Mask{bits, 0}, 0, 2, now)
			if got > n || got < 0 {
				t.Errorf("%v: %d; there were %d", block, got, n)
			}
			sum += got
		}
		for into, amount := range folded {
			if into < bits {
				lost += amount
			}
		}
		// A network that the series held when a key was folded into it may
		// have folded into a larger one since.
		if sum > 50_000-lost || bits == 0 && sum != 50_000 || bits == 32 && lost == 0 {
			t.Errorf("/%d: %d counted in all blocks, at most %d are there", bits, sum, 50_000-lost)
		}
	}
	checkStructure(t, s)
}

// oneTree is a series whose keys are all in one tree.
func oneTree(t *testing.T, maxKeys int) *Series {
	s := bounded(t, CIDR, 3, maxKeys)
	if len(s.trees) != 1 {
		t.Fatalf("%d trees", len(s.trees))
	}
	return s
}

// mixed is the i-th of a hundred addresses, whose neighbours are far away in the
// row.
func mixed(i int) Key { return numbered(i*37%100, false) }

// kept is how many of them count.
func kept(s *Series, from, to int, now time.Time) (n int) {
	for i := from; i < to; i++ {
		if s.Count(mixed(i), Host, 0, 2, now) != 0 {
			n++
		}
	}
	return n
}

func TestWhichKeysGo(t *testing.T) {
	tests := []struct {
		name  string
		stay  int                                      // so many of the keys 0 to 49 at least
		count func(s *Series, now time.Time) time.Time // the keys 0 to 99
	}{
		{"the small ones", 50, func(s *Series, now time.Time) time.Time {
			for i := range 100 {
				s.Add(mixed(i), int64(1+i/50), now)
				if i < 50 {
					s.Add(mixed(i), 9, now)
				}
			}
			return now
		}},
		{"of equal ones those that were counted long ago", 40, func(s *Series, now time.Time) time.Time {
			for i := 99; i >= 0; i-- {
				s.Add(mixed(i), 1, now)
			}
			return now
		}},
		{"the empty ones, before much smaller ones", 50, func(s *Series, now time.Time) time.Time {
			for i := 50; i < 100; i++ {
				s.Add(mixed(i), 1000, now)
			}
			now = now.Add(4 * time.Minute)
			for i := range 50 {
				s.Add(mixed(i), 1, now)
			}
			return now
		}},
	}
	for _, test := range tests {
		s := oneTree(t, 100)
		now := test.count(s, at("10:00:00"))
		for i := range 40 {
			s.Add(numbered(1000+i, false), 1, now)
		}
		if stayed := kept(s, 0, 50, now); stayed < test.stay {
			t.Errorf("%s: %d of 50 that should stay have stayed, and %d of those that should go", test.name, stayed, kept(s, 50, 100, now))
		}
		if s.Len() > 100 {
			t.Errorf("%s: %d keys", test.name, s.Len())
		}
	}
}

// A key that comes again and again gets in, though all that are there are larger
// than it is at first.
func TestANewOffenderGetsIn(t *testing.T) {
	s := oneTree(t, 1000)
	now := at("10:00:00")
	for i := range 1000 {
		s.Add(numbered(i, false), 50, now)
	}
	newcomer := numbered(1<<20, false)
	for i := range 2000 {
		s.Add(newcomer, 1, now)
		s.Add(numbered(1<<16+i, false), 1, now)
	}
	if got := s.Count(newcomer, Host, 0, 0, now); got < 1990 {
		t.Errorf("%d of 2000 are counted", got)
	}
	old := 0
	for i := range 1000 {
		old += int(s.Count(numbered(i, false), Host, 0, 0, now) / 50)
	}
	if old < 500 {
		t.Errorf("of 1000 keys of 50 each only %d stayed, when smaller ones came", old)
	}
}

// So does one where hardly any key is: of a family that was not seen before, or in a
// part of the addresses whose keys have all expired. No key there is looked for among
// the places that those have left, and thrown out as the only one.
func TestANewOffenderGetsInWhereFewAre(t *testing.T) {
	const maxKeys = 20_000
	apart := func(s *Series, i int) Key { // IPv4, in other trees than 10.0.0.0/8
		for net := i * 7 % 224; ; net = (net + 1) % 224 {
			k := numbered(net<<24+int(mix(i)>>8), false)
			if s.ipv4.shard(s.address(k)) != s.ipv4.shard(s.address(key("10.0.0.1"))) {
				return k
			}
		}
	}
	for _, test := range []struct {
		name     string
		typ      Type
		expired  int // keys in 10.0.0.0/8 that have left
		newcomer Key
		other    func(i int) Key // others that are new, beside it
	}{
		{"another family", IP, 0, key("2001:db8::1"), func(i int) Key { return inside16(0, uint32(i)<<8) }},
		{"where all have expired", CIDR, maxKeys, key("10.0.0.1"), func(i int) Key { return numbered(10<<24+int(mix(i)>>8), false) }},
	} {
		s := bounded(t, test.typ, 2, maxKeys)
		now := at("10:00:00")
		for i := range test.expired {
			s.Add(numbered(10<<24+int(mix(i)>>8), false), 1, now)
		}
		now = now.Add(5 * time.Minute)
		for i := 0; i < 2*maxKeys || s.Len() < maxKeys; i++ {
			s.Add(apart(s, i), 50, now)
		}
		const n = 2000
		for i := range n {
			s.Add(test.newcomer, 1, now)
			s.Add(test.other(1<<20+i), 1, now)
		}
		if got := s.Count(test.newcomer, Host, 0, 0, now); got < n*99/100 {
			t.Errorf("%s: %d of %d are counted", test.name, got, n)
		}
		checkStructure(t, s)
	}
}

func TestOneKeyAtATime(t *testing.T) {
	for _, typ := range []Type{IP, String} {
		s := bounded(t, typ, 2, 1)
		now := at("10:00:00")
		for i := range 100 {
			k := numbered(i, true)
			if typ == String {
				k = TextKey(fmt.Sprint(i))
			}
			s.Add(k, 1, now)
			if s.Len() != 1 {
				t.Fatalf("%v: %d keys after %d", typ, s.Len(), i+1)
			}
		}
		checkStructure(t, s)
	}
}

// A flood inside one network is exact there, whatever else is counted.
func TestAFloodInsideANetwork(t *testing.T) {
	s := bounded(t, CIDR6, 6, 10_000)
	now := at("10:00:00")
	for i := range 2000 {
		s.Add(inside16(i, mix(i)), 1, now)
	}
	const n = 200_000
	for i := range n {
		b := [16]byte{0x20, 0x01, 0x0d, 0xb8, 1, 2, 3, 4}
		binary.BigEndian.PutUint32(b[12:], uint32(i))
		s.Add(AddrKey(netip.AddrFrom16(b)), 1, now)
	}
	k := key("2001:db8:102:304::1")
	if got := s.Count(k, Mask{0, 64}, 0, 5, now); got != n {
		t.Errorf("the /64: %d; want %d", got, n)
	}
	if got := s.Count(k, Mask{0, 16}, 0, 5, now); got != n+2000 {
		t.Errorf("the /16: %d; want %d", got, n+2000)
	}
	checkStructure(t, s)
}

// So it is where few keys are kept, of which most are in one small network: what those
// outside it have left is in the network of all.
func TestAFloodAroundASmallNetwork(t *testing.T) {
	for seed := range uint64(20) {
		s, r := bounded(t, CIDR, 3, 100), rand.New(rand.NewPCG(seed, 4))
		now := at("10:00:00")
		for n := range int64(2000) {
			i := 10 << 24
			if r.IntN(8) > 0 {
				i += r.IntN(1 << 8)
			} else {
				i += r.IntN(1 << 25)
			}
			s.Add(numbered(i, false), 1, now)
			for bits := range uint8(5) {
				if got := s.Count(key("10.0.0.0"), Mask{bits, 0}, 0, 0, now); got != n+1 {
					t.Fatalf("seed %d: /%d counts %d; want %d", seed, bits, got, n+1)
				}
			}
		}
		checkStructure(t, s)
	}
}

// What is worth keeping stays wherever it lies and though it comes no more: a
// hundred thousand events long ago are more than one just now.
func TestLargeKeysStay(t *testing.T) {
	in10 := func(i int) Key { return numbered(10<<24+int(mix(i)>>8), false) }
	anywhere := func(i int) Key { return numbered(i, true) }
	tests := []struct {
		name           string
		maxKeys, large int
		key            func(i int) Key
		stay           int // of the large ones at least
	}{
		{"anywhere", 10_000, 5000, anywhere, 5000},
		{"all in one /8", 10_000, 5000, in10, 4900},
		{"few, all in one /8", 10_000, 100, in10, 100},
		{"in one tree with all others", 1000, 100, in10, 100},
	}
	for _, test := range tests[short.Part(0, 3):] {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := bounded(t, CIDR, 6, test.maxKeys)
			now := at("10:00:00")
			for i := range test.large {
				s.Add(test.key(i), 100_000, now)
			}
			busy := func(i int) Key { return anywhere(1<<28 + i) }
			for i := range 10 * test.maxKeys {
				s.Add(anywhere(1<<20+i), 1, now)
				s.Add(busy(i%(test.maxKeys/10)), 1, now) // small keys that are never old
			}
			stayed := 0
			for i := range test.large {
				if s.Count(test.key(i), Host, 0, 0, now) >= 100_000 {
					stayed++
				}
			}
			if stayed < test.stay {
				t.Errorf("%d of %d stayed", stayed, test.large)
			}
		})
	}
}

// Texts of one length leave room for those of any other.
func TestTextsOfChangingLengths(t *testing.T) {
	const maxKeys = 2000
	s := bounded(t, String, 2, maxKeys)
	now, long := at("10:00:00"), strings.Repeat("x", maxText)
	most := 0
	for length := maxText; length > 8; length -= 10 {
		for i := range 3 * maxKeys {
			text := fmt.Sprint(i, "-", length, "-")
			s.Add(TextKey(text+long[:max(0, length-len(text))]), 1, now)
		}
		cells := 0
		for _, t := range s.trees {
			cells += int(t.leaves.texts.used)
		}
		if most == 0 {
			most = cells
		}
		if cells > most*11/10 {
			t.Fatalf("%d cells at a length of %d; %d were enough for the longest", cells, length, most)
		}
	}
	checkStructure(t, s)
}

// Many sessions add new keys at the same time; everything is still exact.
func TestManySessionsInAFlood(t *testing.T) {
	s := bounded(t, IP, 6, 5000)
	now := at("10:00:00")
	var wg sync.WaitGroup
	for session := range 8 {
		wg.Go(func() {
			for i := range 20_000 {
				n := session*20_000 + i
				if k := numbered(n, true); n%2 == 0 {
					s.Add(k, 1, now)
				} else {
					s.Add(inside16(n, mix(n)), 1, now)
				}
				s.Count(numbered(n/2, true), Mask{8, 16}, 0, 5, now)
			}
		})
	}
	wg.Wait()
	for _, k := range []Key{numbered(0, true), inside16(0, 0)} {
		if got := s.Count(k, Mask{}, 0, 5, now); got != 80_000 {
			t.Errorf("all like %v: %d; want 80000", k, got)
		}
	}
	if s.Len() > 5000 {
		t.Errorf("%d keys", s.Len())
	}
	checkStructure(t, s)
}

// BenchmarkFlood is an add of a key that was never seen, to a series that is
// full; run it with -benchtime 100000000x for a flood of a hundred million. It
// fails if any of a hundred offenders, or a block that holds all, is not exact.
// Compare it with BenchmarkAddNew, which adds new keys while there is room.
func BenchmarkFlood(b *testing.B) {
	for _, i := range []int{0, 2, len(floods) - 1} {
		f := floods[i]
		b.Run(f.name, func(b *testing.B) {
			s := bounded(b, f.typ, 6, DefaultMaxKeys)
			for j := range DefaultMaxKeys {
				s.Add(f.key(offenders+b.N+j), 1, benchTime)
			}
			before := heap()
			b.ResetTimer()
			each := flood(s, f.key, b.N, benchTime)
			b.StopTimer()
			b.ReportMetric(float64(heap())/float64(max(before, 1)), "heap-ratio")
			b.ReportMetric(float64(heap())/1e6, "heap-MB")
			b.ReportMetric(float64(each), "events/offender")
			checkFlood(b, s, f.key, f.mask, b.N+DefaultMaxKeys, each, benchTime)
			runtime.KeepAlive(s)
		})
	}
}

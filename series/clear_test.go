package series

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/audit-milter/audit-milter/internal/short"
)

// Removing any block leaves nothing of it and everything else, evicted keys or not.
func TestRemovingBlocks(t *testing.T) {
	for _, f := range floods {
		if f.typ == String {
			continue
		}
		for _, maxKeys := range []int{200, 3000, DefaultMaxKeys} {
			t.Run(fmt.Sprint(f.name, " ", maxKeys), func(t *testing.T) {
				t.Parallel()
				s := bounded(t, f.typ, 3, maxKeys)
				r := rand.New(rand.NewPCG(2, uint64(maxKeys)))
				now := at("10:00:00")
				for round := range short.Part(60, 12) { // each of the bits below at least once
					for range 400 {
						now = now.Add(20 * time.Millisecond)
						s.Add(f.key(r.IntN(1<<(5+r.IntN(9)))), 1+r.Int64N(5), now)
					}
					bits := []uint8{32, 31, 28, 26, 24, 20, 18, 12, 8, 4, 2, 0}[round%12]
					if !key(f.key(0).String()).addr.Is4() {
						bits = []uint8{128, 124, 110, 96, 64, 48, 44, 32, 21, 16, 3, 0}[round%12]
					}
					removeBlock(t, s, f.key(r.IntN(1<<12)), bits, now)
				}
			})
		}
	}
}

// removeBlock removes the block of k and compares all that was counted before.
func removeBlock(t *testing.T, s *Series, k Key, bits uint8, now time.Time) {
	t.Helper()
	block := Mask{bits, bits}.Of(k.addr)
	keys, counts := walked(t, s.All(now))
	within, _ := walked(t, s.Within(block, now))
	larger := make([][]int64, bits+1)
	for b := range larger {
		larger[b] = countsOf(s, k, Mask{uint8(b), uint8(b)}, now)
	}
	if got := s.RemoveBlock(block); got != len(within) {
		t.Fatalf("%v: %d keys are removed; there were %d", block, got, len(within))
	}
	for b, was := range larger {
		want := slices.Clone(was)
		for w := range want {
			want[w] -= larger[bits][w]
		}
		// When a node leaves with its last key, what others left to it goes to larger ones.
		got := countsOf(s, k, Mask{uint8(b), uint8(b)}, now)
		if exact := s.Stats().Evicted == 0 || b == 0 || b == int(bits); exact && !slices.Equal(got, want) || slices.Compare(got, want) > 0 {
			t.Fatalf("%v is removed; its /%d counts %d, it was %d and should be %d", block, b, got, was, want)
		}
	}
	for _, k := range keys {
		want := counts[k]
		if block.Contains(k.addr) {
			want = make([]int64, len(want))
		}
		if got := countsOf(s, k, Host, now); !slices.Equal(got, want) {
			t.Fatalf("%v is removed; %v counts %d, want %d", block, k, got, want)
		}
	}
	checkStructure(t, s)
}

func TestRemovingWhatIsNotThere(t *testing.T) {
	s, texts := bounded(t, IP, 2, 100), bounded(t, String, 2, 100)
	now := at("10:00:00")
	s.Add(key("192.0.2.1"), 1, now)
	s.Add(key("192.0.2.2"), 1, now)
	texts.Add(key("user"), 1, now)
	for _, block := range []string{"192.0.3.0/24", "::/0", "::ffff:192.0.2.0/120", "192.0.2.3/32"} {
		if got := s.RemoveBlock(netip.MustParsePrefix(block)); got != 0 {
			t.Errorf("%s: %d keys are removed", block, got)
		}
	}
	if got := texts.RemoveBlock(netip.MustParsePrefix("0.0.0.0/0")); got != 0 || texts.Len() != 1 {
		t.Errorf("%d texts are removed", got)
	}
	if s.Count(key("192.0.2.1"), Mask{}, 0, 1, now) != 2 {
		t.Error("what was not removed is gone")
	}
	s.Add(key("192.0.2.2"), 0, now.Add(3*time.Minute))
	s.Count(key("192.0.2.2"), Host, 0, 0, now.Add(3*time.Minute))
	if got := s.RemoveBlock(netip.MustParsePrefix("0.0.0.0/0")); got != 0 || s.Len() != 0 {
		t.Errorf("%d expired keys are removed, %d are left", got, s.Len())
	}
}

// A block is removed while sessions add inside and outside of it.
func TestRemovingABlockAmongSessions(t *testing.T) {
	s := bounded(t, CIDR, 2, DefaultMaxKeys)
	now := at("10:00:00")
	block := netip.MustParsePrefix("10.0.0.0/9")
	for i := range 20_000 {
		s.Add(numbered(10<<24+i<<7, false), 1, now)
	}
	var sessions sync.WaitGroup
	for session := range 4 {
		sessions.Go(func() {
			for i := range 5000 {
				s.Add(numbered(10<<24+(i*4+session)<<10, false), 1, now)
			}
		})
	}
	for range 5 {
		s.RemoveBlock(block)
	}
	sessions.Wait()
	s.RemoveBlock(block)
	const want = 1 << 13 // a half of the /8 in steps of 1<<10
	if got := s.Count(key("10.0.0.1"), Mask{IPv4: 9}, 0, 1, now); got != 0 {
		t.Errorf("%v counts %d", block, got)
	}
	if got := s.Count(key("10.0.0.1"), Mask{IPv4: 8}, 0, 1, now); got != want {
		t.Errorf("the /8 counts %d; want %d", got, want)
	}
	checkStructure(t, s)
}

// BenchmarkRemoveBlock removes a million keys.
func BenchmarkRemoveBlock(b *testing.B) {
	keys := benchmarkKeys(0)
	for range b.N {
		b.StopTimer()
		s := filled(b, CIDR, 6, keys)
		b.StartTimer()
		if got := s.RemoveBlock(netip.MustParsePrefix("0.0.0.0/0")); got != len(keys) {
			b.Fatalf("%d keys are removed", got)
		}
	}
}

package series

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/audit-milter/audit-milter/internal/short"
)

// walked is what a walk yields; nothing may come twice.
func walked[K comparable](t testing.TB, walk func(func(K, []int64) bool)) (order []K, counts map[K][]int64) {
	t.Helper()
	counts = map[K][]int64{}
	for k, c := range walk {
		if counts[k] != nil {
			t.Fatalf("%v comes twice", k)
		}
		order, counts[k] = append(order, k), slices.Clone(c)
	}
	return order, counts
}

// checkWalks compares walks with the counts of all keys that may be there.
func checkWalks(t testing.TB, s *Series, m Mask, may []Key, now time.Time) {
	t.Helper()
	keys, counts := walked(t, s.All(now))
	blocks, sums := walked(t, s.Blocks(m, now))
	if s.texts == nil && !slices.IsSortedFunc(keys, func(a, b Key) int { return a.addr.Compare(b.addr) }) {
		t.Fatalf("keys are not in order: %v", keys)
	}
	if !slices.IsSortedFunc(blocks, func(a, b netip.Prefix) int { return a.Addr().Compare(b.Addr()) }) {
		t.Fatalf("blocks are not in order: %v", blocks)
	}
	for _, k := range slices.Concat(may, keys) {
		checkWalk(t, fmt.Sprint(k), counts[k], s, k, Host, now)
		if k.addr.IsValid() {
			checkWalk(t, m.Of(k.addr).String(), sums[m.Of(k.addr)], s, k, m, now)
		}
	}
	checkParts(t, s, Host, counts, now, func(k Key) Key { return k })
	if s.texts == nil {
		checkParts(t, s, m, sums, now, func(k Key) netip.Prefix { return m.Of(k.addr) })
	}
	for i, p := range blocks {
		checkWalk(t, p.String(), sums[p], s, AddrKey(p.Addr()), m, now)
		if i%(1+len(blocks)/4) > 0 {
			continue
		}
		within, _ := walked(t, s.Within(p, now))
		if want := slices.DeleteFunc(slices.Clone(keys), func(k Key) bool { return !p.Contains(k.addr) }); !slices.Equal(within, want) {
			t.Fatalf("within %v: %v; want %v", p, within, want)
		}
	}
}

// checkParts compares all parts together with a walk through the same.
func checkParts[K comparable](t testing.TB, s *Series, m Mask, want map[K][]int64, now time.Time, of func(Key) K) {
	t.Helper()
	_, got := walked(t, func(yield func(K, []int64) bool) {
		for _, part := range s.Parts(m, now) {
			for k, counts := range part {
				if !yield(of(k), counts) {
					return
				}
			}
		}
	})
	if !maps.EqualFunc(got, want, slices.Equal) {
		t.Fatalf("parts yield %v; want %v", got, want)
	}
}

// checkWalk compares what a walk yielded for a key or a block, nil for nothing.
func checkWalk(t testing.TB, name string, got []int64, s *Series, k Key, m Mask, now time.Time) {
	t.Helper()
	want := countsOf(s, k, m, now)
	if !slices.ContainsFunc(want, isCount) {
		want = nil
	}
	if !slices.Equal(got, want) {
		t.Fatalf("%s: %d; want %d", name, got, want)
	}
}

// Every mask gives the networks that Counts knows, evicted keys or not.
func TestWalksAgreeWithCounts(t *testing.T) {
	floods := append(floods, floods[0])
	both := &floods[len(floods)-1]
	both.name, both.typ = "both families", IP
	masks := []Mask{{0, 0}, {1, 1}, {4, 4}, {6, 16}, {7, 20}, {8, 23}, {9, 24}, {12, 25}, {16, 32}, {19, 48}, {20, 64}, {24, 105}, {27, 108}, {32, 128}}
	for _, f := range floods {
		for _, maxKeys := range []int{300, 3000, DefaultMaxKeys}[:short.Part(3, 1)] {
			t.Run(fmt.Sprint(f.name, " ", maxKeys), func(t *testing.T) {
				t.Parallel()
				s := bounded(t, f.typ, 3, maxKeys)
				r := rand.New(rand.NewPCG(1, uint64(maxKeys)))
				now := at("10:00:00")
				var may []Key
				for i := range 2000 {
					k := f.key(r.IntN(1 << (4 + i/150)))
					if i%2 > 0 && f.typ == IP {
						k = inside16(i, mix(i))
					}
					now = now.Add(30 * time.Millisecond)
					s.Add(k, r.Int64N(20)-3, now)
					may = append(may, k)
				}
				for _, m := range masks {
					checkWalks(t, s, m, may, now)
				}
			})
		}
	}
}

func TestAWalkEndsWhenItIsToldTo(t *testing.T) {
	s := bounded(t, IP, 1, DefaultMaxKeys)
	now := at("10:00:00")
	for i := range 1000 {
		s.Add(numbered(i, true), 1, now)
		s.Add(inside16(i, mix(i)), 1, now)
	}
	for name, walk := range map[string]func(yield func() bool){
		"All": func(yield func() bool) { s.All(now)(func(Key, []int64) bool { return yield() }) },
		"Within": func(yield func() bool) {
			s.Within(netip.MustParsePrefix("::/0"), now)(func(Key, []int64) bool { return yield() })
		},
		"Blocks": func(yield func() bool) {
			s.Blocks(Mask{8, 32}, now)(func(netip.Prefix, []int64) bool { return yield() })
		},
	} {
		n := 0
		for range walk {
			if n++; n == 7 {
				break
			}
		}
		if n != 7 {
			t.Errorf("%s: %d", name, n)
		}
	}
}

// A walk shows the windows of its beginning, though some end before it does.
func TestAWalkWhileWindowsEnd(t *testing.T) {
	s := bounded(t, CIDR, 3, DefaultMaxKeys)
	now := at("10:00:00")
	for i := range 1000 {
		s.Add(numbered(i<<16, false), 1, now)
	}
	now = now.Add(time.Minute)
	seen := 0
	for k, counts := range s.All(now) {
		if seen++; seen == 1 {
			s.Add(key("255.0.0.1"), 5, now.Add(time.Minute))
		}
		if want := []int64{0, 1, 0}; !slices.Equal(counts, want) {
			t.Errorf("%v: %d; want %d", k, counts, want)
		}
	}
	if seen != 1000 {
		t.Errorf("%d keys; want 1000", seen)
	}
}

func TestWhatNoWalkFinds(t *testing.T) {
	s := bounded(t, IP, 2, DefaultMaxKeys)
	texts := bounded(t, String, 2, DefaultMaxKeys)
	now := at("10:00:00")
	s.Add(key("192.0.2.1"), 1, now)
	texts.Add(key("user"), 1, now)
	for name, keys := range map[string]func(func(Key, []int64) bool){
		"no address":                     s.Within(netip.Prefix{}, now),
		"another network":                s.Within(netip.MustParsePrefix("192.0.3.0/24"), now),
		"an IPv4-mapped one":             s.Within(netip.MustParsePrefix("::ffff:192.0.2.1/128"), now),
		"a network in a series of texts": texts.Within(netip.MustParsePrefix("0.0.0.0/0"), now),
		"what has expired":               s.All(now.Add(2 * time.Minute)),
	} {
		if got, _ := walked(t, keys); got != nil {
			t.Errorf("%s: %v", name, got)
		}
	}
	if got, _ := walked(t, texts.Blocks(Host, now)); got != nil {
		t.Errorf("networks of texts: %v", got)
	}
}

// Keys that are there all the time come exactly once in every walk, while others
// come, go, expire and are evicted, so that leaves split and merge everywhere.
func TestWalksAmongSessions(t *testing.T) {
	const stable = 3000
	for _, f := range floods {
		t.Run(f.name, func(t *testing.T) {
			s := bounded(t, f.typ, 2, 2*stable)
			for i := range stable {
				s.Add(f.key(i), 1000, at("10:00:30"))
			}
			stop := make(chan struct{})
			var sessions sync.WaitGroup
			for session := range 3 {
				sessions.Go(func() { disturb(s, f.key, stable, session, stop) })
			}
			var walks []map[Key]int
			for range 20 {
				walks = append(walks, seenIn(s))
			}
			close(stop)
			sessions.Wait()
			for i := range stable {
				k := f.key(i)
				if s.Count(k, Host, 0, 1, at("10:01:00")) < 1000 {
					continue // it was evicted
				}
				for n, seen := range walks {
					if seen[k] != 1 {
						t.Errorf("walk %d came by %v %d times", n, k, seen[k])
					}
				}
			}
			checkStructure(t, s)
		})
	}
}

// disturb adds keys and takes them out until it is stopped.
func disturb(s *Series, key func(i int) Key, from, session int, stop <-chan struct{}) {
	for i := 0; ; i++ {
		select {
		case <-stop:
			return
		default:
		}
		n := from + i*3 + session
		s.Add(key(n), 1, at("10:00:59").Add(time.Duration(i%2)*time.Second))
		if i%3 > 0 {
			s.Remove(key(n - i/2*3))
		}
	}
}

func seenIn(s *Series) map[Key]int {
	seen := map[Key]int{}
	for k := range s.All(at("10:01:00")) {
		seen[k]++
	}
	return seen
}

// BenchmarkTop is the ten largest of a million keys, or of their networks, while
// another goroutine adds, whose waiting is told.
func BenchmarkTop(b *testing.B) {
	for i, kind := range kinds {
		keys := benchmarkKeys(i)
		s := filled(b, kind.typ, 6, keys)
		row := sample(keys, draws[1].make(1))
		b.Run(kind.name+"/keys", func(b *testing.B) {
			whileAdding(b, s, row, func() { top(s.All(benchTime)) })
		})
		for _, m := range []Mask{{32, 128}, {24, 64}, {16, 48}, {8, 32}, {4, 16}} {
			if kind.typ == String {
				break
			}
			bits := m.IPv4
			if kind.typ == CIDR6 {
				bits = m.IPv6
			}
			b.Run(fmt.Sprintf("%s/%d", kind.name, bits), func(b *testing.B) {
				whileAdding(b, s, row, func() { top(s.Blocks(m, benchTime)) })
			})
		}
	}
}

// top selects in the plainest way.
func top[K any](walk func(func(K, []int64) bool)) {
	type counted struct {
		key K
		n   int64
	}
	largest := make([]counted, 0, 11)
	for k, counts := range walk {
		var n int64
		for _, c := range counts {
			n += c
		}
		if len(largest) < 10 || n > largest[9].n {
			i, _ := slices.BinarySearchFunc(largest, n, func(c counted, n int64) int { return cmp.Compare(n, c.n) })
			largest = slices.Insert(largest, i, counted{k, n})[:min(10, len(largest)+1)]
		}
	}
}

func whileAdding(b *testing.B, s *Series, row []Key, walk func()) {
	stop, took := make(chan struct{}), make(chan []time.Duration)
	go func() {
		var all []time.Duration
		for i := 0; ; i++ {
			begin := time.Now()
			s.Add(row[i%len(row)], 1, benchTime)
			all = append(all, time.Since(begin))
			select {
			case <-stop:
				took <- all
				return
			default:
			}
		}
	}()
	for b.Loop() {
		walk()
	}
	b.StopTimer()
	close(stop)
	all := <-took
	slices.Sort(all)
	for _, q := range []struct {
		name  string
		share float64
	}{{"p50-add-ns", 0.5}, {"p99-add-ns", 0.99}, {"p99.9-add-ns", 0.999}} {
		b.ReportMetric(float64(all[int(q.share*float64(len(all)-1))]), q.name)
	}
}

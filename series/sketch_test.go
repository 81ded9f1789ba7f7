package series

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"github.com/audit-milter/audit-milter/internal/short"
)

// Nodes tell each other hashes and a restart reads them again, so they are the same
// for ever.
func TestHashesStay(t *testing.T) {
	for value, want := range map[string]uint64{
		"a":                         0x82a2a958a9bece5b,
		"192.0.2.0/24":              0xd597eae6638f46bd,
		"someone@example.com":       0xd803c1b9498533c1,
		"\u00e4 mail \x00 \xff 255": 0x1a1630b53ea7428,
	} {
		if got := hashOf(value); got != want {
			t.Errorf("%q: %#x, want %#x", value, got, want)
		}
	}
}

const trials = 1000

// within5 is how many of the estimates are within 5 % of n.
func within5(estimates []int64, n int) (good int) {
	for _, e := range estimates {
		if math.Abs(float64(e)-float64(n)) <= 0.05*float64(n) {
			good++
		}
	}
	return good
}

// Of a thousand keys, each with values of its own, 990 are counted within 5 %, in one
// window and over the union of windows that each share half of their values with the
// one before.
func TestDistinctAccuracy(t *testing.T) {
	short.Skip(t)
	const windows = 6
	d := defineDistinct(t, Definition{Type: String, Interval: time.Minute, Windows: windows})
	keys := make([]Key, trials)
	for i := range keys {
		keys[i] = TextKey(fmt.Sprint("key", i))
	}
	estimates := func(to int, now time.Time) []int64 {
		all := make([]int64, trials)
		for i, k := range keys {
			all[i] = d.Count(k, Host, 0, to, now)
		}
		return all
	}
	begin := at("10:00:00")
	shown := 0
	for _, n := range []int{10, 64, 65, 100, 300, 1000} {
		for ; shown < n; shown++ {
			for i, k := range keys {
				d.Add(k, "user"+strconv.Itoa(shown)+"@"+strconv.Itoa(i)+".example.com", begin)
			}
		}
		if good := within5(estimates(0, begin), n); good < trials*99/100 || n <= exact && good < trials {
			t.Errorf("%d values: %d of %d within 5 %%", n, good, trials)
		}
	}
	for _, n := range []int{10, 18, 100} { // in each window
		begin = begin.Add(windows * time.Minute)
		now := begin
		for w := range windows {
			now = begin.Add(time.Duration(w) * time.Minute)
			for v := range n {
				for i, k := range keys {
					d.Add(k, strconv.Itoa(n)+"/"+strconv.Itoa(w*n/2+v)+"/"+strconv.Itoa(i), now)
				}
			}
		}
		union := n + (windows-1)*n/2
		if good := within5(estimates(windows-1, now), union); good < trials*99/100 || union <= exact && good < trials {
			t.Errorf("%d values in %d windows: %d of %d within 5 %%", union, windows, good, trials)
		}
	}
}

// A thousand sketches of up to fifty thousand hashes are within 5 % in 990
// cases, and so are a thousand unions of twenty of them. The bias is far below the
// error.
func TestSketchAccuracy(t *testing.T) {
	short.Skip(t)
	cardinalities := []int{100, 1000, 5000, 10_000, 20_000, 50_000}
	sketches := make([]registers, trials)
	dice := make([]*rand.Rand, trials)
	shown := 0
	for i := range sketches {
		sketches[i] = make(registers, sketchWords)
		dice[i] = rand.New(rand.NewPCG(uint64(i), 4096))
	}
	for _, n := range cardinalities {
		estimates := make([]int64, trials)
		for i, r := range sketches {
			for range n - shown {
				r.raise(dice[i].Uint64())
			}
			estimates[i] = r.total().estimate()
		}
		shown = n
		accurate(t, n, estimates)
	}
	unions := make([]int64, trials)
	for i := range unions {
		union := make(registers, sketchWords)
		for j := range 40 { // each twice
			union.merge(sketches[(i+j%20*97)%trials])
		}
		unions[i] = union.total().estimate()
	}
	accurate(t, 20*shown, unions)
}

func accurate(t *testing.T, n int, estimates []int64) {
	t.Helper()
	var bias, square float64
	for _, e := range estimates {
		off := (float64(e) - float64(n)) / float64(n)
		bias, square = bias+off/trials, square+off*off/trials
	}
	good := within5(estimates, n)
	t.Logf("%d: %d of %d within 5 %%, standard error %.2f %%, bias %+.2f %%", n, good, trials, 100*math.Sqrt(square), 100*bias)
	if good < trials*99/100 || math.Sqrt(square) > 0.02 || math.Abs(bias) > 0.003 {
		t.Errorf("%d: %d of %d within 5 %%", n, good, trials)
	}
}

func BenchmarkSketch(b *testing.B) {
	hashes := make([]uint64, 20_000)
	r := rand.New(rand.NewPCG(1, 1))
	for i := range hashes {
		hashes[i] = r.Uint64()
	}
	full := make(registers, sketchWords)
	b.Run("raise", func(b *testing.B) {
		i := 0
		for b.Loop() {
			full.raise(hashes[i%len(hashes)])
			i++
		}
	})
	b.Run("estimate", func(b *testing.B) {
		for b.Loop() {
			full.total().estimate()
		}
	})
	b.Run("merge", func(b *testing.B) {
		to := make(registers, sketchWords)
		for b.Loop() {
			to.merge(full)
		}
	})
	b.Run("hash", func(b *testing.B) {
		for b.Loop() {
			hashOf("someone@example.com")
		}
	})
}

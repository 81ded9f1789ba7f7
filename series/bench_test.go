package series

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// The yardstick of every benchmark here is BenchmarkMap: one increment of a
// bare Go map with the same keys, drawn in the same way.

const benchKeys = 1 << 20

var benchTime = time.Unix(1_700_000_000, 0)

// kinds are the keys to measure with: so many different ones of a type.
var kinds = []struct {
	name string
	typ  Type
	key  func(i int) Key
}{
	{"ipv4", CIDR, func(i int) Key {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], mix(i))
		return AddrKey(netip.AddrFrom4(b))
	}},
	{"ipv6", CIDR6, func(i int) Key { // one host in each of as many /64s
		b := [16]byte{0x20, 0x01, 15: 1}
		binary.BigEndian.PutUint32(b[2:], mix(i))
		return AddrKey(netip.AddrFrom16(b))
	}},
	{"string", String, func(i int) Key {
		return TextKey("user" + strconv.Itoa(int(mix(i))) + "@example.com")
	}},
}

// mix spreads numbers over 32 bits, a different one for each.
func mix(n int) uint32 {
	i := uint32(n)
	i = (i ^ i>>16) * 0x45d9f3b
	i = (i ^ i>>16) * 0x45d9f3b
	return i ^ i>>16
}

// draws are ways to choose the next key.
var draws = []struct {
	name string
	make func(seed uint64) func() uint64
}{
	{"uniform", func(seed uint64) func() uint64 {
		r := rand.New(rand.NewPCG(seed, 1))
		return func() uint64 { return r.Uint64N(benchKeys) }
	}},
	{"zipf", func(seed uint64) func() uint64 {
		return rand.NewZipf(rand.New(rand.NewPCG(seed, 1)), 1.1, 1, benchKeys-1).Uint64
	}},
}

// sample is a long row of keys drawn beforehand, so that drawing costs nothing.
func sample(keys []Key, draw func() uint64) []Key {
	row := make([]Key, 1<<21)
	for i := range row {
		row[i] = keys[draw()]
	}
	return row
}

func benchmarkKeys(kind int) []Key {
	keys := make([]Key, benchKeys)
	for i := range keys {
		keys[i] = kinds[kind].key(i)
	}
	return keys
}

func filled(b *testing.B, typ Type, windows int, keys []Key) *Series {
	s, err := Define(Definition{Name: "bench", Type: typ, Interval: time.Minute, Windows: windows, MaxKeys: 2 * benchKeys})
	if err != nil {
		b.Fatal(err)
	}
	for _, k := range keys {
		s.Add(k, 1, benchTime)
	}
	return s
}

// BenchmarkMap is the yardstick: an increment of a bare map. In flight, each is
// independent of the one before, so that a processor waits for the memory of several
// at a time. In turn, the next key is known when the last increment is read back, as
// it is for a session, which comes to its next add by what it has counted: this is how
// long one takes, and a second look into the cache.
func BenchmarkMap(b *testing.B) {
	for i, kind := range kinds {
		keys := benchmarkKeys(i)
		for _, draw := range draws {
			row := sample(keys, draw.make(1))
			for _, inTurn := range []bool{false, true} {
				name := kind.name + "/" + draw.name + "/" + map[bool]string{false: "in flight", true: "in turn"}[inTurn]
				b.Run(name, func(b *testing.B) { increment(b, kind.typ, keys, row, inTurn) })
			}
		}
	}
}

func increment(b *testing.B, typ Type, keys, row []Key, inTurn bool) {
	switch typ {
	case CIDR:
		incrementMap(b, keys, row, inTurn, func(k Key) [4]byte { return k.addr.As4() })
	case CIDR6:
		incrementMap(b, keys, row, inTurn, func(k Key) [16]byte { return k.addr.As16() })
	default:
		incrementMap(b, keys, row, inTurn, func(k Key) string { return k.text })
	}
}

func incrementMap[K comparable](b *testing.B, keys, row []Key, inTurn bool, convert func(Key) K) {
	m := map[K]int64{}
	for _, k := range keys {
		m[convert(k)]++
	}
	converted := make([]K, len(row))
	for i, k := range row {
		converted[i] = convert(k)
	}
	i := 0
	if !inTurn {
		for b.Loop() {
			m[converted[i%len(converted)]]++
			i++
		}
		return
	}
	for b.Loop() {
		k := converted[i%len(converted)]
		m[k]++
		i += 1 + int(uint64(m[k])>>63) // no count is negative: one further
	}
}

func BenchmarkAdd(b *testing.B) {
	for i, kind := range kinds {
		keys := benchmarkKeys(i)
		s := filled(b, kind.typ, 6, keys)
		for _, draw := range draws {
			row := sample(keys, draw.make(1))
			b.Run(kind.name+"/"+draw.name, func(b *testing.B) {
				b.ReportAllocs()
				i := 0
				for b.Loop() {
					s.Add(row[i%len(row)], 1, benchTime)
					i++
				}
			})
		}
	}
}

// BenchmarkAddFollowed is BenchmarkAdd while somebody follows, who asks after each
// 2,000 adds: that is a tick of a tenth of a second at 20,000 adds a second. What he
// takes to be told is in it.
func BenchmarkAddFollowed(b *testing.B) {
	for i, kind := range kinds {
		keys := benchmarkKeys(i)
		s := filled(b, kind.typ, 6, keys)
		s.Follow()
		for _, draw := range draws {
			row := sample(keys, draw.make(1))
			b.Run(kind.name+"/"+draw.name, func(b *testing.B) {
				i, told := 0, 0
				for b.Loop() {
					s.Add(row[i%len(row)], 1, benchTime)
					if i++; i%2000 == 0 {
						s.Deltas(func(Delta) { told++ })
					}
				}
				if s.Deltas(func(Delta) { told++ }); told != i {
					b.Errorf("%d adds are told of %d", told, i)
				}
			})
		}
	}
}

// ledger makes a series replicate. Enter puts what is told into the ledger, which tells
// it, as in each tick, and returns how much that was.
func ledger(s *Series) (enter func() (told int)) {
	own := s.Beside()
	own.PutIn(s)
	s.Follow()
	own.Follow()
	return func() (told int) {
		s.Deltas(func(d Delta) { own.Apply(d) })
		own.Deltas(func(Delta) { told++ })
		return told
	}
}

// BenchmarkAddReplicated is BenchmarkAddFollowed of a series that replicates: what is
// told goes into the ledger first, which tells it.
func BenchmarkAddReplicated(b *testing.B) {
	for i, kind := range kinds {
		keys := benchmarkKeys(i)
		s := filled(b, kind.typ, 6, keys)
		enter := ledger(s)
		for _, draw := range draws {
			row := sample(keys, draw.make(1))
			b.Run(kind.name+"/"+draw.name, func(b *testing.B) {
				i, told := 0, 0
				for b.Loop() {
					s.Add(row[i%len(row)], 1, benchTime)
					if i++; i%2000 == 0 {
						told += enter()
					}
				}
				if told += enter(); told != i {
					b.Errorf("%d adds are told of %d", told, i)
				}
			})
		}
	}
}

// BenchmarkAddPaced is what a session waits for at 20,000 adds a second: an iteration is
// 20 adds to a series that does not replicate and to one that does, a millisecond after
// those before. The tick comes every tenth of a second, in a goroutine of its own.
func BenchmarkAddPaced(b *testing.B) {
	for i, kind := range kinds {
		keys := benchmarkKeys(i)
		plain, replicated := filled(b, kind.typ, 6, keys), filled(b, kind.typ, 6, keys)
		enter := ledger(replicated)
		for _, draw := range draws {
			row := sample(keys, draw.make(1))
			b.Run(kind.name+"/"+draw.name, func(b *testing.B) {
				var ticks sync.WaitGroup
				ctx, end := context.WithCancel(b.Context())
				ticks.Go(func() {
					for tick := time.NewTicker(100 * time.Millisecond); ctx.Err() == nil; <-tick.C {
						enter()
					}
				})
				defer ticks.Wait()
				defer end()
				turns := time.NewTicker(time.Millisecond)
				defer turns.Stop()
				n, times := 0, [2]time.Duration{}
				for b.Loop() {
					<-turns.C
					for turn := range 2 { // each is the first one as often
						which := (n + turn) % 2
						begun := time.Now()
						for _, k := range row[n*20%(len(row)-20):][:20] {
							[]*Series{plain, replicated}[which].Add(k, 1, benchTime)
						}
						times[which] += time.Since(begun)
					}
					n++
				}
				b.ReportMetric(0, "ns/op")
				b.ReportMetric(float64(times[0].Nanoseconds())/float64(20*n), "plain-ns")
				b.ReportMetric(float64(times[1].Nanoseconds())/float64(20*n), "replicated-ns")
				b.ReportMetric(float64(times[1])/float64(times[0]), "x")
			})
		}
	}
}

// BenchmarkSnapshot tells a million keys, and BenchmarkMerge takes them in.
func BenchmarkSnapshot(b *testing.B) {
	for i, kind := range kinds {
		s := filled(b, kind.typ, 6, benchmarkKeys(i))
		b.Run(kind.name, func(b *testing.B) {
			for b.Loop() {
				for taken := s.Snapshot(); taken.Next(func(Delta) {}); {
				}
			}
		})
	}
}

func BenchmarkMerge(b *testing.B) {
	for i, kind := range kinds {
		var deltas []Delta
		for taken := filled(b, kind.typ, 6, benchmarkKeys(i)).Snapshot(); taken.Next(func(d Delta) { deltas = append(deltas, d) }); {
		}
		b.Run(kind.name, func(b *testing.B) {
			for b.Loop() {
				s := filled(b, kind.typ, 6, nil)
				for _, d := range deltas {
					s.Merge(d, benchTime)
				}
			}
		})
	}
}

// BenchmarkAddNew adds keys that have never been seen.
func BenchmarkAddNew(b *testing.B) {
	for _, kind := range kinds {
		b.Run(kind.name, func(b *testing.B) {
			b.ReportAllocs()
			s := filled(b, kind.typ, 6, nil)
			for i := range b.N {
				s.Add(kind.key(i), 1, benchTime)
			}
		})
	}
}

// BenchmarkAddParallel is to be run with -cpu 1,2: what a second goroutine
// brings.
func BenchmarkAddParallel(b *testing.B) {
	for i, kind := range kinds {
		keys := benchmarkKeys(i)
		s := filled(b, kind.typ, 6, keys)
		for _, draw := range draws {
			row := sample(keys, draw.make(1))
			b.Run(kind.name+"/"+draw.name, func(b *testing.B) {
				var starts atomic.Uint64
				b.RunParallel(func(pb *testing.PB) {
					i := int(starts.Add(1)) * len(row) / 7
					for pb.Next() {
						s.Add(row[i%len(row)], 1, benchTime.Add(time.Duration(i)))
						i++
					}
				})
			})
		}
	}
}

func BenchmarkCount(b *testing.B) {
	masks := map[Type][]uint8{CIDR: {32, 24, 20, 8, 0}, CIDR6: {128, 64, 48, 32, 0}, String: {0}}
	for i, kind := range kinds {
		keys := benchmarkKeys(i)
		for _, windows := range []int{1, 6, 60} {
			s := filled(b, kind.typ, max(windows, 6), keys)
			for _, draw := range draws {
				row := sample(keys, draw.make(1))
				for _, bits := range masks[kind.typ] {
					b.Run(fmt.Sprintf("%s/%s/%d/windows=%d", kind.name, draw.name, bits, windows), func(b *testing.B) {
						b.ReportAllocs()
						i := 0
						for b.Loop() {
							s.Count(row[i%len(row)], Mask{bits, bits}, 0, windows-1, benchTime)
							i++
						}
					})
				}
			}
		}
	}
}

// BenchmarkExpiry is what an add costs while a million keys that have expired
// leave: each round adds to a thousand others until only those are there.
func BenchmarkExpiry(b *testing.B) {
	for i, kind := range kinds {
		b.Run(kind.name, func(b *testing.B) {
			keys := benchmarkKeys(i)
			var took []time.Duration
			for range b.N {
				b.StopTimer()
				s := filled(b, kind.typ, 6, keys)
				runtime.GC()
				b.StartTimer()
				later := benchTime.Add(time.Hour)
				for n := 0; s.Len() > 1000; n++ {
					begin := time.Now()
					s.Add(keys[n%1000], 1, later)
					took = append(took, time.Since(begin))
				}
			}
			slices.Sort(took)
			b.ReportMetric(float64(len(took))/float64(b.N), "adds/round")
			for _, q := range []struct {
				name  string
				share float64
			}{{"p50-ns", 0.5}, {"p99.9-ns", 0.999}, {"max-ns", 1}} {
				b.ReportMetric(float64(took[int(q.share*float64(len(took)-1))]), q.name)
			}
		})
	}
}

// BenchmarkMemory reports the heap after a collection, per live key; of a
// string without the bytes of its text.
func BenchmarkMemory(b *testing.B) {
	for i, kind := range kinds {
		b.Run(kind.name, func(b *testing.B) {
			keys := benchmarkKeys(i)
			for b.Loop() {
				before := heap()
				s := filled(b, kind.typ, 6, keys)
				used := float64(heap() - before)
				for _, k := range keys {
					used -= float64(len(k.text))
				}
				b.ReportMetric(used/float64(s.Len()), "B/key")
				runtime.KeepAlive(s)
			}
			runtime.KeepAlive(keys)
		})
	}
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

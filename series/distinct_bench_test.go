package series

import (
	"fmt"
	"runtime"
	"strconv"
	"testing"
	"time"
)

// showing is a series in which a thousand keys have each shown so many values in
// each of so many windows, half of them the same as in the window before; and now.
func showing(b *testing.B, keys []Key, values, windows int) (*Distinct, time.Time) {
	d, err := DefineDistinct(Definition{Name: "bench", Type: String, Interval: time.Minute, Windows: windows}, nil)
	if err != nil {
		b.Fatal(err)
	}
	now := benchTime
	for w := range windows {
		now = benchTime.Add(time.Duration(w) * time.Minute)
		for v := range values {
			value := strconv.Itoa(w*(values+1)/2+v) + "@example.com"
			for _, k := range keys {
				d.Add(k, value, now)
			}
		}
	}
	return d, now
}

func distinctKeys() []Key {
	keys := make([]Key, 1000)
	for i := range keys {
		keys[i] = kinds[2].key(i)
	}
	return keys
}

// BenchmarkDistinctAdd adds to a thousand keys values that they have not shown, while
// few or many, and such that they have.
func BenchmarkDistinctAdd(b *testing.B) {
	keys := distinctKeys()
	fresh := make([]string, 1<<20)
	for i := range fresh {
		fresh[i] = strconv.Itoa(i) + "@example.org"
	}
	b.Run("new", func(b *testing.B) {
		b.ReportAllocs()
		d, now := showing(b, keys, 0, 1)
		for i := range b.N {
			d.Add(keys[i%len(keys)], fresh[i/len(keys)%len(fresh)], now.Add(time.Duration(i/32000)*time.Minute)) // 32 a key and window
		}
	})
	for _, row := range []struct {
		name   string
		shown  int
		values []string
	}{
		{"known/1", 1, []string{"0@example.com"}},
		{"known/64", 64, []string{"63@example.com"}},
		{"dense/known", 1000, []string{"63@example.com"}},
		{"dense/new", 1000, fresh},
	} {
		b.Run(row.name, func(b *testing.B) {
			b.ReportAllocs()
			d, now := showing(b, keys, row.shown, 1)
			i := 0
			for b.Loop() {
				d.Add(keys[i%len(keys)], row.values[i%len(row.values)], now)
				i++
			}
		})
	}
}

// BenchmarkDistinctCount counts the union of windows.
func BenchmarkDistinctCount(b *testing.B) {
	keys := distinctKeys()
	for _, values := range []int{1, 10, 64, 65, 1000} {
		for _, windows := range []int{1, 6, 24} {
			d, now := showing(b, keys[:100], values, windows)
			b.Run(fmt.Sprintf("values=%d/windows=%d", values, windows), func(b *testing.B) {
				b.ReportAllocs()
				i := 0
				for b.Loop() {
					d.Count(keys[i%100], Host, 0, windows-1, now)
					i++
				}
			})
		}
	}
}

// BenchmarkDistinctFlood adds keys that have never been seen to a series that is
// full.
func BenchmarkDistinctFlood(b *testing.B) {
	b.ReportAllocs()
	d, err := DefineDistinct(Definition{Name: "bench", Type: CIDR, Interval: time.Minute, Windows: 24}, []Mask{{IPv4: 24}})
	if err != nil {
		b.Fatal(err)
	}
	for i := range b.N {
		d.Add(kinds[0].key(i), "a", benchTime)
	}
}

// BenchmarkDistinctMemory reports the heap after a collection, per key, of which each
// shows so many values in each of 24 windows.
func BenchmarkDistinctMemory(b *testing.B) {
	keys := distinctKeys()
	for _, values := range []int{1, 10, 64, 65, 1000} {
		b.Run(strconv.Itoa(values), func(b *testing.B) {
			for b.Loop() {
				before := heap()
				d, _ := showing(b, keys, values, 24)
				b.ReportMetric(float64(heap()-before)/float64(d.Len()), "B/key")
				b.ReportMetric(float64(DistinctMemory(d.Definition()))/float64(d.Definition().MaxKeys), "worst-B/key")
				runtime.KeepAlive(d)
			}
		})
	}
}

package history

import (
	"flag"
	"iter"
	"math/rand/v2"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/audit-milter/audit-milter/series"
)

var (
	monthDir  = flag.String("month", "", "the `directory` of the history of BenchmarkQuery, which is made there if it is not yet; otherwise one that is deleted")
	monthDays = flag.Int("days", 1, "how many days it has, of 288 windows with 10,000 IPv4 addresses")
)

const (
	dayWindows  = 288
	windowKeys  = 10_000
	dayInterval = 5 * time.Minute
)

// aDay is one of the month: in each window, half of the addresses are among 5,000
// that are always there, the others among a million, and most count little.
func aDay(day int) iter.Seq2[Row, error] {
	r := rand.New(rand.NewPCG(uint64(day), 0))
	start := someDay.AddDate(0, 0, day).Unix()
	rows := make([]Row, 0, dayWindows*windowKeys)
	for w := range dayWindows {
		for i := range windowKeys {
			n := i
			if i >= windowKeys/2 {
				n += r.IntN(1_000_000)
			}
			spread := uint32(n) * 2654435761
			a := netip.AddrFrom4([4]byte{byte(spread >> 24), byte(spread >> 16), byte(spread >> 8), byte(spread)})
			rows = append(rows, Row{a.String(), start + int64(w)*int64(dayInterval/time.Second), 1 + int64(r.ExpFloat64()*5)})
		}
	}
	slices.SortFunc(rows, Row.Compare)
	return each(rows)
}

// benchMonth makes the files as maintenance leaves them, one for each day.
func benchMonth(b *testing.B) (dir string) {
	dir = *monthDir
	if dir == "" {
		dir = b.TempDir()
	}
	meta := Meta{Series: "connections", Type: series.CIDR, Interval: dayInterval, Node: "mx1"}
	for day := range *monthDays {
		first := someDay.AddDate(0, 0, day)
		name := Name{First: first, Last: first.Add((dayWindows - 1) * dayInterval), Through: 1, Level: 2, Node: "mx1"}
		if _, err := os.Stat(seriesDir(dir, meta.Series) + "/" + name.String()); err == nil {
			continue
		}
		if err := write(dir, name, meta, aDay(day)); err != nil {
			b.Fatal(err)
		}
		runtime.GC()
	}
	return dir
}

// BenchmarkQuery asks for a month of 5-minute windows with 10,000 keys each, which is
// 86 million rows:
//
//	go test ./internal/history -run '^$' -bench Query -benchtime 1x -timeout 20m -month /var/tmp/month -days 30
func BenchmarkQuery(b *testing.B) {
	dir := benchMonth(b)
	s, err := available(dir, "connections")
	if err != nil {
		b.Fatal(err)
	}
	rows := float64(*monthDays) * dayWindows * windowKeys
	sizes := func(text string) Sizes {
		s, err := ParseSizes(text)
		if err != nil {
			b.Fatal(err)
		}
		return s
	}
	all := []string{"connections"}
	for _, q := range []struct {
		name string
		Query
	}{
		{"everything", Query{Series: all}},
		{"a /16, daily", Query{Series: all, Block: netip.MustParsePrefix("10.7.0.0/16"), By: Days}},
		{"each /24 of all", Query{Series: all, Sizes: sizes("24"), ByCount: true, Limit: 10}},
		{"each address", Query{Series: all, Sizes: sizes("32"), ByCount: true, Limit: 10}},
		{"each /16, daily", Query{Series: all, Sizes: sizes("16"), By: Days}},
		{"everything, by window", Query{Series: all, By: Windows}},
	} {
		b.Run(q.name, func(b *testing.B) {
			var peak uint64
			before := cpu(b)
			for b.Loop() {
				a, err := q.Run(dir)
				if err != nil || len(a.Lines) == 0 {
					b.Fatal(len(a.Lines), err)
				}
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				peak = max(peak, m.Sys)
			}
			b.ReportMetric((cpu(b)-before).Seconds()/float64(b.N), "cpu-s/op") // of all processors, whoever else uses them
			b.ReportMetric(rows*float64(b.N)/b.Elapsed().Seconds()/1e6, "Mrows/s")
			b.ReportMetric(float64(s.Bytes)/rows, "B/row")
			b.ReportMetric(float64(peak)/(1<<20), "MiB-sys")
		})
	}
}

// cpu is how long the process has computed.
func cpu(b *testing.B) time.Duration {
	var r unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &r); err != nil {
		b.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// BenchmarkWrite writes a day of 288 windows with 10,000 keys each.
func BenchmarkWrite(b *testing.B) {
	rows := slices.Collect(func(yield func(Row) bool) {
		for r := range aDay(0) {
			if !yield(r) {
				return
			}
		}
	})
	meta := Meta{Series: "connections", Type: series.CIDR, Interval: dayInterval, Node: "mx1"}
	dir := b.TempDir()
	part := 0
	for b.Loop() {
		part++
		if err := write(dir, Name{First: someDay, Last: someDay, Part: int64(part)}, meta, each(rows)); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(len(rows)*b.N)/b.Elapsed().Seconds()/1e6, "Mrows/s")
}

package state

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/audit-milter/audit-milter/policy"
	"github.com/audit-milter/audit-milter/series"
)

const manyKeys = 1_000_000

// scattered are a million addresses all over IPv4, or texts.
func scattered(i int, text bool) series.Key {
	n := uint32(i) * 0x9e3779b1
	if text {
		return series.TextKey(fmt.Sprintf("user%d@example.com", n))
	}
	return series.AddrKey(netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, n))))
}

// large is a node with one series, a million keys of which count in so many windows.
func large(text bool, windows int) (*node, *series.Series) {
	n := newNode()
	def := series.Definition{Name: "large", Type: series.IP, Interval: time.Minute, Windows: 6, MaxKeys: manyKeys + 1}
	if text {
		def.Type = series.String
	}
	l := newLasting(def, nil)
	n.kept = []policy.Kept{{Lasting: l, Persist: true}}
	s := l.Counter.(*series.Series)
	for w := range windows {
		n.now = n.now.Add(time.Duration(min(w, 1)) * time.Minute)
		for i := range manyKeys {
			s.Add(scattered(i, text), 1, n.now)
		}
	}
	s.Follow()
	return n, s
}

// snapshotted takes a whole snapshot.
func snapshotted(s *Store, n *node) {
	s.Take(n.tick(true, 20_000))
	for n.snapshots != nil {
		s.Take(n.tick(false, 20_000))
	}
}

// Start is how long a restart takes until a million keys are there.
func BenchmarkStart(b *testing.B) {
	for _, bench := range []struct {
		name    string
		text    bool
		windows int
		journal bool // as long as it may be
	}{
		{"addresses/1", false, 1, false}, {"addresses/6", false, 6, false}, {"texts/1", true, 1, false},
		{"addresses/1/journal", false, 1, true}, {"addresses/6/journal", false, 6, true},
	} {
		b.Run(bench.name, func(b *testing.B) {
			n, c := large(bench.text, bench.windows)
			dir := b.TempDir()
			s, _ := mustOpen(b, dir)
			snapshotted(s, n)
			for i := 0; bench.journal && s.stats.Written+s.waitingBytes-s.snapshot < max(minJournal, s.snapshot/journalShare); i++ {
				for at := range 2000 {
					c.Add(scattered((2000*i+at)*7919%manyKeys, bench.text), 1, n.now)
				}
				s.Take(n.tick(false, 0))
			}
			mustClose(b, s)
			n, c = nil, nil
			for b.Loop() {
				s, restored := mustOpen(b, dir)
				b.StopTimer()
				if restored.Series[0].Counter.Len() != manyKeys {
					b.Fatal("keys are missing")
				}
				b.ReportMetric(float64(restored.Bytes)/1e6, "MB")
				mustClose(b, s)
				b.StartTimer()
			}
		})
	}
}

// Load is what 20,000 adds a second cost, over a million keys, with as many snapshots
// as there are at this load: the CPU time of all threads but those that make the load, and what
// goes to the disk. Adds come with the speed that the machine has; what is told is how
// it would be at 20,000 a second.
func BenchmarkLoad(b *testing.B) {
	const (
		perTick = 2000
		ticks   = 3000 // five minutes
		renewal = int(minSnapshotAge / (100 * time.Millisecond))
	)
	n, counter := large(false, 1)
	for b.Loop() {
		s, _ := mustOpen(b, b.TempDir())
		var spent time.Duration
		cpu := func(do func()) {
			before := processTime(b)
			do()
			spent += processTime(b) - before
		}
		var snapshots, count int64
		for tick := range ticks {
			if tick%renewal == 0 { // as often as at this load
				before := s.Stats().Written
				cpu(func() { snapshotted(s, n) })
				snapshots += s.Stats().Written + s.Stats().Waiting - before
				count++
			}
			n.now = n.now.Add(100 * time.Millisecond)
			for i := range perTick {
				counter.Add(scattered((tick*perTick+i)*7919%manyKeys, false), 1, n.now)
			}
			cpu(func() {
				s.Take(n.tick(false, 0))
				for s.Stats().Waiting > 0 {
					time.Sleep(10 * time.Microsecond)
				}
			})
		}
		mustClose(b, s)
		written := s.Stats().Written
		const seconds = ticks / 10
		b.ReportMetric(100*spent.Seconds()/seconds, "%core")
		b.ReportMetric(float64(written)/seconds/1e6, "MB/s")
		b.ReportMetric(float64(written-snapshots)/ticks/perTick, "B/add")
		b.ReportMetric(float64(snapshots)/float64(count)/manyKeys, "B/key")
	}
}

// processTime is the CPU time of the process, the kernel's part in it.
func processTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

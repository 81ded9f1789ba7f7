package policy_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/bits"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/audit-milter/audit-milter/policy"
	"github.com/audit-milter/audit-milter/series"
)

// limitsPolicy has rules of every kind that can be near.
const limitsPolicy = `
series:
  connections: {type: ip, interval: 5m, windows: 6, add: {at: connect}}
  unknown: {type: ip, interval: 15m, windows: 4, add: {at: rcpt_refused}}
  recipients: {type: ip, interval: 15m, windows: 4, add: {at: [rcpt, rcpt_refused]}}
  users: {type: string, interval: 10m, windows: 6, add: {at: rcpt, key: sasl_username}}
rules:
  - {name: flood, at: connect, if: {series: connections, mask: {ipv4: 24, ipv6: 64}, windows: 0-5, above: 1000}, then: tempfail}
  - {name: harvest, at: rcpt, any: [{series: unknown, windows: 0-3, above: 50}, {series: unknown, mask: {ipv4: 24, ipv6: 48}, windows: 0-3, above: 500}], then: tempfail}
  - {name: mostly, at: mail, if: {series: unknown, windows: 0-3, above: 50%, of: {series: recipients, windows: 0-3}, min: 20}, then: tempfail}
  - {name: burst, at: rcpt, if: {series: users, above: 5x, baseline: {windows: 1-5}, min: 100}, then: tempfail}
  - {name: quota, at: rcpt, if: {series: users, windows: 0-5, sliding: true, above: 200}, then: tempfail}
`

// BenchmarkLimits looks for the nearest keys of a million, half of them in
// connections, first alone and then while connections are judged all the time.
//
//	go test -run '^$' -bench Limits -benchtime 2s ./policy
//
//	ms              how long it takes
//	p99-µs, max-µs  how long a decision takes meanwhile
func BenchmarkLimits(b *testing.B) {
	w := newWorld(b, limitsPolicy)
	w.fill("connections", 500_000)
	w.fill("unknown", 200_000)
	w.fill("recipients", 200_000)
	for i := range 100_000 {
		w.count("users", fmt.Sprintf("user%d@example.com", i), few(i), w.now)
	}
	for _, row := range []struct {
		name    string
		traffic bool
	}{{"quiet", false}, {"busy", true}} {
		b.Run(row.name, func(b *testing.B) {
			end := func() []time.Duration { return nil }
			if row.traffic {
				end = w.traffic()
			}
			for b.Loop() {
				if near := w.limits("", 20); len(near) != 20 {
					b.Fatalf("only %d are near", len(near))
				}
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/1000/float64(b.N), "ms")
			if times := end(); len(times) > 0 {
				slices.Sort(times)
				b.ReportMetric(float64(times[len(times)*99/100].Nanoseconds())/1000, "p99-µs")
				b.ReportMetric(float64(times[len(times)-1].Nanoseconds())/1000, "max-µs")
			}
		})
	}
}

func (w *world) fill(name string, keys int) {
	c := w.engine.Counter(name).(*series.Series)
	for i := range keys {
		c.Add(series.AddrKey(spread(i)), few(i), w.now)
	}
}

// few is a count as they are: half are 1, of the others half again are 4, and so on.
func few(i int) int64 { return int64(1 + 3*bits.TrailingZeros(uint(i+1))) }

// spread puts addresses into all networks.
func spread(i int) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], uint32(i)*2654435761)
	return netip.AddrFrom4(b)
}

// traffic begins to judge connections; end tells how long each took.
func (w *world) traffic() (end func() []time.Duration) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan []time.Duration)
	go func() {
		times := make([]time.Duration, 0, 1<<22) // growing would take longer than a decision
		ev := &policy.Event{}
		for i := 0; ctx.Err() == nil && len(times) < cap(times); i++ {
			ev.SetClient(spread(i), 40000, "")
			begun := time.Now()
			w.engine.Decide(ev, policy.Connect, w.now)
			times = append(times, time.Since(begun))
		}
		ended <- times
	}()
	return func() []time.Duration { cancel(); return <-ended }
}

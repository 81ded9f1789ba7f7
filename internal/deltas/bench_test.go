package deltas

import (
	"net/netip"
	"testing"
	"time"

	"github.com/audit-milter/audit-milter/internal/config"
	"github.com/audit-milter/audit-milter/policy"
	"github.com/audit-milter/audit-milter/series"
)

// nobody takes batches for nothing.
type nobody struct{ wants bool }

func (n *nobody) WantsSnapshot() bool { return n.wants }
func (n *nobody) Take(b *Batch) {
	if b.Begin {
		n.wants = false
	}
}

// BenchmarkTick collects what comes in a tick at 20,000 adds a second over a million
// keys, without what takers do with it; beside a snapshot, or without one.
func BenchmarkTick(b *testing.B) {
	for name, snapshots := range map[string]bool{"journal": false, "snapshot": true} {
		b.Run(name, func(b *testing.B) {
			conf, err := config.Parse("policy.yaml", []byte("series: {clients: {type: ip, interval: 5m, windows: 6, add: {at: connect}}}"))
			if err != nil {
				b.Fatal(err)
			}
			conf.Policy.Series[0].Persist = true
			now := time.Now()
			engine, err := policy.NewEngine(conf.Policy, policy.Options{Start: now})
			if err != nil {
				b.Fatal(err)
			}
			clients := engine.Counter("clients").(*series.Series)
			key := func(i int) series.Key {
				i = i * 7919 % 1_000_000
				return series.AddrKey(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}))
			}
			for i := range 1_000_000 {
				clients.Add(key(i), 1, now)
			}
			taker := new(nobody)
			c := New(0, taker)
			for c.Collect(engine, now); c.open; {
				c.Collect(engine, now)
			}
			i := 0
			for b.Loop() {
				b.StopTimer()
				for range 2000 {
					clients.Add(key(i), 1, now)
					i++
				}
				taker.wants = snapshots && !c.open
				b.StartTimer()
				c.Collect(engine, now)
			}
		})
	}
}

package admin_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/audit-milter/audit-milter/internal/admin"
	"github.com/audit-milter/audit-milter/policy"
	"github.com/audit-milter/audit-milter/series"
)

// judged counts and judges every connection, with a rule that never fires.
const judged = `
series:
  connections: {type: ip, interval: 5m, windows: 6, add: {at: connect}}
rules:
  - {name: flood, at: connect, if: {series: connections, mask: {ipv4: 24, ipv6: 64}, windows: 0-5, above: 1000000000}, then: tempfail}
`

// BenchmarkDecide is a decision over a million keys while the console is asked for
// them again and again, beside one while it is quiet.
//
//	go test -run '^$' -bench Decide -benchtime 3s ./internal/admin
//
//	p50-µs p99-µs p99.9-µs max-µs  how long a decision takes
//	answers/s                      how often the console got its answer
func BenchmarkDecide(b *testing.B) {
	for _, row := range []struct{ name, path string }{
		{"quiet", ""},
		{"export", "/api/v1/export"},
		{"top", "/api/v1/top"},
	} {
		b.Run(row.name, func(b *testing.B) {
			s := serve(b, judged, "")
			s.fill(1_000_000)
			end := func() float64 { return 0 }
			if row.path != "" {
				end = s.askAgainAndAgain(row.path)
			}
			times := s.decide(b)
			answers := end()
			slices.Sort(times)
			for name, at := range map[string]int{"p50-µs": len(times) / 2, "p99-µs": len(times) * 99 / 100, "p99.9-µs": len(times) * 999 / 1000, "max-µs": len(times) - 1} {
				b.ReportMetric(float64(times[at].Nanoseconds())/1000, name)
			}
			b.ReportMetric(answers/b.Elapsed().Seconds(), "answers/s")
		})
	}
}

// BenchmarkTop is one answer about the largest of a million keys, while nothing else
// is done.
//
//	go test -run '^$' -bench Top -benchtime 10x ./internal/admin
func BenchmarkTop(b *testing.B) {
	for _, row := range []struct {
		series string
		key    func(i int) series.Key
	}{
		{"ipv4", func(i int) series.Key { return series.AddrKey(address(i)) }},
		{"ipv6", func(i int) series.Key {
			part := address(i).As4()
			return series.AddrKey(netip.AddrFrom16([16]byte{0x20, 1, part[0], part[1], part[2], part[3]}))
		}},
		{"texts", func(i int) series.Key { return series.TextKey(fmt.Sprintf("user%d@example.com", i)) }},
	} {
		b.Run(row.series, func(b *testing.B) {
			s := serve(b, `
series:
  ipv4: {type: cidr, interval: 5m, windows: 6, add: {at: connect}}
  ipv6: {type: cidr_ipv6, interval: 5m, windows: 6, add: {at: connect}}
  texts: {type: string, interval: 5m, windows: 6, add: {at: mail, key: sender}}
`, "")
			for i := range 1_000_000 {
				s.add(row.series, row.key(i), int64(1+i%1000))
			}
			client := s.bySocket()
			for b.Loop() {
				if got := s.request(client, "GET /api/v1/top?series="+row.series); strings.Count(got, `"key"`) != 10 {
					b.Fatal(got)
				}
			}
		})
	}
}

func (s *served) fill(keys int) {
	c := s.engine.Counter("connections").(*series.Series)
	for i := range keys {
		c.Add(series.AddrKey(address(i)), 1, s.now)
	}
}

// address spreads addresses over all networks.
func address(i int) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], uint32(i)*2654435761)
	return netip.AddrFrom4(b)
}

// askAgainAndAgain begins to ask; end tells how many answers came until then.
func (s *served) askAgainAndAgain(path string) (end func() float64) {
	client, err := admin.NewClient("unix:"+s.path, "")
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	answers := make(chan float64)
	go func() {
		n := 0.0
		for ctx.Err() == nil {
			if body, err := client.Stream(ctx, path, map[string][]string{"series": {"connections"}}); err == nil {
				size, _ := io.Copy(io.Discard, body)
				body.Close()
				n += min(float64(size), 1)
			}
		}
		answers <- n
	}()
	return func() float64 { cancel(); return <-answers }
}

// decide judges connections and tells how long each took.
func (s *served) decide(b *testing.B) (times []time.Duration) {
	ev := &policy.Event{}
	times = make([]time.Duration, 0, 1<<22) // growing would take longer than a decision
	for i := 0; b.Loop(); i++ {
		ev.SetClient(address(i), 40000, "")
		begun := time.Now()
		if _, err := s.engine.Decide(ev, policy.Connect, s.now); err != nil {
			b.Fatal(err)
		}
		times = append(times, time.Since(begun))
	}
	return times
}

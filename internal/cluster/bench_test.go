package cluster

import (
	"bufio"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/audit-milter/audit-milter/series"
)

// BenchmarkThreeNodes lets each of three nodes in one process add 10,000 times a second
// over 100,000 keys; an iteration is a second of that. The lag is from an add on one
// node until another one counts it. CPU is that of the process, with the adds, and
// bytes are those that the server has sent and received, both by node.
func BenchmarkThreeNodes(b *testing.B) {
	s := newServer(b, "--appendonly", "no")
	nodes := threeNodes(b, s.path)
	b.ResetTimer()
	before, in, out := cpu(), s.info("total_net_input_bytes"), s.info("total_net_output_bytes")
	var lags []time.Duration
	second := 0
	for b.Loop() {
		second++
		lags = append(lags, oneSecond(b, nodes, second)...)
	}
	seconds := float64(second)
	slices.Sort(lags)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(lags[len(lags)/2].Milliseconds()), "p50-ms")
	b.ReportMetric(float64(lags[len(lags)*99/100].Milliseconds()), "p99-ms")
	b.ReportMetric(100*(cpu()-before).Seconds()/seconds/3, "%CPU/node")
	b.ReportMetric(float64(s.info("total_net_input_bytes")-in)/seconds/3/1000, "kB/s-sent/node")
	b.ReportMetric(float64(s.info("total_net_output_bytes")-out)/seconds/3/1000, "kB/s-read/node")
}

// oneSecond adds, and measures how long it takes until marks are counted elsewhere.
func oneSecond(b *testing.B, nodes []*node, second int) (lags []time.Duration) {
	var all sync.WaitGroup
	for i, n := range nodes {
		all.Go(func() {
			tick := time.NewTicker(10 * time.Millisecond)
			defer tick.Stop()
			for step := range 100 {
				<-tick.C
				for k := range 100 {
					n.add(((second*100+step)*100+k)*7919%100_000, 1)
				}
			}
		})
		mark := 200_000 + i
		for range 5 {
			other := nodes[(i+1)%len(nodes)]
			had := other.wide(mark)
			begun := time.Now()
			n.add(mark, 1)
			for other.wide(mark) == had {
				if time.Since(begun) > patience {
					b.Fatal("a mark does not come")
				}
				time.Sleep(time.Millisecond)
			}
			lags = append(lags, time.Since(begun))
		}
	}
	all.Wait()
	return lags
}

func (n *node) wide(i int) int64 {
	return n.engine.Counter("clients").Count(addr(i), series.Host, 0, 2, n.now())
}

// BenchmarkServerMemory tells what a key takes on the server in each window, with two
// snapshots and what little comes in between.
func BenchmarkServerMemory(b *testing.B) {
	const keys, windows = 100_000, 3
	s := newServer(b, "--appendonly", "no")
	n := newNode(b, s.path, "mx1", nodeOptions{})
	n.settled()
	before := s.info("used_memory")
	start := n.now()
	clients := n.engine.Counter("clients").(*series.Series)
	for b.Loop() {
		for w := range windows {
			for i := range keys {
				clients.Add(addr(i), 1, start.Add(time.Duration(w)*time.Hour))
			}
		}
		n.ahead.Store(int64((windows - 1) * time.Hour))
		for range 3 {
			n.snapshot()
		}
	}
	b.ReportMetric(float64(s.info("used_memory")-before)/keys/windows, "B/key/window")
}

// info is a number that the server tells of itself.
func (s *server) info(name string) int64 {
	text, err := s.do("INFO").ToString()
	if err != nil {
		s.Fatal(err)
	}
	for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
		if value, ok := strings.CutPrefix(lines.Text(), name+":"); ok {
			n, err := strconv.ParseInt(value, 10, 64)
			if err != nil {
				s.Fatal(err)
			}
			return n
		}
	}
	s.Fatal(fmt.Errorf("the server does not tell %s", name))
	return 0
}

// cpu is what the process has used.
func cpu() time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		panic(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

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

// BenchmarkNodes lets nodes in one process add to 100,000 keys; an iteration is a second
// of that. The lag is from an add on one node until another one counts it. CPU is that
// of the process, with the adds, and bytes are those that the server has received and
// sent, both by node.
func BenchmarkNodes(b *testing.B) {
	for _, row := range []struct{ nodes, adds int }{{3, 10_000}, {50, 100}, {200, 100}} {
		b.Run(fmt.Sprintf("%d nodes, each %d adds a second", row.nodes, row.adds), func(b *testing.B) {
			benchmarkNodes(b, row.nodes, row.adds)
		})
	}
}

func benchmarkNodes(b *testing.B, count, adds int) {
	s := newServer(b, "--appendonly", "no")
	nodes := make([]*node, count)
	for i := range nodes {
		nodes[i] = newNode(b, s.path, fmt.Sprint("mx", i+1), nodeOptions{})
	}
	for _, n := range nodes {
		n.others(count - 1)
	}
	b.ResetTimer()
	server := s.cpu()
	before, in, out := cpu(), s.info("total_net_input_bytes"), s.info("total_net_output_bytes")
	var lags []time.Duration
	second := 0
	for b.Loop() {
		second++
		lags = append(lags, oneSecond(b, nodes, adds, second)...)
	}
	seconds := float64(second)
	slices.Sort(lags)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(lags[len(lags)/2].Milliseconds()), "p50-ms")
	b.ReportMetric(float64(lags[len(lags)*99/100].Milliseconds()), "p99-ms")
	b.ReportMetric(100*(cpu()-before).Seconds()/seconds/float64(count), "%CPU/node")
	b.ReportMetric(100*(s.cpu()-server)/seconds, "%CPU-of-server")
	b.ReportMetric(float64(s.info("total_net_input_bytes")-in)/seconds/float64(count)/1000, "kB/s-sent/node")
	b.ReportMetric(float64(s.info("total_net_output_bytes")-out)/seconds/float64(count)/1000, "kB/s-read/node")
}

// oneSecond adds, and measures how long it takes until marks are counted elsewhere.
func oneSecond(b *testing.B, nodes []*node, adds, second int) (lags []time.Duration) {
	var all sync.WaitGroup
	for _, n := range nodes {
		all.Go(func() {
			tick := time.NewTicker(10 * time.Millisecond)
			defer tick.Stop()
			for step := range 100 {
				<-tick.C
				for k := range adds / 100 {
					n.add(((second*100+step)*100+k)*7919%100_000, 1)
				}
			}
		})
	}
	for i, n := range nodes[:3] {
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

// cpu are the seconds that the server has used.
func (s *server) cpu() float64 {
	return s.number("used_cpu_user") + s.number("used_cpu_sys")
}

// info is a number that the server tells of itself.
func (s *server) info(name string) int64 { return int64(s.number(name)) }

func (s *server) number(name string) float64 {
	text, err := s.do("INFO").ToString()
	if err != nil {
		s.Fatal(err)
	}
	for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
		if value, ok := strings.CutPrefix(lines.Text(), name+":"); ok {
			n, err := strconv.ParseFloat(value, 64)
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

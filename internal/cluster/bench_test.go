package cluster

import (
	"bufio"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/audit-milter/audit-milter/series"
)

// BenchmarkNodes lets nodes in one process add to 100,000 keys all the time; an iteration
// is the way of five marks. The lag is from an add on one node until another one counts
// it. CPU is that of the process, with the adds, and bytes are those that the server has
// received and sent, both by node.
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
	ctx, end := context.WithCancel(b.Context())
	var adders sync.WaitGroup
	var added atomic.Int64
	for _, n := range nodes {
		adders.Go(func() { added.Add(addAll(ctx, n, adds/100)) })
	}
	begun, process, server := time.Now(), cpu(), s.cpu()
	in, out := s.info("total_net_input_bytes"), s.info("total_net_output_bytes")
	var lags []time.Duration
	for b.Loop() {
		for i := range 5 {
			lags = append(lags, lag(b, nodes[i%len(nodes)], nodes[(i+1)%len(nodes)]))
		}
	}
	seconds := time.Since(begun).Seconds()
	perNode := seconds * float64(count)
	slices.Sort(lags)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(lags[len(lags)/2].Milliseconds()), "p50-ms")
	b.ReportMetric(float64(lags[len(lags)*99/100].Milliseconds()), "p99-ms")
	b.ReportMetric(100*(cpu()-process).Seconds()/perNode, "%CPU/node")
	b.ReportMetric(100*(s.cpu()-server)/seconds, "%CPU-of-server")
	b.ReportMetric(float64(s.info("total_net_input_bytes")-in)/perNode/1000, "kB/s-sent/node")
	b.ReportMetric(float64(s.info("total_net_output_bytes")-out)/perNode/1000, "kB/s-read/node")
	end()
	adders.Wait()
	b.ReportMetric(float64(added.Load())/perNode, "adds/s/node")
}

// addAll adds so many times every 10 ms until the context ends, and returns how many
// that were.
func addAll(ctx context.Context, n *node, adds int) (all int64) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return all
		case <-tick.C:
			for range adds {
				n.add(int(all*7919%100_000), 1)
				all++
			}
		}
	}
}

// lag is how long it takes until another node counts what a node has added.
func lag(b *testing.B, n, other *node) time.Duration {
	const mark = 200_000
	had, begun := other.count(mark), time.Now()
	n.add(mark, 1)
	for other.count(mark) == had {
		if time.Since(begun) > patience {
			b.Fatal("a mark does not come")
		}
		time.Sleep(time.Millisecond)
	}
	return time.Since(begun)
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

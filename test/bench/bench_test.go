package bench

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

var (
	rounds   = flag.Int("rounds", 5, "how often each server plays; the medians are told")
	messages = flag.Int("messages", 1000, "`messages` for each server and round")
)

// BenchmarkSession is a server that has all it can do.
func BenchmarkSession(b *testing.B) {
	programs := build(b)
	for _, name := range []string{"rules-at-every-stage", "rules-at-rcpt", "example-mx-message"} {
		d := readDialogue(b, name)
		for _, network := range []string{"unix", "tcp"} {
			for _, n := range []int{1, 8, 64} {
				b.Run(fmt.Sprintf("%s/%s/%d", name, network, n), func(b *testing.B) {
					measure(b, startServers(b, programs, network, d), &load{dialogue: d, connections: n, messages: *messages})
				})
			}
		}
	}
}

// The paced load, in which servers mostly wait.
const (
	pacedRate        = 300 // messages a second
	pacedConnections = 32  // at a time
	pacedMessages    = 600 // for each server and round, at most
)

// BenchmarkPaced is a server that mostly waits, for turns that follow each other
// at once or come one by one, as those of SMTP clients far away do.
func BenchmarkPaced(b *testing.B) {
	programs := build(b)
	for _, name := range []string{"rules-at-every-stage", "rules-at-rcpt"} {
		d := readDialogue(b, name)
		for _, spread := range []bool{false, true} {
			b.Run(name+"/"+map[bool]string{false: "at-once", true: "one-by-one"}[spread], func(b *testing.B) {
				measure(b, startServers(b, programs, "unix", d), &load{
					dialogue: d, connections: pacedConnections, messages: min(*messages, pacedMessages),
					every: time.Second * pacedConnections / pacedRate, spread: spread,
				})
			})
		}
	}
}

// sample is one server's round.
type sample struct {
	cpu      time.Duration // for each message
	rate     float64       // messages a second
	p50, p99 time.Duration
}

// measure lets the servers play the load in turns, round by round, and tells
// each one's medians.
func measure(b *testing.B, servers []*server, l *load) {
	b.Helper()
	taken := make([][]sample, len(servers))
	for range *rounds {
		for _, i := range rand.Perm(len(servers)) { // who follows whom tells
			one, err := round(servers[i], l)
			if err != nil {
				b.Fatalf("%s: %v", servers[i].name, err)
			}
			taken[i] = append(taken[i], one)
		}
	}
	for i, s := range servers {
		b.Run(s.name, func(b *testing.B) {
			report(b, taken[i], taken[0]) // nothing is left to be done b.N times
			b.ReportMetric(float64(l.dialogue.waits), "waits/msg")
		})
	}
}

// round plays the load once on one server.
func round(s *server, l *load) (sample, error) {
	before, err := s.cpu()
	if err != nil {
		return sample{}, err
	}
	begin := time.Now()
	times, err := l.play(s)
	if err != nil {
		return sample{}, err
	}
	took := time.Since(begin)
	after, err := s.cpu()
	return sample{
		cpu:  (after - before) / time.Duration(l.messages),
		rate: float64(l.messages) / took.Seconds(),
		p50:  times.percentile(50),
		p99:  times.percentile(99),
	}, err
}

func report(b *testing.B, taken, yardstick []sample) {
	cpu := func(s sample) float64 { return micros(s.cpu) }
	b.ReportMetric(median(taken, cpu), "cpu-µs/msg")
	b.ReportMetric(median(taken, cpu)/median(yardstick, cpu), "xloop")
	b.ReportMetric(median(taken, func(s sample) float64 { return s.rate }), "msg/s")
	b.ReportMetric(median(taken, func(s sample) float64 { return micros(s.p50) }), "p50-µs")
	b.ReportMetric(median(taken, func(s sample) float64 { return micros(s.p99) }), "p99-µs")
	b.ReportMetric(0, "ns/op") // says nothing here
}

func median(samples []sample, figure func(sample) float64) float64 {
	figures := make([]float64, len(samples))
	for i, s := range samples {
		figures[i] = figure(s)
	}
	slices.Sort(figures)
	return figures[len(figures)/2]
}

func micros(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }

package main

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"strings"
	"time"

	"github.com/audit-milter/audit-milter/internal/deltas"
	"github.com/audit-milter/audit-milter/series"
)

// cost is what one second costs.
type cost struct {
	sent, taken float64 // bytes of a node
	applies     float64 // deltas that a node takes
	node        float64 // of one of its processors, for sending and taking
	server      float64 // of one of its processors
	serverOut   float64 // bytes
	memory      float64 // bytes of batches that the server keeps for two minutes: two snapshots
}

const (
	kept  = 2 * time.Minute
	pause = 2 * time.Millisecond // times the nodes, between two looks of one: as internal/cluster has it
)

// node is one of the cluster: what it counts itself and, of one node only, what it
// knows of the others.
type node struct {
	*conn
	name   string
	own    []*series.Series
	total  []*series.Series
	shares []map[string]*series.Series // of each series by node
	read   uint64                      // number of the last batch
}

func newNode(l load, name, server string, now time.Time) (*node, error) {
	c, err := dial(server)
	if err != nil {
		return nil, err
	}
	n := &node{conn: c, name: name}
	for range l.series {
		n.own = append(n.own, newSeries(now))
		n.own[len(n.own)-1].Follow()
	}
	return n, nil
}

func newSeries(now time.Time) *series.Series {
	s, err := series.Define(series.Definition{Name: "clients", Type: series.IP, Interval: 5 * time.Minute, Windows: 6, MaxKeys: 1_000_000})
	if err != nil {
		panic(err) // it is one
	}
	s.Begin(now)
	return s
}

// learns makes the node one that takes what the others tell.
func (n *node) learns(nodes []*node, now time.Time) {
	for range n.own {
		n.total = append(n.total, newSeries(now))
		shares := make(map[string]*series.Series)
		for _, other := range nodes {
			shares[other.name] = newSeries(now)
		}
		n.shares = append(n.shares, shares)
	}
}

// stream is where a node tells what it has of a series.
func (n *node) stream(series int) string {
	return fmt.Sprintf("audit-milter:{mail/series%d}:%s:batches", series, n.name)
}

// counted is what the node counts of the others, in all.
func (n *node) counted(now time.Time) (sum int64) {
	for _, s := range n.total {
		for _, counts := range s.All(now) {
			for _, count := range counts {
				sum += count
			}
		}
	}
	return sum
}

// memory is what the server keeps of the node's streams, in bytes.
func (n *node) memory() (bytes float64, err error) {
	for i := range n.own {
		size, err := n.do("MEMORY", "USAGE", n.stream(i), "SAMPLES", "0")
		if err != nil {
			return 0, err
		}
		used, _ := size.(int) // nil: it has told nothing
		bytes += float64(used)
	}
	return bytes, nil
}

// play plays the ticks on a server of its own.
func play(l load, program string) (c cost, err error) {
	server, err := startServer(program)
	if err != nil {
		return c, err
	}
	defer server.stop()
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	nodes := make([]*node, l.nodes)
	for i := range nodes {
		if nodes[i], err = newNode(l, fmt.Sprintf("mx%03d", i), server.address, now); err != nil {
			return c, err
		}
		defer nodes[i].Close()
	}
	reader := nodes[0]
	reader.learns(nodes[1:], now)
	p := &playing{load: l, nodes: nodes, rand: rand.New(rand.NewPCG(1, 2))}
	p.keys = rand.NewZipf(p.rand, 1.1, 10, uint64(l.keys-1))
	script, err := reader.do("SCRIPT", "LOAD", appendBatch)
	if err != nil {
		return c, err
	}
	p.script = script.(string)
	before, err := reader.usage()
	if err != nil {
		return c, err
	}
	for range l.ticks {
		if err := p.tick(now); err != nil {
			return c, err
		}
		now = now.Add(deltas.Interval)
	}
	if err := p.read(reader, true, now); err != nil { // what is left
		return c, err
	}
	after, err := reader.usage()
	if err != nil {
		return c, err
	}
	if counted := reader.counted(now); counted != p.added {
		return c, fmt.Errorf("%s counts %d of what the others added, and that was %d", reader.name, counted, p.added)
	}
	memory, err := reader.memory()
	if err != nil {
		return c, err
	}
	seconds := l.seconds()
	return cost{
		sent:      float64(p.sent) / seconds / float64(l.nodes),
		taken:     float64(p.taken) / seconds,
		applies:   float64(p.applies) / seconds,
		node:      (p.telling.Seconds()/float64(l.nodes) + p.learning.Seconds()) / seconds,
		server:    (after.cpu - before.cpu) / seconds,
		serverOut: (after.out - before.out) / seconds,
		memory:    memory * float64(l.nodes) / seconds * kept.Seconds(),
	}, nil
}

// appendBatch does what the script of internal/cluster does when nothing is amiss.
const appendBatch = `
redis.call('HMGET', KEYS[2], 'last', 'life')
redis.call('XADD', KEYS[1], ARGV[1]..'-0', 'd', ARGV[2], 'p', ARGV[3])
redis.call('HSET', KEYS[2], 'last', ARGV[1], 'life', 'l')
redis.call('PEXPIRE', KEYS[1], 3600000)
redis.call('PEXPIRE', KEYS[2], 3600000)
return 1`

// playing is what is under way, and what it has cost.
type playing struct {
	load
	nodes []*node
	rand  *rand.Rand
	keys  *rand.Zipf
	last  uint64 // number of the batch before

	played int    // ticks
	script string // appendBatch, as the server names it

	added             int64 // by all but the first
	sent, taken       int64 // by all, by the first
	applies           int64
	telling, learning time.Duration // of all, of the first
}

// tick is what happens in one: all count and tell, then those read whose turn it is.
func (p *playing) tick(now time.Time) error {
	number := uint64(now.UnixMilli())
	for _, n := range p.nodes {
		if err := p.tell(n, number, now); err != nil {
			return err
		}
	}
	p.last = number
	p.played++
	for i, n := range p.nodes {
		if (p.played+i)%p.each() != 0 { // not all at one time
			continue
		}
		if err := p.read(n, i == 0, now); err != nil {
			return err
		}
	}
	return nil
}

// each is in how many ticks a node looks once.
func (l load) each() int {
	return max(1, int(math.Ceil(float64(pause)*float64(l.nodes)/float64(deltas.Interval))))
}

// tell counts on a node what comes in a tick, and sends it.
func (p *playing) tell(n *node, number uint64, now time.Time) error {
	for _, s := range n.own {
		arrivals := p.arrivals()
		if n != p.nodes[0] {
			p.added += int64(arrivals)
		}
		for range arrivals {
			i := p.keys.Uint64()
			s.Add(series.AddrKey(netip.AddrFrom4([4]byte{198, byte(i >> 16), byte(i >> 8), byte(i)})), 1, now)
		}
	}
	began := time.Now()
	var request []byte
	sent := 0
	for i, s := range n.own {
		var all []series.Delta
		s.Deltas(func(d series.Delta) { all = append(all, d) })
		if len(all) > 0 {
			batch := string(deltas.AppendDeltas(nil, all))
			request = appendCommand(request, "EVALSHA", p.script, "2", n.stream(i), n.stream(i)+":state", fmt.Sprint(number), batch, fmt.Sprint(p.last))
			sent++
		}
	}
	p.telling += time.Since(began)
	p.sent += int64(len(request))
	return n.ask(request, sent, nil)
}

// arrivals is how many of a second's adds come in this tick.
func (p *playing) arrivals() int {
	each := float64(p.adds) * deltas.Interval.Seconds()
	n := int(each)
	if p.rand.Float64() < each-float64(n) {
		n++
	}
	return n
}

// read asks for what all others have told since the tick before.
func (p *playing) read(n *node, learns bool, now time.Time) error {
	var request []byte
	for i := range n.own {
		args := []string{"XREAD", "STREAMS"}
		for _, other := range p.nodes {
			if other != n {
				args = append(args, other.stream(i))
			}
		}
		for range len(p.nodes) - 1 {
			args = append(args, fmt.Sprint(n.read, "-0"))
		}
		request = appendCommand(request, args...)
	}
	n.read = p.last
	if !learns {
		return n.ask(request, len(n.own), nil)
	}
	var replies bytes.Buffer
	err := n.ask(request, len(n.own), &replies)
	p.taken += int64(replies.Len())
	if err != nil {
		return err
	}
	began := time.Now()
	err = p.learn(n, newReader(&replies), now)
	p.learning += time.Since(began)
	return err
}

// learn counts what the others have told: in their shares and in the total.
func (p *playing) learn(n *node, replies *reader, now time.Time) error {
	for i := range n.own {
		reply, err := replies.value()
		if err != nil {
			return err
		}
		streams, _ := reply.([]any) // nil: nobody has told anything
		for _, s := range streams {
			stream := s.([]any)
			name := strings.Split(stream[0].(string), ":")[2]
			for _, e := range stream[1].([]any) {
				fields := e.([]any)[1].([]any)
				all, err := deltas.DecodeDeltas([]byte(fields[1].(string)))
				if err != nil {
					return err
				}
				for d := range all {
					p.applies++
					n.shares[i][name].Merge(d, now)
					n.total[i].Merge(d, now)
				}
			}
		}
	}
	return nil
}

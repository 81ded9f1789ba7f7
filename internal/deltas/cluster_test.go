package deltas

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/audit-milter/audit-milter/internal/config"
	"github.com/audit-milter/audit-milter/internal/short"
	"github.com/audit-milter/audit-milter/policy"
	"github.com/audit-milter/audit-milter/series"
)

const clusterPolicy = `
cluster: {valkey: {addresses: "127.0.0.1:6379"}}
series:
  clients: {type: ip, interval: 1m, windows: 4, add: {at: connect}, replicate: cluster}
  users: {type: string, interval: 30s, windows: 3, add: {at: mail, key: sasl_username}, replicate: cluster}
  networks: {type: string, interval: 1m, windows: 3, distinct: client_address, add: {at: mail, key: sasl_username}, replicate: cluster}
  names: {type: ip, interval: 1m, windows: 2, distinct: sasl_username, add: {at: mail}, replicate: cluster}
rules:
  - {name: shared, at: mail, if: {series: names, mask: {ipv4: 24, ipv6: 64}, above: 3}, then: tempfail}
`

// bus is a server in memory that keeps what the nodes publish, by node and series.
type bus struct {
	away    bool
	streams map[subject][]entry // in the order of their numbers
	latest  map[subject]entry   // the snapshots
	before  map[subject]uint64  // the number of the snapshot before
	last    map[subject]uint64  // the number of the last entry, as the node says: what was dropped at the end is missed by it
}

type subject struct{ node, series string }

// entry is what one batch has of a series, or a snapshot with all up to its number.
type entry struct {
	number, prev uint64
	deltas       []series.Delta
}

func newBus() *bus {
	return &bus{streams: make(map[subject][]entry), latest: make(map[subject]entry), before: make(map[subject]uint64), last: make(map[subject]uint64)}
}

// append takes an entry unless it or a later one is there.
func (b *bus) append(of subject, e entry) {
	if stream := b.streams[of]; len(stream) == 0 || stream[len(stream)-1].number < e.number {
		b.streams[of] = append(stream, e)
	}
}

func (b *bus) replace(of subject, e entry) {
	b.streams[of] = slices.DeleteFunc(b.streams[of], func(old entry) bool { return old.number <= b.before[of] })
	b.before[of] = b.latest[of].number
	b.latest[of] = e
}

// op is what has happened to a key on a node: it was added to, or, without a value and
// an amount, taken back.
type op struct {
	series, key string
	start       int64
	amount      int64
	value       string
}

func (o op) removes() bool { return o.amount == 0 && o.value == "" }

// counted is what a node counts, by series and key, window and value.
type counted map[[2]string]map[int64]map[string]int64

func (c counted) apply(o op) {
	k := [2]string{o.series, o.key}
	if o.removes() {
		delete(c, k)
		return
	}
	if c[k] == nil {
		c[k] = make(map[int64]map[string]int64)
	}
	if c[k][o.start] == nil {
		c[k][o.start] = make(map[string]int64)
	}
	c[k][o.start][o.value] += o.amount
}

// batch is what a node has not published yet.
type batch struct {
	number  uint64
	entries map[subject]entry
	ops     []op
}

// member is a node of the cluster, without sessions.
type member struct {
	*testing.T
	name   string
	bus    *bus
	engine *policy.Engine
	*Collector

	ops     []op // since the last batch
	waiting []batch
	told    map[string]uint64 // by series, the number of the entry before
	wants   bool              // a snapshot
	taking  map[subject]entry // the snapshot that is under way
	taken   []batch           // the snapshot that waits, with the ops of what was dropped
	dropped bool              // the server lacks something until it has a snapshot
	read    map[subject]uint64
	heard   map[subject]uint64 // up to where its wishes were
	sent    counted            // what the server has
}

// start starts the node with what the server has of it.
func (m *member) start(conf *policy.Policy, now time.Time) {
	var err error
	if m.engine, err = policy.NewEngine(conf, policy.Options{Start: now}); err != nil {
		m.Fatal(err)
	}
	m.ops, m.waiting, m.taking, m.taken, m.wants = nil, nil, nil, nil, true
	m.told, m.read, m.heard = make(map[string]uint64), make(map[subject]uint64), make(map[subject]uint64)
	last := uint64(0)
	for _, k := range m.engine.Kept() {
		of := subject{m.name, k.Definition.Name}
		m.catchUp(k.Lasting, of, "", now)
		m.told[of.series] = m.read[of]
		last = max(last, m.read[of])
	}
	clear(m.read)
	m.Collector = New(last, m)
	m.step = 20
	m.collect(now)
}

func (m *member) WantsSnapshot() bool { return m.wants }

func (m *member) collect(now time.Time) { m.Collect(m.engine, now) }

// Take publishes a batch, or lets it wait.
func (m *member) Take(b *Batch) {
	own := batch{b.Number, make(map[subject]entry), m.ops}
	m.ops = nil
	if b.Begin {
		m.wants, m.taking = false, make(map[subject]entry)
	}
	for _, s := range b.Series {
		of := subject{m.name, s.Definition.Name}
		var news, all []series.Delta
		for _, d := range s.Deltas {
			if d.For != series.Newer {
				news = append(news, d)
			}
			if d.For != series.Older {
				all = append(all, d)
			}
		}
		if news != nil {
			own.entries[of] = entry{b.Number, m.told[of.series], news}
			m.told[of.series] = b.Number
		}
		if m.taking != nil {
			m.taking[of] = entry{b.Number, 0, append(m.taking[of].deltas, all...)}
		}
	}
	m.waiting = append(m.waiting, own)
	if b.End {
		snapshot := batch{b.Number, make(map[subject]entry), nil}
		for of, e := range m.taking {
			snapshot.entries[of] = entry{b.Number, 0, e.deltas}
		}
		m.taking, m.taken = nil, slices.Concat(m.lost(), []batch{snapshot})
	}
}

// lost are the batches that were dropped and that no snapshot has yet.
func (m *member) lost() []batch {
	if len(m.taken) == 0 {
		return nil
	}
	return m.taken[:len(m.taken)-1]
}

// drop forgets what waits: a snapshot has to tell it.
func (m *member) drop() {
	m.taken, m.taking = slices.Concat(m.lost(), m.waiting, []batch{{}}), nil
	m.waiting, m.wants, m.dropped = nil, true, true
}

// publish writes what waits. The answer may get lost, and it is all sent again.
func (m *member) publish(r *rand.Rand) {
	if m.bus.away {
		return
	}
	for range 1 + r.IntN(2) {
		for _, b := range m.waiting {
			for of, e := range b.entries {
				m.bus.append(of, e)
			}
		}
	}
	for _, b := range m.waiting {
		m.acknowledge(b)
	}
	m.waiting = nil
	if n := len(m.taken); n > 0 && m.taken[n-1].number > 0 {
		for of, e := range m.taken[n-1].entries {
			m.bus.replace(of, e)
		}
		m.taken, m.dropped = nil, false
	}
	for name, number := range m.told {
		m.bus.last[subject{m.name, name}] = number
	}
}

// acknowledge notes what the server has. What was dropped comes back by the snapshot,
// and was older.
func (m *member) acknowledge(b batch) {
	for _, old := range m.lost() {
		for _, o := range old.ops {
			m.sent.apply(o)
		}
	}
	if len(m.taken) > 0 {
		m.taken = m.taken[len(m.taken)-1:]
	}
	for _, o := range b.ops {
		m.sent.apply(o)
	}
}

// counts is what the node itself counts now.
func (m *member) counts() counted {
	all := make(counted)
	for k, windows := range m.sent {
		all[k] = make(map[int64]map[string]int64)
		for start, values := range windows {
			all[k][start] = maps.Clone(values)
		}
	}
	ops := m.ops
	for _, b := range slices.Backward(slices.Concat(m.lost(), m.waiting)) {
		ops = append(slices.Clone(b.ops), ops...)
	}
	for _, o := range ops {
		all.apply(o)
	}
	return all
}

// poll reads what others have published; some of it may be read twice.
func (m *member) poll(nodes []*member, now time.Time) {
	for _, k := range m.engine.Kept() {
		for _, other := range nodes {
			if of := (subject{other.name, k.Definition.Name}); other != m && !m.bus.away {
				m.catchUp(k.Lasting, of, other.name, now)
			}
		}
	}
}

// catchUp reads a node's series up to its end, or as far as there is no gap.
func (m *member) catchUp(l *policy.Lasting, of subject, node string, now time.Time) {
	snapshot := m.bus.latest[of]
	if m.read[of] == 0 {
		m.begin(l, of, node, snapshot, now)
	}
	for _, e := range m.bus.streams[of] {
		if e.number > m.read[of] && e.prev > m.read[of] {
			if snapshot.number < e.prev {
				return // it is still to come
			}
			m.begin(l, of, node, snapshot, now)
		}
		if e.number > m.read[of] {
			m.merge(l, of, node, e, now)
		}
	}
	if last := m.bus.last[of]; m.read[of] < last && last <= snapshot.number {
		m.begin(l, of, node, snapshot, now)
	}
}

func (m *member) begin(l *policy.Lasting, of subject, node string, snapshot entry, now time.Time) {
	if node == "" { // what this one has told in an earlier life
		m.merge(l, of, node, snapshot, now)
		return
	}
	share := l.Renew(node)
	m.put(l, of, node, snapshot, now, func(d series.Delta) { share.Merge(d, now) })
	share.Done(now)
}

func (m *member) merge(l *policy.Lasting, of subject, node string, e entry, now time.Time) {
	m.put(l, of, node, e, now, func(d series.Delta) { l.MergeShare(node, d, now) })
}

func (m *member) put(l *policy.Lasting, of subject, node string, e entry, now time.Time, put func(series.Delta)) {
	for _, d := range e.deltas {
		if d.IsWish() && node != "" {
			if e.number <= m.heard[of] {
				continue
			}
			m.ops = append(m.ops, m.removals(l, d)...)
			l.MergeShare(node, d, now)
		}
		put(d)
	}
	m.read[of] = e.number
	m.heard[of] = max(m.heard[of], e.number)
}

// removals are those of the keys that a wish is for.
func (m *member) removals(l *policy.Lasting, wish series.Delta) (ops []op) {
	name := l.Definition.Name
	if !wish.Key.Addr().IsValid() || int(wish.Bits) == wish.Key.Addr().BitLen() {
		return []op{{series: name, key: wish.Key.String()}}
	}
	block := netip.PrefixFrom(wish.Key.Addr(), int(wish.Bits))
	for k := range m.counts() {
		if addr, err := netip.ParseAddr(k[1]); k[0] == name && err == nil && block.Contains(addr) {
			ops = append(ops, op{series: name, key: k[1]})
		}
	}
	return ops
}

// cluster is some nodes on one clock.
type cluster struct {
	*testing.T
	rand  *rand.Rand
	conf  *policy.Policy
	now   time.Time
	bus   *bus
	nodes []*member
}

func newCluster(t *testing.T, seed uint64) *cluster {
	conf, err := config.Parse("policy.yaml", []byte(clusterPolicy))
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{t, rand.New(rand.NewPCG(seed, 0)), conf.Policy, time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC), newBus(), nil}
	for i := range 3 {
		m := &member{T: t, name: fmt.Sprint("mx", i), bus: c.bus, sent: make(counted)}
		m.start(c.conf, c.now)
		c.nodes = append(c.nodes, m)
	}
	return c
}

// act does one thing that happens to a cluster.
func (c *cluster) act() {
	m := c.nodes[c.rand.IntN(len(c.nodes))]
	switch n := c.rand.IntN(1000); {
	case n < 600:
		c.add(m)
	case n < 620:
		c.remove(m)
	case n < 700:
		m.collect(c.now)
	case n < 800:
		m.publish(c.rand)
	case n < 900:
		m.poll(c.nodes, c.now)
	case n < 960:
		c.now = c.now.Add(time.Duration(c.rand.Int64N(int64(5 * time.Second))))
	case n < 970:
		m.wants = true
	case n < 975:
		c.bus.away = !c.bus.away
	case n < 980:
		m.drop()
	case n < 983:
		c.loseData()
	case n < 990:
		c.kill(m)
	default:
		clear(m.read) // it reads all again
	}
}

func (c *cluster) add(m *member) {
	kept := m.engine.Kept()
	k := kept[c.rand.IntN(len(kept))]
	key := series.TextKey(fmt.Sprint("user", c.rand.IntN(10)))
	if k.Definition.Type == series.IP {
		key = series.AddrKey(netip.AddrFrom4([4]byte{192, 0, byte(c.rand.IntN(2)), byte(c.rand.IntN(6))}))
	}
	o := op{series: k.Definition.Name, key: key.String(), start: c.now.Truncate(k.Definition.Interval).Unix()}
	if k.Of == nil {
		for o.amount == 0 {
			o.amount = c.rand.Int64N(9) - 2
		}
		k.Counter.(*series.Series).Add(key, o.amount, c.now)
	} else {
		o.value, o.amount = fmt.Sprint("value", c.rand.IntN(20)), 1
		k.Show(key, o.value, c.now)
	}
	m.ops = append(m.ops, o)
}

func (c *cluster) remove(m *member) {
	kept := m.engine.Kept()
	k := kept[c.rand.IntN(len(kept))]
	if k.Definition.Name == "clients" && c.rand.IntN(3) == 0 {
		block := netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, byte(c.rand.IntN(2)), 0}), 24+c.rand.IntN(6))
		m.ops = append(m.ops, m.removals(k.Lasting, series.Wish(series.AddrKey(block.Addr()), uint8(block.Bits())))...)
		k.RemoveBlock(block, c.now)
		return
	}
	key := series.TextKey(fmt.Sprint("user", c.rand.IntN(10)))
	if k.Definition.Type == series.IP {
		key = series.AddrKey(netip.AddrFrom4([4]byte{192, 0, byte(c.rand.IntN(2)), byte(c.rand.IntN(6))}))
	}
	m.ops = append(m.ops, op{series: k.Definition.Name, key: key.String()})
	k.Remove(key, c.now)
}

// loseData lets the server begin anew: all tell it all again.
func (c *cluster) loseData() {
	fresh := newBus()
	fresh.away = c.bus.away
	*c.bus = *fresh
	for _, m := range c.nodes {
		m.drop()
	}
}

// kill ends a node at once, and starts it again: what the server has not got is lost.
// While it lacks a part it has no use for the rest.
func (c *cluster) kill(m *member) {
	if !m.dropped && !c.bus.away {
		m.start(c.conf, c.now)
	}
}

// settle lets all hear of all.
func (c *cluster) settle() {
	c.bus.away = false
	for range 60 {
		for _, m := range c.nodes {
			m.collect(c.now)
			m.publish(c.rand)
			m.poll(c.nodes, c.now)
		}
	}
}

// compare compares totals and parts of all nodes with what they have counted.
func (c *cluster) compare() (compared int) {
	own := make(map[string]counted)
	for _, m := range c.nodes {
		own[m.name] = m.counts()
	}
	for _, m := range c.nodes {
		for _, k := range m.engine.Kept() {
			compared += c.same(fmt.Sprint("the total on ", m.name), k.Counter, slices.Collect(maps.Values(own)))
			for node, counts := range own {
				if node == m.name {
					c.sameOwn(m, k)
					c.same(fmt.Sprint("the ledger of ", node), k.Own, []counted{counts})
				} else if share := k.Share(node); share != nil {
					c.same(fmt.Sprintf("the share of %s on %s", node, m.name), share, []counted{counts})
				}
			}
			for _, mask := range k.Masks { // what was removed stays in the blocks
				key := series.AddrKey(netip.MustParseAddr("192.0.1.0"))
				got, _ := k.Counter.Counts(nil, key, mask, c.now)
				want, _ := c.nodes[0].engine.Counter(k.Definition.Name).Counts(nil, key, mask, c.now)
				if !slices.Equal(got, want) {
					c.Errorf("%s counts %v in a block, and %s %v", m.name, got, c.nodes[0].name, want)
				}
			}
		}
	}
	return compared
}

// sameOwn compares what a node's own part is now with its ledger. It is never below 0
// but where the total is.
func (c *cluster) sameOwn(m *member, k policy.Kept) {
	for key, total := range k.Counter.All(c.now) {
		want, _ := k.Own.Counts(nil, key, series.Host, c.now)
		for age := range want {
			want[age] = max(want[age], min(total[age], 0))
		}
		if got, _ := k.Share("").Counts(nil, key, series.Host, c.now); !slices.Equal(got, want) {
			c.Errorf("of %s %s has itself counted %v for %s, want %v", k.Definition.Name, m.name, got, key, want)
		}
	}
}

// same compares all keys of a series.
func (c *cluster) same(what string, got policy.Counter, parts []counted) (compared int) {
	def := got.Definition()
	want := make(map[string][]int64)
	for age := range def.Windows {
		start := c.now.Truncate(def.Interval).Add(-time.Duration(age) * def.Interval).Unix()
		values := make(map[string]map[string]bool)
		for _, part := range parts {
			for k, windows := range part {
				if k[0] != def.Name {
					continue
				}
				if want[k[1]] == nil {
					want[k[1]], values[k[1]] = make([]int64, def.Windows), nil
				}
				for value, n := range windows[start] {
					if value == "" {
						want[k[1]][age] += n
					} else if values[k[1]] == nil {
						values[k[1]] = map[string]bool{value: true}
					} else {
						values[k[1]][value] = true
					}
				}
			}
		}
		for k, shown := range values {
			want[k][age] += int64(len(shown))
		}
	}
	maps.DeleteFunc(want, func(_ string, counts []int64) bool {
		return !slices.ContainsFunc(counts, func(n int64) bool { return n != 0 })
	})
	have := make(map[string][]int64)
	for k, counts := range got.All(c.now) {
		have[k.String()] = slices.Clone(counts)
	}
	if !maps.EqualFunc(have, want, slices.Equal) {
		c.Errorf("%s of %s: %v, want %v", what, def.Name, have, want)
	}
	return len(want)
}

// Nodes count, remove keys, fall silent, lose what waits, die and come back, and the
// server goes away and loses its data; whenever all have heard of all, each has the sum.
func TestEveryNodeHasTheSum(t *testing.T) {
	for seed := range uint64(short.Part(8, 2)) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			c := newCluster(t, seed)
			compared := 0
			for range 20 {
				for range 250 {
					c.act()
				}
				c.settle()
				compared += c.compare()
				if t.Failed() {
					return
				}
			}
			if compared < 500 {
				t.Errorf("%d keys were compared: that shows little", compared)
			}
		})
	}
}

package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/audit-milter/audit-milter/internal/deltas"
	"github.com/audit-milter/audit-milter/policy"
	"github.com/audit-milter/audit-milter/series"
)

func TestThreeNodesCountAsOne(t *testing.T) {
	s := newServer(t)
	nodes := threeNodes(t, s.path)
	for i, n := range nodes {
		n.add(1, 1)
		n.add(2+i, int64(10*(i+1)))
		n.show("alice", fmt.Sprintf("192.0.2.%d", i+1))
		n.show("alice", "192.0.2.99")
	}
	expect(t, nodes, map[int]int64{1: 3, 2: 10, 3: 20, 4: 30})
	eventually(t, func() error {
		for _, n := range nodes {
			if got := n.text("users", "alice"); got != 4 {
				return fmt.Errorf("%s counts %d addresses, want 4", n.name, got)
			}
			if got := n.text("managed", "alice"); got != 2 {
				return fmt.Errorf("%s counts %d messages, want its own 2", n.name, got)
			}
		}
		return nil
	})
	for i, n := range nodes {
		own := n.engine.Lasting("clients").Share("")
		if got := own.Count(addr(1), series.Host, 0, 2, n.now()); got != 1 {
			t.Errorf("node %d counts %d itself, want 1", i, got)
		}
		if got := n.engine.Counter("clients").Stats().Adds; got != 2 {
			t.Errorf("node %d has %d adds, want its own 2", i, got)
		}
	}
}

func TestOnlyAManagerReadsWhatIsForManagers(t *testing.T) {
	s := newServer(t)
	manager := newNode(t, s.path, "manager", nodeOptions{manager: true})
	mx := newNode(t, s.path, "mx1", nodeOptions{})
	manager.others(1)
	mx.others(1)
	mx.show("alice", "192.0.2.1")
	manager.show("alice", "192.0.2.2")
	eventually(t, func() error {
		if got := manager.text("managed", "alice"); got != 2 {
			return fmt.Errorf("the manager counts %d, want 2", got)
		}
		if got := mx.text("users", "alice"); got != 2 {
			return fmt.Errorf("the node counts %d addresses, want 2", got)
		}
		return nil
	})
	if got := mx.text("managed", "alice"); got != 1 {
		t.Errorf("the node counts %d, want its own", got)
	}
	if role := mx.cluster.Status().Nodes[0].Role; role != "manager" {
		t.Errorf("the node takes the manager for a %s", role)
	}
}

func TestPenaltiesReachAllNodesOnce(t *testing.T) {
	s := newServer(t)
	nodes := threeNodes(t, s.path)
	subject := policy.Subject{Network: netip.MustParsePrefix("198.51.100.1/32")}
	nodes[0].engine.SetPenalty(policy.Penalty{Rule: "flood", Subject: subject, Until: nodes[0].now().Add(5 * time.Minute)}, nodes[0].now())
	running := func(want int) {
		t.Helper()
		eventually(t, func() error {
			for _, n := range nodes {
				if got := len(n.engine.Penalties(n.now())); got != want {
					return fmt.Errorf("%s has %d penalties, want %d", n.name, got, want)
				}
			}
			return nil
		})
	}
	running(1)
	for _, n := range nodes { // those who have it from others do not tell it in their snapshots
		n.snapshot()
	}
	late := newNode(t, s.path, "late", nodeOptions{})
	nodes = append(nodes, late)
	running(1)
	for _, other := range late.cluster.Status().Nodes {
		parts, err := s.do("XRANGE", seriesKeys("test", "", other.Name).snapshot, "-", "+").AsXRange()
		if err != nil {
			t.Fatal(err)
		}
		if told := strings.Contains(fmt.Sprint(parts), "flood"); told != (other.Name == "mx1") {
			t.Errorf("%s tells the penalty: %v", other.Name, told)
		}
	}
	if _, err := nodes[2].engine.RemovePenalty("flood", "198.51.100.1", nodes[2].now()); err != nil {
		t.Fatal(err)
	}
	running(0)
}

func TestAPenaltyThatAnotherNodeHasEndedDoesNotComeBackAtARestart(t *testing.T) {
	s := newServer(t)
	a, b := twoNodes(t, s.path, "a", "b")
	running := func(n *node, want int) {
		t.Helper()
		eventually(t, func() error {
			if got := len(n.engine.Penalties(n.now())); got != want {
				return fmt.Errorf("%s has %d penalties, want %d", n.name, got, want)
			}
			return nil
		})
	}
	give := func(n *node, key string) {
		subject := policy.Subject{Network: netip.MustParsePrefix(key + "/32")}
		n.engine.SetPenalty(policy.Penalty{Rule: "flood", Subject: subject, Until: n.now().Add(5 * time.Minute)}, n.now())
	}
	has := func(n *node) (keys []string) {
		for _, p := range n.engine.Penalties(n.now()) {
			keys = append(keys, p.Subject.String())
		}
		slices.Sort(keys)
		return keys
	}
	give(a, "198.51.100.1")
	running(b, 1)
	if _, err := b.engine.RemovePenalty("flood", "198.51.100.1", b.now()); err != nil {
		t.Fatal(err)
	}
	running(a, 0)
	give(a, "198.51.100.2") // it comes behind the end of the first
	running(b, 1)
	a.settled()
	a.stop()
	a = newNode(t, s.path, "a", nodeOptions{})
	a.others(1)
	a.settled()
	give(b, "198.51.100.3") // who has read this has read the end before it
	eventually(t, func() error {
		if !slices.Contains(has(a), "198.51.100.3") {
			return fmt.Errorf("a has %v", has(a))
		}
		return nil
	})
	for _, n := range []*node{a, b} {
		if all := has(n); !slices.Equal(all, []string{"198.51.100.2", "198.51.100.3"}) {
			t.Errorf("%s has %v, want those of 198.51.100.2 and .3 alone", n.name, all)
		}
	}
}

// What others have ended comes before what this node has told, and ends what its disk has kept.
func TestEndsOfPenaltiesComeBeforeAllElseAtARestart(t *testing.T) {
	s := newServer(t)
	a, b := twoNodes(t, s.path, "a", "b")
	give := func(n *node, host string) {
		subject := policy.Subject{Network: netip.MustParsePrefix(host + "/32")}
		n.engine.SetPenalty(policy.Penalty{Rule: "flood", Subject: subject, Until: n.now().Add(5 * time.Minute)}, n.now())
	}
	penalties := func(n *node) int { return len(n.engine.Penalties(n.now())) }
	give(a, "198.51.100.1")
	give(a, "198.51.100.2")
	eventually(t, func() error {
		if got := penalties(b); got != 2 {
			return fmt.Errorf("b has %d penalties, want 2", got)
		}
		return nil
	})
	a.settled()
	a.stop()
	for _, host := range []string{"198.51.100.1", "198.51.100.2"} {
		if ran, err := b.engine.RemovePenalty("flood", host, b.now()); err != nil || !ran {
			t.Fatal(ran, err)
		}
	}
	b.snapshot() // it has the ends
	p := newProxy(t, s)
	p.closed.Store(true)
	a = newNode(t, p.address(), "a", nodeOptions{})
	a.stop() // from here on it reads when the test says so
	give(a, "198.51.100.2")
	p.closed.Store(false)
	l := &link{of: &a.cluster.Options}
	t.Cleanup(l.close)
	r := newReader(a.cluster, l)
	for _, step := range []func(context.Context) error{r.recall, r.beat, r.join} {
		if err := step(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if got := penalties(a); got != 0 {
		t.Errorf("%d penalties run, want none: b has ended them", got)
	}
}

func TestTheFirstLookAtTheServerIsWaitedForWhileItAnswers(t *testing.T) {
	s := newServer(t)
	a := newNode(t, s.path, "a", nodeOptions{})
	a.cluster.AwaitLook(time.Hour)
	if !newReader(a.cluster, nil).hasJoined() {
		t.Errorf("a has not read what the server has\n%s", a.log)
	}
	s.cmd.Process.Signal(syscall.SIGSTOP) // it takes connections, and says nothing
	b := newNode(t, s.path, "b", nodeOptions{})
	b.cluster.AwaitLook(time.Millisecond)
	s.kill()
	c := newNode(t, s.path, "c", nodeOptions{})
	c.cluster.AwaitLook(time.Hour) // nobody takes connections
}

func TestARemovedKeyIsRemovedEverywhereOnce(t *testing.T) {
	s := newServer(t)
	nodes := threeNodes(t, s.path)
	for i, n := range nodes {
		n.add(1, 10)
		n.add(2, int64(i))
		n.show("alice", fmt.Sprintf("192.0.2.%d", i+1))
	}
	expect(t, nodes, map[int]int64{1: 30, 2: 3})
	if !nodes[1].engine.Lasting("clients").Remove(addr(1), nodes[1].now()) {
		t.Error("there was nothing to remove")
	}
	nodes[2].engine.Lasting("users").Remove(series.TextKey("alice"), nodes[2].now())
	expect(t, nodes, map[int]int64{1: 0, 2: 3})
	eventually(t, func() error {
		for _, n := range nodes {
			if got := n.text("users", "alice"); got != 0 {
				return fmt.Errorf("%s counts %d addresses, want none", n.name, got)
			}
		}
		return nil
	})
	nodes[0].add(1, 5)
	expect(t, nodes, map[int]int64{1: 5, 2: 3})
	eventually(t, func() error { // the wish was granted, and the server knows
		n, err := s.do("HLEN", clusterKey("test", "wishes:mx1")).AsInt64()
		if err == nil && n != 3 { // those of two nodes, and since when this one is there
			err = fmt.Errorf("%d wishes are noted as granted, want 3", n)
		}
		return err
	})
	nodes[0].settled()
	nodes[0].stop()
	nodes[0] = newNode(t, s.path, "mx1", nodeOptions{})
	nodes[0].others(2)
	expect(t, nodes, map[int]int64{1: 5, 2: 3})
}

func TestANodeThatIsStartedAgainCountsOn(t *testing.T) {
	s := newServer(t)
	nodes := threeNodes(t, s.path)
	for i, n := range nodes {
		n.add(1, int64(i+1))
	}
	expect(t, nodes, map[int]int64{1: 6})
	for round := range 3 {
		n := nodes[round]
		if round == 1 {
			n.snapshot()
			n.add(2, 1) // what comes behind the snapshot
			expect(t, nodes, map[int]int64{1: 9, 2: 1})
		}
		n.settled()
		n.stop()
		nodes[round] = newNode(t, s.path, n.name, nodeOptions{})
		nodes[round].add(1, 3)
		nodes[round].others(2)
		want := map[int]int64{1: int64(6 + 3*(round+1))}
		if round > 0 {
			want[2] = 1
		}
		expect(t, nodes, want)
	}
}

// Who hears that a node was started anew reads its part again, from a snapshot that lacks
// what the node has told since then. It counts no less meanwhile.
func TestAPartThatIsReadAgainCountsNoLessMeanwhile(t *testing.T) {
	s := newServer(t)
	reads := newNode(t, s.path, "mx1", nodeOptions{})
	reads.stop() // from here on it reads when the test says so
	l := &link{of: &reads.cluster.Options}
	t.Cleanup(l.close)
	r := newReader(reads.cluster, l)
	counts := func(hearsWhoIsThere bool) int64 {
		t.Helper()
		r.looked, r.beaten = time.Time{}, r.Now()
		if hearsWhoIsThere {
			r.beaten = time.Time{}
		}
		if err := r.tick(t.Context()); err != nil {
			t.Fatal(err)
		}
		return reads.count(1)
	}
	mx := newNode(t, s.path, "mx2", nodeOptions{})
	tells := func(total int64) {
		t.Helper()
		mx.add(1, total-mx.count(1))
		eventually(t, func() error {
			if got := counts(false); got != total {
				return fmt.Errorf("the node counts %d, want %d\n%s", got, total, reads.log)
			}
			return nil
		})
	}
	mx.snapshot()
	counts(true)
	tells(10)
	mx.settled()
	mx.stop()
	mx = newNode(t, s.path, "mx2", nodeOptions{})
	mx.snapshot()
	tells(20)
	if got := counts(true); got != 20 {
		t.Errorf("the node counts %d when it hears of a restart, want 20 as before", got)
	}
	mx.settled()
	mx.stop()
	nodes := clusterKey("test", "nodes") // says that it is there before it has told anything
	said, err := s.do("HGET", nodes, "mx2").ToString()
	if err != nil {
		t.Fatal(err)
	}
	s.do("HSET", nodes, "mx2", strings.Replace(said, mx.cluster.incarnation, "another life", 1))
	if got := counts(true); got != 20 {
		t.Errorf("the node counts %d when it hears of one that has only begun, want 20 as before", got)
	}
}

func TestPersistThatIsTurnedOnLosesNoCounts(t *testing.T) {
	s := newServer(t)
	a, b := twoNodes(t, s.path, "a", "b")
	a.add(1, 10)
	expect(t, []*node{a, b}, map[int]int64{1: 10})
	a.settled()
	a.stop()
	a = newNode(t, s.path, "a", nodeOptions{persist: true})
	a.others(1)
	a.settled()
	a.add(1, 1)
	expect(t, []*node{a, b}, map[int]int64{1: 11})
}

func TestWhatWasRestoredIsNotReadBackFromTheServer(t *testing.T) {
	s := newServer(t)
	a, b := newNode(t, s.path, "a", nodeOptions{}), newNode(t, s.path, "b", nodeOptions{})
	b.others(1)
	a.add(1, 10)
	expect(t, []*node{b}, map[int]int64{1: 10})
	a.settled()
	a.stop()
	a = newNode(t, s.path, "a", nodeOptions{persist: true, link: func(o *Options) { o.Restored = map[string]bool{"clients": true} }})
	a.add(1, 7) // it stands for what was restored
	a.others(1)
	a.settled()
	expect(t, []*node{a, b}, map[int]int64{1: 7})
}

func TestTheServerIsKilledAndComesBack(t *testing.T) {
	for _, name := range []string{"with its data", "with older data", "without its data"} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			nodes := threeNodes(t, s.path)
			for i, n := range nodes {
				n.add(1, 1)
				n.add(2+i, 7)
			}
			backup := s.backup()
			nodes[1].add(4, 1)
			expect(t, nodes, map[int]int64{1: 3, 2: 7, 3: 7, 4: 8})
			s.kill()
			if name != "with its data" {
				s.wipe()
			}
			if name == "with older data" {
				s.restore(backup)
			}
			for _, n := range nodes {
				n.add(1, 10)
			}
			eventually(t, func() error {
				if nodes[0].cluster.Status().Error == "" {
					return fmt.Errorf("the node has not noticed that the server is away")
				}
				return nil
			})
			if got := nodes[0].count(1); got != 13 {
				t.Errorf("without the server a node counts %d, want 13: what it knew and its own", got)
			}
			s.start()
			expect(t, nodes, map[int]int64{1: 33, 2: 7, 3: 7, 4: 8})
			late := newNode(t, s.path, "late", nodeOptions{})
			expect(t, append(nodes, late), map[int]int64{1: 33, 2: 7, 3: 7, 4: 8})
		})
	}
}

func TestTheServerForgetsAllWhileNobodyCounts(t *testing.T) {
	s := newServer(t)
	nodes := threeNodes(t, s.path)
	nodes[0].add(1, 5)
	expect(t, nodes, map[int]int64{1: 5})
	nodes[0].settled()
	s.do("FLUSHALL")
	late := newNode(t, s.path, "late", nodeOptions{})
	expect(t, append(nodes, late), map[int]int64{1: 5})

	nodes[0].stop() // and its counts stay where they are known
	s.do("FLUSHALL")
	later := newNode(t, s.path, "later", nodeOptions{})
	later.others(3)
	later.add(1, 1)
	expect(t, append(nodes[1:], late), map[int]int64{1: 6})
	expect(t, []*node{later}, map[int]int64{1: 1})
}

func TestANodeThatMissesBatchesStartsWithASnapshot(t *testing.T) {
	s := newServer(t)
	p := newProxy(t, s)
	away := newNode(t, p.address(), "away", nodeOptions{})
	mx := newNode(t, s.path, "mx1", nodeOptions{})
	away.others(1)
	mx.others(1)
	mx.add(1, 1)
	expect(t, []*node{mx, away}, map[int]int64{1: 1})
	p.closed.Store(true)
	p.cut()
	away.add(1, 100)
	mx.add(1, 10)
	mx.snapshot()
	mx.add(2, 10)
	mx.snapshot()
	mx.snapshot()
	mx.settled()
	if n, _ := s.do("XLEN", seriesKeys("test", "clients", "mx1").batches).AsInt64(); n > 1 {
		t.Fatalf("%d batches are left, beside the one with which a snapshot begins: the node will miss none", n)
	}
	p.closed.Store(false)
	expect(t, []*node{mx, away}, map[int]int64{1: 111, 2: 10}) // though nothing new comes
	mx.add(2, 1)
	expect(t, []*node{mx, away}, map[int]int64{1: 111, 2: 11})
}

// Adds go on while connections are slow, cut anywhere, and what came through them comes
// again: at the end all counts are right.
func TestABadNetworkLosesAndRepeatsNothing(t *testing.T) {
	s := newServer(t)
	p := newProxy(t, s)
	nodes := threeNodes(t, p.address())
	p.cuts.Store(true)
	p.repeats.Store(true)
	p.delay.Store(int64(time.Millisecond))
	p.cut()
	want := make(map[int]int64)
	for round := range 100 {
		for i, n := range nodes {
			for k := range 20 {
				n.add(k*7+i, int64(round%3+1))
				want[k*7+i] += int64(round%3 + 1)
			}
		}
		if round%10 == 0 {
			p.cut()
		}
		time.Sleep(20 * time.Millisecond) // the adds are to meet many connections
	}
	p.cuts.Store(false)
	p.repeats.Store(false)
	p.cut()
	if cut, repeated := p.wasCut.Load(), p.repeated.Load(); cut < 10 || repeated < 10 {
		t.Errorf("%d connections were cut by bytes, %d repeated: that shows little", cut, repeated)
	}
	expect(t, nodes, want)
	late := newNode(t, s.path, "late", nodeOptions{})
	expect(t, append(nodes, late), want)
}

// Over a link that takes longer for a mebibyte than the server may for an answer, a node
// tells many counts and reads those of another, each within twenty seconds.
func TestASlowLinkTakesSnapshotsOfAnySize(t *testing.T) {
	s := newServer(t)
	p := newProxy(t, s)
	p.rate.Store(50_000)
	const each = 60_000
	a, b := newNode(t, s.path, "a", nodeOptions{}), newNode(t, p.address(), "b", nodeOptions{})
	for i := range each {
		a.add(i, 1)
		b.add(each+i, 1)
	}
	eventually(t, func() error {
		if here, there := a.all(), b.all(); here != 2*each || there != 2*each {
			return fmt.Errorf("a counts %d and b %d, want %d\n%s", here, there, 2*each, b.log)
		}
		return nil
	})
}

func TestWhatWaitsForTheServerIsBounded(t *testing.T) {
	s := newServer(t)
	p := newProxy(t, s)
	n := newNode(t, p.address(), "mx1", nodeOptions{definitions: strings.Replace(definitions, "clients: {type: ip", "clients: {max_keys: 1000, type: ip", 1)})
	other := newNode(t, s.path, "mx2", nodeOptions{})
	n.others(1)
	other.others(1)
	p.closed.Store(true)
	p.cut()
	eventually(t, func() error {
		if n.cluster.Status().Error == "" {
			return fmt.Errorf("the server seems not to be away")
		}
		return nil
	})
	count := int64(0)
	users := n.engine.Counter("managed").(*series.Series)
	eventually(t, func() error {
		n.add(1, 1)
		count++
		for i := range 20_000 {
			users.Add(series.TextKey(fmt.Sprintf("%0250d", i)), 1, n.now())
		}
		st := n.cluster.Status()
		if st.Waiting > maxWaiting {
			t.Fatalf("%d bytes wait", st.Waiting)
		}
		if st.LetGo == 0 {
			return fmt.Errorf("%d bytes wait, and nothing was let go", st.Waiting)
		}
		return nil
	})
	p.closed.Store(false)
	expect(t, []*node{n, other}, map[int]int64{1: count})
}

func TestNumbersAreHigherThanThoseOfAnEarlierLife(t *testing.T) {
	s := newServer(t)
	future := time.Now().Add(1000 * time.Hour) // the clock was wrong
	key := seriesKeys("test", "clients", "mx1")
	s.do("HSET", key.state, "last", fmt.Sprint(future.UnixMilli()), "life", "earlier")
	s.do("XADD", key.batches, fmt.Sprint(future.UnixMilli(), "-0"), "p", "1", "s", "", "d", "")
	nodes := []*node{newNode(t, s.path, "mx1", nodeOptions{}), newNode(t, s.path, "mx2", nodeOptions{})}
	nodes[0].add(1, 5)
	expect(t, nodes, map[int]int64{1: 5})
	eventually(t, func() error { // a part of a snapshot may be there before the first batch
		last, err := s.do("HGET", key.state, "last").AsInt64()
		if err == nil && last <= future.UnixMilli() {
			err = fmt.Errorf("the last number is %d, want more than %d", last, future.UnixMilli())
		}
		return err
	})
}

func TestSeriesOfOtherDefinitionsDoNotMix(t *testing.T) {
	s := newServer(t)
	upgraded := strings.Replace(definitions, "windows: 3, add: {at: connect}", "windows: 4, add: {at: connect}", 1)
	old := newNode(t, s.path, "old", nodeOptions{})
	mx := newNode(t, s.path, "mx", nodeOptions{definitions: upgraded})
	old.add(1, 1)
	mx.add(1, 10)
	old.show("alice", "192.0.2.1")
	mx.show("alice", "192.0.2.2")
	differs := func(n *node, want string) {
		t.Helper()
		eventually(t, func() error {
			s := n.cluster.Status()
			if len(s.Nodes) != 1 || fmt.Sprint(s.Nodes[0].Differs) != want || s.Nodes[0].Behind != nil {
				return fmt.Errorf("%s: %+v\n%s", n.name, s, n.log)
			}
			return nil
		})
	}
	differs(old, "[clients]")
	differs(mx, "[clients]")
	for _, n := range []*node{old, mx} {
		if strings.Count(n.log.String(), "is defined in another way") != 1 {
			t.Errorf("%s logs\n%s", n.name, n.log)
		}
		eventually(t, func() error {
			if got := n.text("users", "alice"); got != 2 {
				return fmt.Errorf("%s counts %d users, want 2", n.name, got)
			}
			return nil
		})
	}
	if a, b := old.count(1), mx.count(1); a != 1 || b != 10 {
		t.Errorf("they count %d and %d, want each its own", a, b)
	}
	old.settled()
	old.stop()
	old = newNode(t, s.path, "old", nodeOptions{definitions: upgraded})
	old.add(1, 2)
	expect(t, []*node{old, mx}, map[int]int64{1: 12})
	differs(mx, "[]")
}

func TestWhatAnotherFormatHasIsSaid(t *testing.T) {
	s := newServer(t)
	old := newNode(t, s.path, "old", nodeOptions{})
	old.add(1, 1)
	old.snapshot()
	old.stop()
	for _, name := range []string{"", "clients"} { // as a version with another format has it
		s.do("HSET", seriesKeys("test", name, "old").state, "shape", "another", "words", "in format 1")
	}

	mx := newNode(t, s.path, "mx", nodeOptions{})
	eventually(t, mx.logs("defined in another way", fmt.Sprintf(`node=old series=penalties there="in format 1" here=%q`, inFormat)))
	eventually(t, mx.logs("defined in another way", "node=old series=clients"))

	old = newNode(t, s.path, "old", nodeOptions{})
	eventually(t, old.logs("begins anew", fmt.Sprintf(`series=penalties there="in format 1" here=%q`, inFormat)))
	eventually(t, old.logs("begins anew", "series=clients"))
	if strings.Contains(old.log.String(), "series=users") {
		t.Errorf("it is the same, and yet\n%s", old.log)
	}
	old.add(1, 2)
	mx.add(1, 4)
	expect(t, []*node{old, mx}, map[int]int64{1: 6})
}

func TestWhatIsNotUnderstoodOfAnEarlierLifeIsSaidOnceForASeries(t *testing.T) {
	s := newServer(t)
	n := newNode(t, s.path, "mx", nodeOptions{})
	n.add(1, 1)
	n.snapshot()
	n.stop()
	k := seriesKeys("test", "clients", "mx")
	last, err := s.do("HGET", k.state, "end").AsInt64()
	if err != nil {
		t.Fatal(err)
	}
	shape, err := s.do("HGET", k.state, "shape").ToString()
	if err != nil {
		t.Fatal(err)
	}
	s.do("DEL", k.batches)
	for i := last + 1; i <= last+3; i++ {
		s.do("XADD", k.batches, fmt.Sprint(i, "-0"), "d", "\xff", "p", fmt.Sprint(i-1), "s", shape)
	}
	n = newNode(t, s.path, "mx", nodeOptions{})
	expect(t, []*node{n}, map[int]int64{1: 1})
	if told := strings.Count(n.log.String(), "has sent before is not understood"); told != 1 {
		t.Errorf("it is told %d times\n%s", told, n.log)
	}
}

func TestAReloadThatChangesASeriesKeepsTheClusterTogether(t *testing.T) {
	s := newServer(t)
	nodes := threeNodes(t, s.path)
	for i, n := range nodes {
		n.add(1, int64(i+1))
	}
	expect(t, nodes, map[int]int64{1: 6})
	changed := strings.Replace(definitions, "windows: 3, add: {at: connect}", "windows: 4, add: {at: connect}", 1)
	nodes[0].reload(changed)
	expect(t, nodes[:1], map[int]int64{1: 1})
	expect(t, nodes[1:], map[int]int64{1: 5})
	for _, n := range nodes[1:] {
		n.reload(changed)
	}
	nodes[1].add(2, 4)
	expect(t, nodes, map[int]int64{1: 6, 2: 4})
	for _, n := range nodes { // a series that did not change goes on as it was
		n.show("alice", "192.0.2."+n.name[2:])
		n.reload(changed)
	}
	eventually(t, func() error {
		for _, n := range nodes {
			if got := n.text("users", "alice"); got != 3 {
				return fmt.Errorf("%s counts %d addresses, want 3", n.name, got)
			}
		}
		return nil
	})
	expect(t, nodes, map[int]int64{1: 6, 2: 4})
}

func TestNodesStartWithoutTheServer(t *testing.T) {
	s := newServer(t)
	s.kill()
	nodes := []*node{newNode(t, s.path, "mx1", nodeOptions{}), newNode(t, s.path, "mx2", nodeOptions{})}
	for _, n := range nodes {
		n.add(1, 2)
	}
	eventually(t, func() error {
		if !strings.Contains(nodes[0].log.String(), "the server does not answer") {
			return fmt.Errorf("nothing is said of a server that is away")
		}
		return nil
	})
	s.start()
	expect(t, nodes, map[int]int64{1: 4})
}

func TestClocksThatAreApartAreReported(t *testing.T) {
	s := newServer(t)
	short := strings.Replace(definitions, "interval: 1h", "interval: 30s", 1)
	a := newNode(t, s.path, "a", nodeOptions{definitions: short})
	b := newNode(t, s.path, "b", nodeOptions{definitions: short, ahead: time.Minute})
	c := newNode(t, s.path, "c", nodeOptions{definitions: short, ahead: 5 * time.Second})
	for _, row := range []struct {
		of, other *node
		skewed    bool
		ahead     time.Duration
	}{{a, b, true, time.Minute}, {b, a, true, -time.Minute}, {a, c, false, 5 * time.Second}} {
		eventually(t, func() error {
			for _, n := range row.of.cluster.Status().Nodes {
				if off := (n.Ahead - row.ahead).Abs(); n.Name == row.other.name && n.Skewed == row.skewed && off < time.Second {
					return nil
				}
			}
			return fmt.Errorf("%s sees %+v", row.of.name, row.of.cluster.Status())
		})
	}
	if log := a.log.String(); !strings.Contains(log, "the clocks of two nodes") || strings.Contains(log, `set them right" node=c`) {
		t.Errorf("a logs\n%s", log)
	}
}

// How far its clock is off it has measured a second ago, when that was another one.
func TestANodeWhoseClockIsSetBackIsNotAway(t *testing.T) {
	s := newServer(t)
	a, b := twoNodes(t, s.path, "a", "b")
	b.add(1, 3)
	expect(t, []*node{a, b}, map[int]int64{1: 3})
	back := -2 * penaltiesLive
	b.ahead.Store(int64(back))
	eventually(t, func() error {
		of, _ := a.cluster.Status().Of("b")
		switch got := a.count(1); {
		case of.IsAway(a.now()):
			t.Fatalf("b is away, or gone: %+v", of)
		case got != 3:
			t.Fatalf("a counts %d", got)
		case of.Ahead > back+time.Minute:
			return fmt.Errorf("a takes b's clock to be %v ahead", of.Ahead)
		}
		return nil
	})
}

func TestOpenSessionsOfADeadNodeDisappear(t *testing.T) {
	s := newServer(t)
	a, b := newNode(t, s.path, "a", nodeOptions{}), newNode(t, s.path, "b", nodeOptions{})
	open := func(n *node, want int64) {
		t.Helper()
		eventually(t, func() error {
			if got := n.engine.Counter(policy.OpenSessions).Count(addr(1), series.Host, 0, 0, n.now()); got != want {
				return fmt.Errorf("%s: %d are open, want %d\n%s", n.name, got, want, n.log)
			}
			return nil
		})
	}
	connect := func(n *node) *policy.Event {
		ev := new(policy.Event)
		ev.SetClient(addr(1).Addr(), 0, "")
		if _, err := n.engine.Decide(ev, policy.Connect, n.now()); err != nil {
			t.Fatal(err)
		}
		return ev
	}
	ev := connect(a)
	connect(a)
	connect(b)
	open(a, 3)
	open(b, 3)
	ev.Leave()
	open(a, 2)
	open(b, 2)
	a.stop()
	open(b, 1)

	// One that died without a word, as the server remembers it.
	life := fmt.Sprintf(`{"role":"node","life":"x","time":%d,"open":"y","lives":1000000}`, time.Now().Add(-openLasts+10*time.Second).UnixMilli())
	payload, err := s.do("GET", clusterKey("test", "open:b")).ToString()
	if err != nil {
		t.Fatal(err)
	}
	s.do("SET", clusterKey("test", "open:dead"), payload)
	s.do("HSET", clusterKey("test", "nodes"), "dead", life)
	open(b, 2)
	open(b, 1)
}

// Hosts that come and go under ever new names would else leave a share of each series for
// a day.
func TestNothingIsKeptOfASeriesOfWhichANodeHasNothingAnyMore(t *testing.T) {
	s := newServer(t)
	a, b := twoNodes(t, s.path, "a", "b")
	clients := a.engine.Lasting("clients")
	b.add(1, 1)
	expect(t, []*node{a}, map[int]int64{1: 1})
	b.stop()
	silent := func(since time.Duration) {
		said := fmt.Sprintf(`{"life":%q,"time":%d,"lives":%d}`, b.cluster.incarnation, time.Now().Add(-since).UnixMilli(), penaltiesLive.Milliseconds())
		s.do("HSET", clusterKey("test", "nodes"), "b", said)
	}
	shared := func(want ...string) {
		t.Helper()
		eventually(t, func() error {
			if got := clients.ShareNodes(); !slices.Equal(got, want) {
				return fmt.Errorf("there are shares of %q, want %q", got, want)
			}
			return nil
		})
	}
	silent(lives(clients.Definition) + time.Minute)
	shared()
	if _, known := a.cluster.Status().Of("b"); !known {
		t.Error("the node itself is forgotten, whose penalties may run on")
	}
	silent(0)
	shared("b")
	expect(t, []*node{a}, map[int]int64{1: 1})
}

// The gauge lets none leave, so what a node tells must be what it can have.
func TestNoNodeHasMoreOpenSessionsThanThereCanBe(t *testing.T) {
	s := newServer(t)
	mx1, mx2 := twoNodes(t, s.path, "mx1", "mx2")
	mx2.stop()
	all := make([]series.Delta, maxOpen+1000)
	for i := range all {
		all[i] = series.Delta{Key: addr(i), Bits: 32, Amount: 1}
	}
	open := deltas.AppendDeltas(nil, all)
	said, err := json.Marshal(presence{Life: "2", Time: time.Now().UnixMilli(), Open: shorten(string(open)), Lives: penaltiesLive.Milliseconds()})
	if err != nil {
		t.Fatal(err)
	}
	s.do("SET", clusterKey("test", "open:mx2"), string(open))
	s.do("HSET", clusterKey("test", "nodes"), "mx2", string(said))
	gauge := mx1.engine.Open().Counter
	eventually(t, func() error {
		if n := gauge.Len(); n != maxOpen {
			return fmt.Errorf("%d addresses have open sessions, want %d", n, maxOpen)
		}
		return nil
	})
}

func TestOpenSessionsOfADeadNodeDisappearWhileTheServerIsAway(t *testing.T) {
	s := newServer(t)
	a, b := newNode(t, s.path, "a", nodeOptions{}), newNode(t, s.path, "b", nodeOptions{})
	a.others(1)
	open := func(want int64) {
		t.Helper()
		eventually(t, func() error {
			if got := a.engine.Counter(policy.OpenSessions).Count(addr(1), series.Host, 0, 0, a.now()); got != want {
				return fmt.Errorf("%d are open, want %d\n%s", got, want, a.log)
			}
			return nil
		})
	}
	ev := new(policy.Event)
	ev.SetClient(addr(1).Addr(), 0, "")
	if _, err := b.engine.Decide(ev, policy.Connect, b.now()); err != nil {
		t.Fatal(err)
	}
	open(1)
	s.kill()
	a.ahead.Add(int64(openLasts))
	open(0)
}

// Whoever else writes to the server, or answers in its place, writes nothing to the
// terminal of who looks at the cluster.
func TestWhatTheServerSaysHarmsNoTerminal(t *testing.T) {
	s := newServer(t)
	life := fmt.Sprintf(`{"role":"node","version":"1\u001b[31m","life":"x","time":%d,"lives":1000000}`, time.Now().UnixMilli())
	for _, name := range []string{"mx\x1b[31m2", "mx\n3", "../mx4", strings.Repeat("m", 65), "", "mx5"} {
		s.do("HSET", clusterKey("test", "nodes"), name, life)
	}
	n := newNode(t, s.path, "mx1", nodeOptions{})
	eventually(t, func() error {
		if nodes := n.cluster.Status().Nodes; len(nodes) != 1 || nodes[0].Name != "mx5" || nodes[0].Version != "1�[31m" {
			return fmt.Errorf("the nodes are %+v", nodes)
		}
		return nil
	})

	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for conn, err := l.Accept(); err == nil; conn, err = l.Accept() {
			go func() {
				heard := make([]byte, 4096)
				for n, err := conn.Read(heard); err == nil; n, err = conn.Read(heard) {
					commands := 1 + bytes.Count(heard[:n], []byte("\r\n*"))
					conn.Write(bytes.Repeat([]byte("-ERR \x1b[31m\r\n"), commands))
				}
			}()
		}
	}()
	n = newNode(t, l.Addr().String(), "mx1", nodeOptions{})
	eventually(t, func() error {
		if got := n.cluster.Status().Error; got != "reading: �[31m" {
			return fmt.Errorf("the error is %q", got)
		}
		return nil
	})
}

func TestTwoProcessesOfOneNameAreReported(t *testing.T) {
	s := newServer(t)
	a := newNode(t, s.path, "mx1", nodeOptions{})
	newNode(t, s.path, "mx1", nodeOptions{})
	eventually(t, func() error {
		if !strings.Contains(a.log.String(), "another process uses this node's name") {
			return fmt.Errorf("the first logs\n%s", a.log)
		}
		return nil
	})
}

func TestANameOrAddressIsMissing(t *testing.T) {
	good := Options{Name: "test", Node: "mx1", Addresses: []string{"localhost:6379"}}
	for want, change := range map[string]func(*Options){
		"a cluster needs a name": func(o *Options) { o.Node = "" },
		"must have no braces":    func(o *Options) { o.Name = "a{b" },
		"needs the address":      func(o *Options) { o.Addresses = nil },
		"must be HOST:PORT":      func(o *Options) { o.Addresses = []string{"localhost"} },
		"of the only server":     func(o *Options) { o.Addresses = []string{"/run/a", "/run/b"} },
	} {
		o := good
		change(&o)
		if _, err := Open(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	if _, err := Open(good); err != nil {
		t.Error(err)
	}
}

// A server that takes connections and says nothing is tried for a while; a node that ends
// does not try it again.
func TestANodeEndsWhileTheServerHangs(t *testing.T) {
	hangs, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer hangs.Close()
	var nodes []*node
	for i := range 8 { // whichever comes first, the end or the time to look again
		nodes = append(nodes, newNode(t, hangs.Addr().String(), fmt.Sprint("mx", i), nodeOptions{}))
	}
	for range nodes {
		if _, err := hangs.Accept(); err != nil {
			t.Fatal(err)
		}
	}
	begun := time.Now()
	var all sync.WaitGroup
	for _, n := range nodes {
		all.Go(n.stop)
	}
	all.Wait()
	if took := time.Since(begun); took > dialWithin*7/4 {
		t.Errorf("they have ended after %v; to try once takes %v", took, dialWithin)
	}
}

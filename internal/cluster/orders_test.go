package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/audit-milter/audit-milter/internal/deltas"
	"github.com/audit-milter/audit-milter/policy"
	"github.com/audit-milter/audit-milter/series"
)

// absence is a cluster of two that has counted a client and a user, imposed a penalty,
// and cannot reach each other any more.
type absence struct {
	*testing.T
	server   *server
	link     *proxy // of the one that is away
	mx, away *node
}

func newAbsence(t *testing.T) *absence {
	s := newServer(t)
	p := newProxy(t, s)
	a := &absence{t, s, p, newNode(t, s.path, "mx1", nodeOptions{}), newNode(t, p.address(), "away", nodeOptions{})}
	both := []*node{a.mx, a.away}
	for i, n := range both {
		n.others(1)
		n.add(1, 10)
		n.add(2, 3)
		n.add(300, 1)
		n.show("alice", fmt.Sprintf("192.0.2.%d", i+1))
	}
	subject := policy.Subject{Network: netip.MustParsePrefix("198.51.0.1/32")}
	a.away.engine.SetPenalty(policy.Penalty{Rule: "flood", Subject: subject, Until: a.away.now().Add(5 * time.Minute)}, a.away.now())
	expect(t, both, map[int]int64{1: 20, 2: 6, 300: 2})
	a.eventually(both, func(n *node) int64 { return int64(len(n.engine.Penalties(n.now()))) }, 1)
	a.eventually(both, func(n *node) int64 { return n.text("users", "alice") }, 2)
	p.closed.Store(true)
	p.cut()
	return a
}

func (a *absence) eventually(nodes []*node, what func(*node) int64, want int64) {
	a.Helper()
	eventually(a, func() error {
		for _, n := range nodes {
			if got := what(n); got != want {
				return fmt.Errorf("%s has %d, want %d\n%+v\n%s", n.name, got, want, n.cluster.Status(), n.log)
			}
		}
		return nil
	})
}

// remove removes a client, a block, a user and a penalty on a node that is there.
func (a *absence) remove() {
	a.Helper()
	n := a.mx
	n.engine.Lasting("clients").Remove(addr(1), n.now())
	n.engine.Lasting("clients").RemoveBlock(netip.MustParsePrefix("198.51.1.0/24"), n.now())
	n.engine.Lasting("users").Remove(series.TextKey("alice"), n.now())
	if ran, err := n.engine.RemovePenalty("flood", "198.51.0.1", n.now()); err != nil || !ran {
		a.Fatalf("a penalty ran: %v, %v", ran, err)
	}
}

// snapshots lets the server forget the batches that have told a removal.
func (a *absence) snapshots() {
	a.Helper()
	a.mx.settled()
	for range 3 {
		a.mx.snapshot()
	}
	if n, _ := a.server.do("XLEN", seriesKeys("test", "", "mx1").batches).AsInt64(); n > 1 {
		a.Fatalf("%d batches are left, beside the one with which a snapshot begins: the node will miss none", n)
	}
}

// returns is that all of remove is done everywhere once the node is back, and once only.
func (a *absence) returns() {
	a.Helper()
	a.link.closed.Store(false)
	both := []*node{a.mx, a.away}
	expect(a, both, map[int]int64{1: 0, 2: 6, 300: 0})
	a.eventually(both, func(n *node) int64 { return int64(len(n.engine.Penalties(n.now()))) }, 0)
	a.eventually(both, func(n *node) int64 { return n.text("users", "alice") }, 0)
	a.away.add(1, 5)
	for _, n := range both {
		n.snapshot() // which tells the removals again
	}
	expect(a, both, map[int]int64{1: 5, 2: 6, 300: 0})
}

func TestARemovalReachesANodeThatWasAwayForLong(t *testing.T) {
	a := newAbsence(t)
	a.remove()
	a.snapshots()
	a.returns()
}

func TestARemovalOutlivesTheServersData(t *testing.T) {
	a := newAbsence(t)
	a.remove()
	a.mx.settled()
	a.server.do("FLUSHALL")
	a.returns()
}

func TestARemovalWhileTheServerIsAway(t *testing.T) {
	a := newAbsence(t)
	a.server.kill()
	a.remove()
	a.eventually([]*node{a.mx}, func(n *node) int64 { return n.count(1) }, 10)
	a.server.wipe()
	a.server.start()
	a.returns()
}

func TestARemovalOutlivesAReload(t *testing.T) {
	a := newAbsence(t)
	a.server.kill()
	a.remove()
	a.mx.reload(strings.ReplaceAll(definitions, "windows: 3", "windows: 4"))
	a.mx.reload(definitions)
	a.server.start()
	a.returns()
}

func TestARemovalOutlivesTheNodeThatWasTold(t *testing.T) {
	a := newAbsence(t)
	a.remove()
	a.snapshots()
	a.mx.stop()
	a.mx = newNode(t, a.server.path, "mx1", nodeOptions{})
	a.mx.others(1)
	a.snapshots()
	a.returns()
}

// A node that has granted a removal, and counts the key anew, does not grant it again
// once the server has lost what it knew of that, and the node was started anew.
func TestAServerThatHasLostItsDataHearsWhatWasGranted(t *testing.T) {
	a := newAbsence(t)
	a.remove()
	a.returns()
	granted := func() {
		t.Helper()
		eventually(t, func() error {
			n, err := a.server.do("HLEN", clusterKey("test", "wishes:away")).AsInt64()
			if err == nil && n == 0 {
				err = fmt.Errorf("nothing is noted as granted")
			}
			return err
		})
	}
	granted()
	a.server.do("FLUSHALL")
	granted()
	a.away.settled()
	a.away.stop()
	kept := func(o *Options) { o.Restored = map[string]bool{"clients": true} }
	a.away = newNode(t, a.server.path, "away", nodeOptions{persist: true, link: kept})
	a.away.add(1, 5) // what the disk has kept
	a.away.add(2, 3)
	a.away.others(1)
	expect(t, []*node{a.mx, a.away}, map[int]int64{1: 5, 2: 6, 300: 0})
}

// A node that the server does not know, since it has lost its data, has counts on its
// disk: what was removed after they were written is removed from them, and nothing else.
func TestARemovalReachesANodeThatWasStoppedWhenTheServerHasLostItsData(t *testing.T) {
	s := newServer(t)
	mx := newNode(t, s.path, "mx1", nodeOptions{})
	mx.settled()
	clients := mx.engine.Lasting("clients")
	clients.Remove(addr(1), mx.now())
	mx.snapshot()
	stopped := uint64(mx.now().Add(time.Millisecond).UnixMilli())
	eventually(t, func() error {
		if now := uint64(mx.now().UnixMilli()); now <= stopped {
			return fmt.Errorf("it is %d, want more than %d", now, stopped)
		}
		return nil
	})
	clients.Remove(addr(2), mx.now())
	mx.snapshot()
	kept := func(o *Options) { o.Restored, o.Kept = map[string]bool{"clients": true}, stopped }
	back := newNode(t, s.path, "back", nodeOptions{persist: true, link: kept})
	back.add(1, 5)
	back.add(2, 5)
	back.others(1)
	expect(t, []*node{mx, back}, map[int]int64{1: 5, 2: 0})
}

// A node that has just started does not know yet what it had told in an earlier life.
func TestARemovalBeforeANodeHasReadBackWhatItHadTold(t *testing.T) {
	s := newServer(t)
	p := newProxy(t, s)
	n := newNode(t, p.address(), "mx1", nodeOptions{})
	for i := range 5 {
		n.add(i, 3)
	}
	n.add(1000, 3)
	n.show("alice", "192.0.2.1")
	n.show("bob", "192.0.2.1")
	subject := policy.Subject{Network: netip.MustParsePrefix("198.51.0.1/32")}
	impose := func() {
		n.engine.SetPenalty(policy.Penalty{Rule: "flood", Subject: subject, Until: n.now().Add(5 * time.Minute)}, n.now())
	}
	impose()
	n.snapshot()
	n.settled()
	n.stop()
	p.closed.Store(true)
	n = newNode(t, p.address(), "mx1", nodeOptions{})
	n.add(1, 1)
	n.add(2, 1)
	impose() // as a state that persists would have it
	n.engine.Lasting("clients").Remove(addr(1), n.now())
	n.engine.Lasting("clients").RemoveBlock(netip.MustParsePrefix("198.51.3.0/24"), n.now())
	n.engine.Lasting("users").Remove(series.TextKey("alice"), n.now())
	if _, err := n.engine.RemovePenalty("flood", "198.51.0.1", n.now()); err != nil {
		t.Fatal(err)
	}
	n.add(1, 1)
	eventually(t, func() error { // the removals are noted
		n.cluster.mu.Lock()
		defer n.cluster.mu.Unlock()
		if got := len(n.cluster.standing.wishes) + len(n.cluster.standing.ends); got != 4 {
			return fmt.Errorf("%d removals stand, want 4", got)
		}
		return nil
	})
	p.closed.Store(false)
	expect(t, []*node{n}, map[int]int64{0: 3, 1: 1, 2: 4, 3: 3, 4: 3, 1000: 0})
	n.settled()
	if alice, bob := n.text("users", "alice"), n.text("users", "bob"); alice != 0 || bob != 1 {
		t.Errorf("alice counts %d and bob %d, want 0 and 1", alice, bob)
	}
	if all := n.engine.Penalties(n.now()); len(all) != 0 {
		t.Errorf("%v runs, want nothing", all)
	}
}

// What was read back before an exchange fails is not put in again by the next try.
func TestReadingBackThatFailsHalfWay(t *testing.T) {
	s := newServer(t)
	n := newNode(t, s.path, "mx1", nodeOptions{})
	n.settled()
	n.add(1, 10)
	n.show("alice", "192.0.2.1")
	n.snapshot()
	n.stop()
	state := seriesKeys("test", "users", "mx1").state
	s.do("RENAME", state, "aside")
	s.do("SET", state, "no hash") // to ask for it fails, as in a server that still loads
	n = newNode(t, s.path, "mx1", nodeOptions{})
	if n.count(1) == 0 { // else it has read all already
		eventually(t, func() error {
			if got := n.count(1); got == 0 {
				return fmt.Errorf("nothing is read back\n%s", n.log)
			}
			return nil
		})
	}
	before := s.info("total_commands_processed")
	eventually(t, func() error {
		if now := s.info("total_commands_processed"); now < before+100 {
			return fmt.Errorf("%d commands since then", now-before)
		}
		return nil
	})
	s.do("RENAME", "aside", state) // at once: what is not there for a moment is nothing to read back
	n.settled()
	if got, users := n.count(1), n.text("users", "alice"); got != 10 || users != 1 {
		t.Errorf("it counts %d and %d, want 10 and 1", got, users)
	}
}

// A new node passes over removals from before it was there, also once it is started anew
// and is not new any more.
func TestANewNodeThatIsStartedAgain(t *testing.T) {
	s := newServer(t)
	mx := newNode(t, s.path, "mx1", nodeOptions{ahead: time.Minute}) // numbers are by its clock
	mx.settled()
	mx.engine.Lasting("clients").Remove(addr(1), mx.now())
	mx.snapshot()
	again := newNode(t, s.path, "new", nodeOptions{})
	again.others(1)
	again.add(1, 5)
	expect(t, []*node{mx, again}, map[int]int64{1: 5})
	again.settled()
	again.stop()
	again = newNode(t, s.path, "new", nodeOptions{})
	again.others(1)
	mx.add(2, 1)
	expect(t, []*node{mx, again}, map[int]int64{1: 5, 2: 1})
}

func TestANewNodeWhoseClockIsAheadHearsOfARemoval(t *testing.T) {
	s := newServer(t)
	mx := newNode(t, s.path, "mx1", nodeOptions{})
	mx.settled()
	fresh := newNode(t, s.path, "new", nodeOptions{ahead: 30 * time.Second})
	fresh.others(1)
	mx.others(1)
	fresh.add(1, 5)
	expect(t, []*node{mx, fresh}, map[int]int64{1: 5})
	mx.engine.Lasting("clients").Remove(addr(1), mx.now())
	expect(t, []*node{mx, fresh}, map[int]int64{1: 0})
}

// A node is started anew before the one that has imposed a penalty tells in a snapshot
// that it has ended, or while that one is away.
func TestAnEndedPenaltyDoesNotComeBackAtARestart(t *testing.T) {
	a := newAbsence(t)
	subject := policy.Subject{Network: netip.MustParsePrefix("198.51.0.2/32")}
	third := newNode(t, a.server.path, "mx3", nodeOptions{})
	third.engine.SetPenalty(policy.Penalty{Rule: "flood", Subject: subject, Until: third.now().Add(5 * time.Minute)}, third.now())
	here := []*node{a.mx, third}
	running := func(want int64) {
		t.Helper()
		a.eventually(here, func(n *node) int64 { return int64(len(n.engine.Penalties(n.now()))) }, want)
	}
	running(2)
	third.snapshot()
	a.remove()
	if ran, err := a.mx.engine.RemovePenalty("flood", "198.51.0.2", a.mx.now()); err != nil || !ran {
		t.Fatal(ran, err)
	}
	running(0)
	a.mx.settled()
	a.mx.stop()
	a.mx = newNode(t, a.server.path, "mx1", nodeOptions{})
	here[0] = a.mx
	a.mx.others(2)
	a.mx.add(9, 1)
	a.eventually(here, func(n *node) int64 { return n.count(9) }, 1)
	running(0)
}

// A node comes back and ends its old penalty. It tells that as what it is, the end of
// those of that time.
func TestAPenaltyImposedAfterARemovalRunsOn(t *testing.T) {
	a := newAbsence(t)
	a.remove()
	a.snapshots()
	both := []*node{a.mx, a.away}
	for _, n := range both {
		n.ahead.Store(int64(2 * time.Minute))
	}
	subject := policy.Subject{Network: netip.MustParsePrefix("198.51.0.1/32")}
	a.mx.engine.SetPenalty(policy.Penalty{Rule: "flood", Subject: subject, Until: a.mx.now().Add(10 * time.Minute)}, a.mx.now())
	a.mx.snapshot()
	a.link.closed.Store(false)
	expect(t, both, map[int]int64{1: 0, 2: 6, 300: 0}) // it has heard of the removals
	a.away.snapshot()
	a.mx.add(9, 1)
	expect(t, both, map[int]int64{1: 0, 2: 6, 9: 1, 300: 0})
	a.eventually(both, func(n *node) int64 { return int64(len(n.engine.Penalties(n.now()))) }, 1)
}

// pair are two nodes with a penalty that the second has imposed.
type pair struct {
	*testing.T
	server *server
	nodes  []*node
}

func newPair(t *testing.T, ahead time.Duration) *pair {
	s := newServer(t)
	p := &pair{t, s, []*node{newNode(t, s.path, "mx1", nodeOptions{}), newNode(t, s.path, "mx2", nodeOptions{ahead: ahead})}}
	for _, n := range p.nodes {
		n.others(1)
	}
	p.impose(p.nodes[1], 10*time.Minute)
	p.run(1)
	return p
}

func (p *pair) impose(n *node, length time.Duration) {
	subject := policy.Subject{Network: netip.MustParsePrefix("198.51.0.1/32")}
	n.engine.SetPenalty(policy.Penalty{Rule: "flood", Subject: subject, Until: n.now().Add(length)}, n.now())
}

func (p *pair) end(n *node) {
	p.Helper()
	if ran, err := n.engine.RemovePenalty("flood", "198.51.0.1", n.now()); err != nil || !ran {
		p.Fatal(ran, err)
	}
}

// run waits until so many penalties run on both nodes.
func (p *pair) run(want int) {
	p.Helper()
	eventually(p, func() error {
		for _, n := range p.nodes {
			if all := n.engine.Penalties(n.now()); len(all) != want {
				return fmt.Errorf("%s has %v, want %d\n%s", n.name, all, want, n.log)
			}
		}
		return nil
	})
}

// meet waits until all that the nodes have told by now is read.
func (p *pair) meet() {
	p.Helper()
	for i, n := range p.nodes {
		key := 500 + i
		had := n.count(key)
		n.add(key, 1)
		eventually(p, func() error {
			if got := p.nodes[1-i].count(key); got != had+1 {
				return fmt.Errorf("%d has come, want %d", got, had+1)
			}
			return nil
		})
	}
}

func TestThePenaltiesOfNodesWhoseClocksDiffer(t *testing.T) {
	p := newPair(t, 30*time.Second)
	p.end(p.nodes[0])
	p.run(0)
	p.nodes[1].snapshot() // which is not to bring it back
	p.meet()
	p.run(0)
	p.impose(p.nodes[0], 10*time.Minute)
	p.run(1)
	p.end(p.nodes[1])
	p.run(0)
}

func TestAPenaltyAfterARemovalByAClockThatWasAhead(t *testing.T) {
	p := newPair(t, time.Hour)
	p.end(p.nodes[1])
	p.run(0)
	p.nodes[1].ahead.Store(0) // it is set right
	eventually(t, func() error {
		if ahead := p.nodes[1].cluster.Status().Ahead; ahead > time.Minute {
			return fmt.Errorf("it is %v ahead", ahead)
		}
		return nil
	})
	p.impose(p.nodes[0], 10*time.Minute)
	p.run(1)
}

func TestTheEndOfAPenaltyOfARuleThatWasMadeShorter(t *testing.T) {
	p := newPair(t, 0)
	for _, n := range p.nodes {
		n.reload(strings.ReplaceAll(definitions, "penalty: 10m", "penalty: 2m"))
	}
	p.end(p.nodes[0])
	p.run(0)
	ended := p.nodes[0].now()
	eventually(t, func() error { // clocks are as good as that
		if since := p.nodes[0].now().Sub(ended); since < time.Second {
			return fmt.Errorf("%v have passed", since)
		}
		return nil
	})
	p.impose(p.nodes[0], 2*time.Minute)
	p.run(1)
}

// What another node had imposed has ended, so this one tells what it imposes anew.
func TestAnEndedPenaltyIsNotTakenForAnothersAnyMore(t *testing.T) {
	n := newNode(t, newServer(t).path, "mx1", nodeOptions{})
	c, now := n.cluster, n.now()
	p := policy.Penalty{Rule: "flood", Subject: policy.Subject{Text: "alice"}, Since: now, Until: now.Add(10 * time.Minute)}
	c.hearOrders("mx2", &deltas.Orders{Imposed: []policy.Penalty{p}}, now)
	p.Since, p.Until = now.Add(200*time.Millisecond), time.Time{}
	c.note(&deltas.Batch{Now: now, Penalties: []policy.Penalty{p}})
	p.Since, p.Until = now.Add(900*time.Millisecond), now.Add(10*time.Minute+900*time.Millisecond)
	if own := c.ownPenalties([]policy.Penalty{p}); len(own) != 1 {
		t.Errorf("%d are told, want 1", len(own))
	}
}

// The answer to what a new node says first is lost, or an error.
func TestANewNodeWhoseFirstWordFails(t *testing.T) {
	s := newServer(t)
	mx := newNode(t, s.path, "mx1", nodeOptions{ahead: time.Minute})
	mx.settled()
	mx.engine.Lasting("clients").Remove(addr(1), mx.now())
	mx.snapshot()
	s.do("ACL", "SETUSER", "default", "-set") // all but that is done
	fresh := newNode(t, s.path, "new", nodeOptions{})
	fresh.add(1, 5)
	eventually(t, func() error {
		if !strings.Contains(fresh.log.String(), "NOPERM") {
			return fmt.Errorf("no error yet\n%s", fresh.log)
		}
		return nil
	})
	s.do("ACL", "SETUSER", "default", "+set")
	fresh.others(1)
	mx.add(2, 1)
	expect(t, []*node{mx, fresh}, map[int]int64{1: 5, 2: 1})
}

// As where a port is in use: the node's counts of before stay in the cluster.
func TestANodeThatEndsBeforeItHasSaidAnything(t *testing.T) {
	s := newServer(t)
	mx1, mx2 := twoNodes(t, s.path, "mx1", "mx2")
	mx1.add(1, 5)
	expect(t, []*node{mx1, mx2}, map[int]int64{1: 5})
	mx1.settled()
	mx1.stop()
	said := func() string {
		text, err := s.do("HGET", clusterKey("test", "nodes"), "mx1").ToString()
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	before := said()
	c, err := Open(Options{Name: "test", Node: "mx1", Addresses: []string{s.path}, Log: slog.New(slog.DiscardHandler),
		Engine: func() Engine { return mx2.inForce.Load() }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithCancel(context.Background())
	end()
	c.Run(ctx)
	if now := said(); now != before {
		t.Errorf("of the node is said %s, want %s", now, before)
	}
}

// A node that was started anew removes a key before it has heard from others what it had
// removed in its earlier life, which the server has lost; also by an earlier clock.
func TestRemovalsOfTwoLives(t *testing.T) {
	for _, ahead := range []time.Duration{0, 10 * time.Minute} {
		t.Run(ahead.String(), func(t *testing.T) {
			s := newServer(t)
			witness, link := newProxy(t, s), newProxy(t, s)
			nodes := []*node{
				newNode(t, s.path, "mx1", nodeOptions{ahead: ahead}),
				newNode(t, witness.address(), "mx2", nodeOptions{}),
				newNode(t, link.address(), "away", nodeOptions{}),
			}
			for _, n := range nodes {
				n.others(2)
				n.add(1, 5)
				n.add(2, 5)
			}
			expect(t, nodes, map[int]int64{1: 15, 2: 15})
			shut := func(p *proxy) { p.closed.Store(true); p.cut() }
			shut(link)
			nodes[0].engine.Lasting("clients").Remove(addr(1), nodes[0].now())
			expect(t, nodes[:2], map[int]int64{1: 5, 2: 15})
			nodes[0].settled()
			nodes[0].stop()
			shut(witness)
			s.do("FLUSHALL")
			nodes[0] = newNode(t, s.path, "mx1", nodeOptions{})
			nodes[0].settled()
			nodes[0].engine.Lasting("clients").Remove(addr(2), nodes[0].now())
			link.closed.Store(false)
			eventually(t, func() error {
				if got := nodes[2].engine.Lasting("clients").Share("").Count(addr(2), series.Host, 0, 2, nodes[2].now()); got != 0 {
					return fmt.Errorf("away has still %d of the second", got)
				}
				return nil
			})
			witness.closed.Store(false)
			expect(t, nodes, map[int]int64{1: 0, 2: 0})
		})
	}
}

// The node where the key was removed is started anew, and the server loses its data before
// it is back: others have heard of the removal, and tell it.
func TestARemovalOutlivesBothWhoWereTold(t *testing.T) {
	a := newAbsence(t)
	witness := newNode(t, a.server.path, "mx3", nodeOptions{})
	witness.others(2)
	a.remove()
	a.eventually([]*node{witness}, func(n *node) int64 { return n.count(1) }, 10)
	a.mx.settled()
	a.mx.stop()
	a.server.do("FLUSHALL")
	a.mx = newNode(t, a.server.path, "mx1", nodeOptions{})
	a.link.closed.Store(false)
	both := []*node{a.mx, a.away}
	expect(t, both, map[int]int64{1: 0, 2: 3, 300: 0}) // what it had counted itself is lost
	a.eventually(both, func(n *node) int64 { return int64(len(n.engine.Penalties(n.now()))) }, 0)
}

// A node has lost its data, and the server too. Its clock was set back, so that its numbers
// are lower than before.
func TestNumbersThatAreLowerThanThoseThatWereRead(t *testing.T) {
	s := newServer(t)
	mx1 := newNode(t, s.path, "mx1", nodeOptions{ahead: 10 * time.Minute})
	mx2 := newNode(t, s.path, "mx2", nodeOptions{})
	mx1.others(1)
	mx2.others(1)
	mx1.add(1, 5)
	expect(t, []*node{mx2}, map[int]int64{1: 5})
	mx1.settled()
	mx1.stop()
	s.do("FLUSHALL")
	mx1 = newNode(t, s.path, "mx1", nodeOptions{})
	mx1.add(2, 3)
	expect(t, []*node{mx1, mx2}, map[int]int64{2: 3})
}

// A node counts a key anew that it has removed itself, and is started anew: what it had
// told in its earlier life has the removal still.
func TestANodeDoesNotGrantItsOwnRemovalAgain(t *testing.T) {
	for name, kept := range map[string]bool{"read back from the server": false, "kept on a disk": true} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			mx := newNode(t, s.path, "mx1", nodeOptions{})
			mx.settled()
			mx.add(1, 10)
			mx.engine.Lasting("clients").Remove(addr(1), mx.now())
			mx.add(1, 5)
			eventually(t, func() error {
				n, err := s.do("HLEN", clusterKey("test", "wishes:mx1")).AsInt64()
				if err == nil && n != 2 { // since when it is there, and its own
					err = fmt.Errorf("%d wishes are noted as granted, want 2", n)
				}
				return err
			})
			mx.snapshot()
			mx.stop()
			var o nodeOptions
			if kept {
				o.persist = true
				o.link = func(o *Options) {
					o.Restored, o.Kept = map[string]bool{"clients": true}, uint64(mx.now().UnixMilli())
				}
			}
			mx = newNode(t, s.path, "mx1", o)
			if kept {
				mx.add(1, 5)
			}
			mx.settled()
			mx.add(2, 1)
			mx.settled()
			expect(t, []*node{mx}, map[int]int64{1: 5, 2: 1})
		})
	}
}

// A node is killed before its disk has what it has taken back.
func TestARemovalThatTheDiskLacks(t *testing.T) {
	s := newServer(t)
	mx := newNode(t, s.path, "mx1", nodeOptions{})
	mx.settled()
	mx.engine.Lasting("clients").Remove(addr(1), mx.now())
	mx.snapshot()
	mx.stop()
	s.do("HDEL", clusterKey("test", "wishes:mx1"), "mx1 "+mx.cluster.incarnation) // it has not told that yet
	kept := func(o *Options) {
		o.Restored, o.Kept = map[string]bool{"clients": true}, uint64(mx.now().Add(-time.Minute).UnixMilli())
	}
	mx = newNode(t, s.path, "mx1", nodeOptions{persist: true, link: kept})
	mx.add(1, 5) // what the disk has
	mx.add(2, 5)
	expect(t, []*node{mx}, map[int]int64{1: 0, 2: 5})
}

func TestAManagersRemovalReachesTheNodes(t *testing.T) {
	s := newServer(t)
	manager := newNode(t, s.path, "manager", nodeOptions{manager: true})
	mx := newNode(t, s.path, "mx1", nodeOptions{})
	manager.others(1)
	mx.show("alice", "192.0.2.1")
	count := func(want int64) {
		t.Helper()
		eventually(t, func() error {
			if got := manager.text("managed", "alice"); got != want {
				return fmt.Errorf("the manager counts %d, want %d\n%s", got, want, manager.log)
			}
			return nil
		})
	}
	count(1)
	manager.engine.Lasting("managed").Remove(series.TextKey("alice"), manager.now())
	count(0)
	if got := mx.text("managed", "alice"); got != 0 {
		t.Errorf("the node counts %d, want nothing", got)
	}
}

func TestANodeReadsBackWhatIsForManagers(t *testing.T) {
	s := newServer(t)
	mx := newNode(t, s.path, "mx1", nodeOptions{})
	mx.settled()
	mx.show("alice", "192.0.2.1")
	mx.snapshot()
	last := func() (id string) {
		batches, err := s.do("XREVRANGE", seriesKeys("test", "managed", "mx1").batches, "+", "-", "COUNT", "1").AsXRange()
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range batches {
			id = b.ID
		}
		return id
	}
	before := last()
	mx.show("alice", "192.0.2.1") // behind the snapshot
	eventually(t, func() error {
		if last() == before {
			return errors.New("it is not told yet")
		}
		return nil
	})
	mx.settled()
	mx.stop()
	mx = newNode(t, s.path, "mx1", nodeOptions{})
	eventually(t, func() error {
		if got := mx.text("managed", "alice"); got != 2 {
			return fmt.Errorf("the node counts %d, want 2\n%s", got, mx.log)
		}
		return nil
	})
}

func TestStandingRemovalsAreBounded(t *testing.T) {
	s := newStanding()
	one := func(i int) deltas.Wish {
		key := series.TextKey(fmt.Sprintf("%0250d", i))
		return deltas.Wish{Node: "mx1", Life: "a", Series: "users", Delta: series.Wish(key, 0), Until: time.Unix(int64(1000+i), 0)}
	}
	told := 0
	for i := range 5000 {
		w := one(i)
		if full := s.size+w.Size() > maxWishes; s.put([]deltas.Wish{w}) != full {
			t.Fatalf("after %d wishes, of %d bytes, it is full: %v", i+1, s.size, !full)
		}
		if i%3 == 0 {
			told += len(s.number(uint64(i + 1)))
		}
		s.end(policy.Penalty{Rule: "flood", Subject: policy.Subject{Text: fmt.Sprint(i)}, Since: time.Unix(int64(50_000-i), 0)})
		s.end(policy.Penalty{Rule: "other", Subject: policy.Subject{Text: fmt.Sprint(i)}, Since: time.Unix(int64(60_000+i), 0)})
		s.end(policy.Penalty{Rule: "more", Subject: policy.Subject{Text: fmt.Sprint(i)}, Since: time.Unix(int64(70_000+i), 0)})
	}
	told += len(s.number(1))
	if s.size > maxWishes || s.size < maxWishes-1000 || told != 5000 {
		t.Errorf("%d bytes are kept, want nearly %d; %d were new once, want 5000", s.size, maxWishes, told)
	}
	all := s.all(time.Unix(1000, 0))
	if len(all.Wishes) != len(s.wishes) || all.Wishes[len(all.Wishes)-1].Delta.Key != one(4999).Delta.Key {
		t.Errorf("%d wishes stand of %d", len(all.Wishes), len(s.wishes))
	}
	newest := 0
	for _, p := range all.Ended {
		if p.Rule == "more" {
			newest++
		}
	}
	if n := len(all.Ended); n > maxEnds || n < maxEnds-maxEnds/10 || newest != 5000 {
		t.Errorf("%d ends are known, %d of the 5000 newest", n, newest)
	}
	if all := s.all(time.Unix(1000+4990, 0)); len(all.Wishes) != 9 || s.size > 9*300 {
		t.Errorf("%d wishes stand, of %d bytes, when all but nine have ended", len(all.Wishes), s.size)
	}
	if all := s.all(time.Unix(100_000, 0).Add(policy.MaxPenalty)); len(all.Wishes)+len(all.Ended)+s.size+len(s.ends) != 0 {
		t.Errorf("%d wishes and %d ends stand when all have ended", len(all.Wishes), len(all.Ended))
	}
}

// A penalty that two nodes have imposed at once is told to one that starts later.
func TestAPenaltyThatTwoHaveImposed(t *testing.T) {
	s := newServer(t)
	a, b := twoNodes(t, s.path, "mx1", "mx2")
	s.kill()
	for _, n := range []*node{a, b} {
		subject := policy.Subject{Network: netip.MustParsePrefix("198.51.0.1/32")}
		n.engine.SetPenalty(policy.Penalty{Rule: "flood", Subject: subject, Until: n.now().Add(5 * time.Minute)}, n.now())
		eventually(t, func() error { // it is taken
			n.cluster.mu.Lock()
			defer n.cluster.mu.Unlock()
			if len(n.cluster.errors) == 0 {
				return fmt.Errorf("%s has not seen that the server is away", n.name)
			}
			return nil
		})
	}
	s.start()
	for range 3 {
		for _, n := range []*node{a, b} {
			n.snapshot()
		}
	}
	late := newNode(t, s.path, "mx3", nodeOptions{})
	late.others(2)
	eventually(t, func() error {
		if n := len(late.engine.Penalties(late.now())); n != 1 {
			return fmt.Errorf("%d penalties run at a node that starts later", n)
		}
		return nil
	})
}

// A node remembers of others' penalties what runs here, however many they impose: a flood
// of keys makes older ones leave, and a rule may be one that this node has not.
func TestWhatOthersPunishIsBounded(t *testing.T) {
	n := newNode(t, "127.0.0.1:1", "mx1", nodeOptions{})
	now := n.now()
	impose := func(rule string, from, many int) {
		o := deltas.Orders{Imposed: make([]policy.Penalty, many)}
		for i := range o.Imposed {
			o.Imposed[i] = policy.Penalty{Rule: rule, Subject: policy.Subject{Text: fmt.Sprint(from + i)}, Since: now, Until: now.Add(time.Minute + time.Duration(from+i)*time.Microsecond)}
		}
		n.cluster.hearOrders("mx2", &o, now)
	}
	known := func() int {
		n.cluster.mu.Lock()
		defer n.cluster.mu.Unlock()
		return len(n.cluster.foreign)
	}
	impose("other", 0, minForeign+1)
	if got := known(); got > minForeign {
		t.Errorf("%d penalties are remembered of a rule that is none here", got)
	}
	impose("flood", 0, 220_000)
	running := len(n.engine.Penalties(now))
	if got := known(); running != 100_000 || got < running || got > 2*running+minForeign {
		t.Errorf("%d penalties of others are remembered, and %d run", got, running)
	}
	n.cluster.mu.Lock()
	defer n.cluster.mu.Unlock()
	if own := n.cluster.ownPenalties(n.engine.Penalties(now)); len(own) > 0 {
		t.Errorf("%d penalties are taken for this node's own", len(own))
	}
}

func TestWishesAreToldInTheOrderOfTheirNumbers(t *testing.T) {
	s := newStanding()
	wish := func(node, life, key string, number uint64) deltas.Wish {
		return deltas.Wish{Node: node, Life: life, Number: number, Series: "users", Delta: series.Wish(series.TextKey(key), 0), Until: time.Unix(2000, 0)}
	}
	s.put([]deltas.Wish{wish("mx1", "y", "c", 0)}) // before it knows of its earlier life
	s.hear([]deltas.Wish{wish("mx1", "x", "a", 7), wish("mx2", "z", "A", 60)})
	s.hear([]deltas.Wish{wish("mx1", "x", "a", 7), wish("mx1", "x", "b", 90), wish("mx2", "z", "A", 60), wish("mx2", "z", "B", 61)})
	s.number(50) // by a clock that was set back
	s.put([]deltas.Wish{wish("mx1", "y", "d", 0)})
	s.number(49)
	var got []string
	for _, one := range s.all(time.Unix(1000, 0)).Wishes {
		got = append(got, fmt.Sprintf("%v%d", one.Delta.Key, one.Number))
	}
	if want := "a7 b90 c50 d51 A60 B61"; strings.Join(got, " ") != want {
		t.Errorf("got %v, want %s", got, want)
	}
}

func TestAnEndOfAPenaltyThatSaysNothingNew(t *testing.T) {
	s := newStanding()
	p := policy.Penalty{Rule: "flood", Subject: policy.Subject{Text: "alice"}}
	at := time.Unix(1000, 0)
	for _, row := range []struct {
		removed time.Duration
		isNew   bool
	}{{0, true}, {0, false}, {-time.Minute, false}, {time.Millisecond, false}, {time.Minute, true}, {0, false}} {
		p.Since = at.Add(row.removed)
		if isNew := s.end(p); isNew != row.isNew {
			t.Errorf("a removal after %v is new: %v", row.removed, isNew)
		}
	}
	p.Until = at.Add(time.Hour)
	for imposed, want := range map[time.Duration]bool{0: true, time.Minute: true, 2 * time.Minute: false} {
		p.Since = at.Add(imposed)
		if ended := s.isEnded(p); ended != want {
			t.Errorf("one that was imposed after %v is ended: %v", imposed, ended)
		}
	}
}

// What a damaged server says ends in an error, or in wishes that do no harm.
func TestWishesThatAreNone(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	s := newServer(t)
	n := newNode(t, s.path, "mx1", nodeOptions{})
	n.add(1, 7)
	n.settled()
	wish := deltas.AppendOrders(nil, &deltas.Orders{Wishes: []deltas.Wish{{Node: "mx2", Life: "a", Number: 1 << 62, Until: time.Unix(1<<40, 0), Series: "clients", Delta: series.Wish(series.AddrKey(netip.MustParseAddr("203.0.113.1")), 24)}}})
	l := n.engine.Lasting("clients")
	for range 100_000 {
		damaged := slices.Clone(wish)
		for range 1 + r.IntN(3) {
			damaged[r.IntN(len(damaged))] = byte(r.Uint32())
		}
		o, err := deltas.DecodeOrders(damaged)
		if err != nil {
			continue
		}
		for _, w := range o.Wishes {
			if w.Series == "clients" {
				l.MergeShare("mx2", w.Delta, n.now())
			}
		}
	}
	for _, d := range []series.Delta{series.Wish(series.TextKey("alice"), 0), series.Wish(addr(1), 33), series.Wish(addr(1), 255), series.Wish(series.AddrKey(netip.MustParseAddr("2001:db8::1")), 128)} {
		l.MergeShare("mx2", d, n.now())
	}
	if got := n.count(1); got != 7 && got != 0 {
		t.Errorf("198.51.0.1 counts %d, want 7, or nothing", got)
	}
}

// Keys are counted, penalties imposed, and both removed while links, the server and nodes
// fail. In the end all nodes agree, whatever was removed last is gone everywhere, and
// counts go on. A removal by hand of a penalty needs a node that knows it.
func TestRemovalsAmongFailures(t *testing.T) {
	const keys = 12
	seed := uint64(time.Now().UnixNano())
	t.Log("seed", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	s := newServer(t)
	var nodes []*node
	var links []*proxy
	for i := range 3 {
		links = append(links, newProxy(t, s))
		nodes = append(nodes, newNode(t, links[i].address(), fmt.Sprint("mx", i+1), nodeOptions{}))
	}
	remove := func(key int) {
		n := nodes[r.IntN(3)]
		n.engine.Lasting("clients").Remove(addr(key), n.now())
	}
	subject := func(key int) policy.Subject {
		return policy.Subject{Network: netip.PrefixFrom(addr(key).Addr(), 32)}
	}
	end := func(n *node, key int) (ended bool) {
		ended, err := n.engine.RemovePenalty("flood", addr(key).String(), n.now())
		if err != nil {
			t.Fatal(err)
		}
		return ended
	}
	for range 60 {
		n := r.IntN(3)
		impose := nodes[r.IntN(3)]
		impose.engine.SetPenalty(policy.Penalty{Rule: "flood", Subject: subject(r.IntN(keys)), Until: impose.now().Add(time.Duration(1+r.IntN(10)) * time.Minute)}, impose.now())
		end(nodes[r.IntN(3)], r.IntN(keys))
		for range 20 {
			nodes[r.IntN(3)].add(r.IntN(keys), 1+r.Int64N(5))
		}
		switch r.IntN(10) {
		case 0, 1, 2:
			remove(r.IntN(keys))
		case 3:
			links[n].closed.Store(true)
			links[n].cut()
		case 4, 5:
			links[n].closed.Store(false)
		case 6:
			nodes[n].demand()
		case 7:
			s.do("FLUSHALL")
		case 8:
			s.kill()
			s.start()
		case 9:
			links[n].closed.Store(false)
			nodes[n].settled()
			nodes[n].stop()
			nodes[n] = newNode(t, links[n].address(), nodes[n].name, nodeOptions{})
		}
		time.Sleep(time.Duration(r.IntN(150)) * time.Millisecond) // they are to meet in many ways
	}
	want := make(map[int]int64)
	ended := make(map[netip.Prefix]bool) // one that nobody knows yet goes on: who imposed it was started anew
	for key := range keys {
		if key == keys/2 {
			links[r.IntN(3)].cut()
		}
		remove(key)
		want[key] = 0
		for _, n := range nodes {
			if end(n, key) {
				ended[subject(key).Network] = true
			}
		}
	}
	if len(ended) == 0 {
		t.Error("no penalty was removed: that shows little")
	}
	for _, link := range links {
		link.closed.Store(false)
	}
	expect(t, nodes, want)
	for _, n := range nodes {
		n.others(2)
	}
	eventually(t, func() error {
		for _, n := range nodes {
			for _, p := range n.engine.Penalties(n.now()) {
				if ended[p.Subject.Network] {
					return fmt.Errorf("%s has still %v\n%s", n.name, p, n.log)
				}
			}
		}
		return nil
	})
	for key := range keys {
		nodes[key%3].add(key, int64(key))
		want[key] = int64(key)
	}
	expect(t, nodes, want)
}

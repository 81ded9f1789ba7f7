package integration

import (
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"

	"github.com/audit-milter/audit-milter/internal/short"
)

// clusterPolicy refuses a client at its 31st recipient, wherever the others were.
const clusterPolicy = `
series:
  recipients: {type: ip, interval: 1h, windows: 2, replicate: cluster, add: {at: rcpt}}
  kept: {type: ip, interval: 1h, windows: 2, persist: true, replicate: cluster, add: {at: rcpt}}
  accounts: {type: ip, interval: 1h, windows: 2, replicate: cluster, distinct: recipient, add: {at: rcpt}}
rules:
  - name: limit
    at: rcpt
    if: {series: recipients, windows: 0-1, above: 30}
    then: tempfail
`

// grown is another policy, as the next version of a configuration has it: one series
// counts other windows, one is new, and one is as it was.
const grown = `
series:
  recipients: {type: ip, interval: 30m, windows: 4, replicate: cluster, add: {at: rcpt}}
  kept: {type: ip, interval: 1h, windows: 2, persist: true, replicate: cluster, add: {at: rcpt}}
  more: {type: ip, interval: 1h, windows: 2, replicate: cluster, add: {at: rcpt}}
`

// soon is when all nodes agree after traffic has stopped.
const soon = time.Second

// needCluster is a cluster of its own for the test, which must end well.
func needCluster(t *testing.T) *trial {
	t.Helper()
	b := needBed(t)
	if _, err := exec.LookPath(valkeyProgram); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("Debian's package redis-server is missing: ", err)
		}
		t.Skip("this needs Debian's package redis-server: ", err)
	}
	c, err := b.openCluster(clusterPolicy)
	if c != nil {
		t.Cleanup(func() {
			if err := c.close(); err != nil {
				t.Error(err)
			}
			if !t.Failed() {
				return
			}
			for _, n := range c.nodes {
				t.Logf("%s logged:%v", n.name, n.said(0))
			}
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	started := &trial{T: t, cluster: c}
	started.meets()
	return started
}

// trial is a cluster in a test, and what it was told of each client.
type trial struct {
	*testing.T
	*cluster
	clients int
}

func (t *trial) must(errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// client is one that nobody has seen yet.
func (t *trial) client() netip.Addr {
	t.clients++
	return t.last()
}

// last is the client that was new last.
func (t *trial) last() netip.Addr {
	return netip.AddrFrom4([4]byte{198, 51, 100, byte(t.clients)})
}

// sends lets a client send so many recipients by each of the nodes. All must be
// answered with the code, "" for any.
func (t *trial) sends(client netip.Addr, number int, code string, nodes ...*member) {
	t.Helper()
	for _, n := range nodes {
		codes, err := n.rcpts(client, number)
		t.must(err)
		if slices.ContainsFunc(codes, func(c string) bool { return c != code && code != "" }) {
			t.Fatalf("%s answers %v", n.name, codes)
		}
	}
}

// agreed is that all nodes count so many, in the series that persists and in the one
// that does not.
func (t *trial) agreed(within time.Duration, client netip.Addr, want int64) {
	t.Helper()
	t.must(t.agree(within, "recipients", client.String(), want), t.agree(within, "kept", client.String(), want))
}

// meets waits until all nodes know of each other, which takes a node that has just
// started a second or two.
func (t *trial) meets() {
	t.Helper()
	client := t.client()
	t.sends(client, 1, "250", t.nodes...)
	t.agreed(patience, client, 3)
}

// counts is the proof of a cluster in good order: a client that is spread over it is
// refused everywhere at the threshold, and all agree on it soon.
func (t *trial) counts() {
	t.Helper()
	client := t.client()
	t.sends(client, 10, "250", t.nodes...)
	t.agreed(soon, client, 30)
	t.sends(client, 1, "451", t.nodes...)
	t.agreed(soon, client, 33)
	t.must(t.agree(soon, "accounts", client.String(), 1))
}

func TestAClientSpreadOverAClusterIsRefusedAtItsThreshold(t *testing.T) {
	c := needCluster(t)
	c.counts()
	c.counts()
}

func TestAClusterOutlivesItsServer(t *testing.T) {
	for name, lose := range map[string]func(*valkey) error{
		"with its data":    func(*valkey) error { return nil },
		"without its data": (*valkey).forget,
	} {
		t.Run(name, func(t *testing.T) {
			c := needCluster(t)
			client := c.client()
			c.sends(client, 3, "250", c.nodes...)
			c.agreed(soon, client, 9)
			c.must(c.valkey.kill(), lose(c.valkey))
			c.sends(client, 4, "250", c.nodes...) // decided with what is known
			for _, n := range c.nodes {
				c.must(c.await(soon, []*member{n}, "recipients", client.String(), 13))
			}
			c.must(c.valkey.start())
			c.agreed(patience, client, 21)
			c.counts()
		})
	}
}

func TestANodeThatWasKilledCountsAgainWhatItHadCounted(t *testing.T) {
	c := needCluster(t)
	client := c.client()
	c.sends(client, 5, "250", c.nodes...)
	c.agreed(soon, client, 15)
	killed, others := c.nodes[1], []*member{c.nodes[0], c.nodes[2]}
	c.must(killed.kill())
	c.sends(client, 4, "250", others...)
	c.must(c.await(soon, others, "recipients", client.String(), 23), killed.start())
	c.agreed(patience, client, 23)
	c.sends(client, 1, "250", killed)
	c.agreed(soon, client, 24)
	c.counts()
}

func TestANodeThatWasCutOffLosesAndRepeatsNothing(t *testing.T) {
	c := needCluster(t)
	client := c.client()
	c.sends(client, 2, "250", c.nodes...)
	c.agreed(soon, client, 6)
	alone, others := c.nodes[2], c.nodes[:2]
	alone.proxy.partition()
	lasts := short.Part(time.Minute, 3*time.Second) // longer than the server keeps what is in no snapshot
	turns := 6
	for range turns {
		c.sends(client, 1, "250", c.nodes...)
		time.Sleep(lasts / time.Duration(turns))
	}
	c.must(
		c.await(soon, others, "recipients", client.String(), 6+2*6),
		c.await(soon, []*member{alone}, "recipients", client.String(), 6+6))
	alone.proxy.heal()
	c.agreed(patience, client, 6+3*6)
	c.counts()
}

// A key is removed on the first node while something has failed. Once that is over all
// have taken back what they had counted by then, and count on.
func TestARemovalDuringAFailureReachesAllNodes(t *testing.T) {
	c := needCluster(t)
	first, second, third := c.nodes[0], c.nodes[1], c.nodes[2]
	for _, row := range []struct {
		name       string
		fail, mend func() error
	}{
		{
			"a node is cut off, and the server loses its data meanwhile",
			func() error { third.proxy.partition(); return nil },
			func() error {
				err := errors.Join(c.valkey.kill(), c.valkey.forget(), c.valkey.start())
				third.proxy.heal()
				return err
			},
		},
		{"a node is dead", second.kill, second.start},
		{
			"the node where it was removed is killed before another is back",
			func() error { third.proxy.partition(); return nil },
			func() error {
				err := errors.Join(c.await(soon, []*member{second}, "kept", c.last().String(), 4), first.kill(), first.start())
				third.proxy.heal()
				return err
			},
		},
		{"the server is dead, and comes back without its data", c.valkey.kill, func() error { return errors.Join(c.valkey.forget(), c.valkey.start()) }},
	} {
		client := c.client()
		c.sends(client, 4, "250", c.nodes...)
		c.agreed(soon, client, 12)
		c.must(row.fail(), first.remove("recipients", client.String()), first.remove("kept", client.String()))
		c.must(row.mend())
		if err := errors.Join(c.agree(patience, "recipients", client.String(), 0), c.agree(patience, "kept", client.String(), 0)); err != nil {
			t.Fatalf("%s: %v", row.name, err)
		}
		c.sends(client, 2, "250", c.nodes...)
		c.agreed(patience, client, 6)
	}
	c.counts()
}

func TestADecisionDoesNotWaitForASlowServer(t *testing.T) {
	c := needCluster(t)
	for _, n := range c.nodes {
		n.proxy.set(func(p *proxy) { p.delay = 50 * time.Millisecond })
	}
	c.counts()
	client := c.client()
	c.must(c.valkey.stall())
	c.sends(client, 8, "250", c.nodes...)
	c.must(c.await(soon, c.nodes[:1], "recipients", client.String(), 8), c.valkey.goOn())
	c.agreed(patience, client, 24)
	c.counts()
}

func TestWhatIsToldTwiceCountsOnce(t *testing.T) {
	c := needCluster(t)
	for _, n := range c.nodes {
		n.proxy.set(func(p *proxy) { p.again = true })
	}
	client := c.client()
	for turn := range 3 {
		c.sends(client, 1, "250", c.nodes...)
		if turn == 1 {
			for _, n := range c.nodes {
				n.proxy.reset() // what is under way may have come, or not
			}
		}
		c.sends(client, 2, "250", c.nodes...)
		c.agreed(patience, client, int64(9*(turn+1)))
		again := 0
		for _, n := range c.nodes {
			told, err := n.proxy.replay()
			c.must(err)
			again += told
		}
		if again == 0 {
			t.Fatal("nothing was told again")
		}
	}
	c.counts() // so the nodes have read on
	c.agreed(soon, client, 27)
}

func TestAClusterIsUpgradedNodeByNode(t *testing.T) {
	c := needCluster(t)
	before := c.client()
	c.sends(before, 2, "250", c.nodes...)
	c.agreed(soon, before, 6)

	first, others := c.nodes[0], c.nodes[1:]
	c.upgrade(first)
	client := c.client()
	c.sends(client, 2, "250", c.nodes...)
	c.must(
		c.agree(patience, "kept", client.String(), 6),                     // is the same everywhere
		c.await(soon, others, "recipients", client.String(), 4),           // is not mixed,
		c.await(soon, []*member{first}, "recipients", client.String(), 2)) // on either side
	for _, n := range c.nodes {
		_, err := n.log.await(n.name+" to say that definitions differ", func(e entry) bool {
			return e.field("level") != "INFO" && e.field("series") == "recipients" && e.field("node") != ""
		})
		c.must(err)
	}

	for _, n := range others {
		c.upgrade(n)
	}
	client = c.client()
	c.sends(client, 2, "250", c.nodes...)
	for _, series := range []string{"recipients", "kept", "more"} {
		c.must(c.agree(patience, series, client.String(), 6))
	}
	c.must(c.agree(soon, "kept", before.String(), 6)) // is as old as it was
}

// upgrade restarts a node with the policy grown.
func (t *trial) upgrade(n *member) {
	t.Helper()
	t.must(n.stop(), os.WriteFile(n.mta.path(n.config), []byte(grown), 0o644), n.set(n.own), n.start())
}

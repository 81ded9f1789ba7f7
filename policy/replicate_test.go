package policy_test

import (
	"fmt"
	"maps"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/audit-milter/audit-milter/policy"
	"github.com/audit-milter/audit-milter/series"
)

const inACluster = `cluster: {valkey: {addresses: "valkey.example.com:6379"}}
`

// clientsAndNames are a series of events and a distinct one, and both replicate.
const clientsAndNames = inACluster + `
series:
  clients: {type: ip, interval: 5m, windows: 2, add: {at: connect}, replicate: cluster}
  names: {type: ip, interval: 5m, windows: 2, distinct: helo_name, add: {at: helo}, replicate: cluster}
`

// tell lets another node have counted an address, or shown a value for it.
func (w *world) tell(node, name, addr string, n int64, values ...uint64) {
	w.t.Helper()
	l := w.engine.Lasting(name)
	start := w.now.Truncate(l.Definition.Interval).Unix()
	l.MergeShare(node, series.Delta{Key: addrKey(addr), Bits: 32, Start: start, Amount: n, Values: values}, w.now)
}

// deltas are what a series tells.
func (w *world) deltas(name string) (all []series.Delta) {
	w.engine.Lasting(name).Deltas(func(d series.Delta) { all = append(all, d) })
	return all
}

// followAll is what the collector does before the first event.
func (w *world) followAll() {
	for _, k := range w.engine.Kept() {
		k.Follow()
	}
}

func TestRulesReadTheClusterOrTheNode(t *testing.T) {
	w := newWorld(t, inACluster+`
series:
  clients: {type: ip, interval: 5m, windows: 2, add: {at: connect}, replicate: cluster}
  names: {type: ip, interval: 5m, windows: 2, distinct: helo_name, add: {at: helo}, replicate: manager}
rules:
  - {name: here, at: connect, if: {series: clients, scope: node, windows: 0-1, above: 2}, then: reject}
  - {name: everywhere, at: connect, if: {series: clients, scope: cluster, windows: 0-1, above: 5}, then: tempfail}
  - {name: mostly-here, at: mail, if: {series: clients, scope: node, above: 50%, of: {series: clients}}, then: tempfail}
  - {name: network-here, at: helo, if: {series: clients, mask: {ipv4: 24, ipv6: 64}, scope: node, above: 3}, then: tempfail}
  - {name: names-here, at: helo, if: {series: names, scope: node, above: 1}, then: reject}
  - {name: names, at: helo, if: {series: names, above: 3}, then: tempfail}
`)
	w.followAll()
	w.expect(w.client("198.51.100.7"), policy.Connect, "continue")
	w.tell("mx2", "clients", "198.51.100.7", 3)
	w.expect(w.client("198.51.100.7"), policy.Connect, "continue") // 2 here, 5 in all
	w.tell("mx3", "clients", "198.51.100.7", 1)
	w.expect(w.client("198.51.100.9"), policy.Connect, "continue")
	w.expect(w.client("198.51.100.7"), policy.Mail, "continue") // 2 of 6
	w.tell("mx3", "clients", "198.51.100.7", -1)
	w.tell("mx2", "clients", "198.51.100.7", -2)
	w.expect(w.client("198.51.100.7"), policy.Mail, "tempfail: 451 4.7.1 mostly-here: 2 in clients for 198.51.100.7 over 5 minutes, above 50% of 3 in clients; try again in 5 minutes")
	w.tell("mx2", "clients", "198.51.100.7", 10)
	w.expect(w.client("198.51.100.9"), policy.Helo, "continue") // 3 of the network here
	w.expect(w.client("198.51.100.9"), policy.Connect, "continue")
	w.expect(w.client("198.51.100.9"), policy.Helo, "tempfail: 451 4.7.1 network-here: 4 in clients for 198.51.100.0/24 over 5 minutes, above 3; try again in 5 minutes")
	w.expect(w.client("198.51.100.7"), policy.Connect, "reject: 550 5.7.1 here: 3 in clients for 198.51.100.7 over 10 minutes, above 2")

	ev := w.client("203.0.113.1")
	ev.SetHelo("one")
	w.expect(ev, policy.Helo, "continue")
	w.tell("mx2", "names", "203.0.113.1", 0, 2, 3)
	w.expect(ev, policy.Helo, "continue") // three names in all
	w.tell("mx3", "names", "203.0.113.1", 0, 3, 4)
	w.expect(ev, policy.Helo, "tempfail: 451 4.7.1 names: 4 in names for 203.0.113.1 over 5 minutes, above 3; try again in 5 minutes")
	ev.SetHelo("two")
	w.expect(ev, policy.Helo, "reject: 550 5.7.1 names-here: 2 in names for 203.0.113.1 over 5 minutes, above 1")
}

func TestANodeTellsOnlyWhatItHasCounted(t *testing.T) {
	w := newWorld(t, clientsAndNames)
	w.followAll()
	w.tell("mx2", "clients", "198.51.100.7", 3)
	w.tell("mx2", "names", "198.51.100.7", 0, 1, 2)
	ev := w.client("198.51.100.7")
	ev.SetHelo("one")
	w.decide(ev, policy.Connect)
	w.decide(ev, policy.Helo)
	if d := w.deltas("clients"); len(d) != 1 || d[0].Amount != 1 {
		t.Errorf("of clients it tells %+v, want an amount of 1", d)
	}
	if d := w.deltas("names"); len(d) != 1 || len(d[0].Values) != 1 {
		t.Errorf("of names it tells %+v, want one value", d)
	}
	for _, k := range w.engine.Kept() {
		all, snapshot := 0, k.Snapshot()
		for more := true; more; {
			more = snapshot.Next(func(d series.Delta) { all += int(d.Amount) + len(d.Values) })
		}
		if all != 1 {
			t.Errorf("a snapshot of %s has %d, want 1", k.Definition.Name, all)
		}
	}
}

// What one node removes each takes back by itself; what it counts after that stays.
func TestAnotherNodesWishIsDone(t *testing.T) {
	w := newWorld(t, clientsAndNames)
	w.followAll()
	connect := func(helo string) {
		ev := w.client("198.51.100.7")
		ev.SetHelo(helo)
		w.decide(ev, policy.Connect)
		w.decide(ev, policy.Helo)
	}
	connect("one")
	w.tell("mx2", "clients", "198.51.100.7", 3)
	w.tell("mx2", "names", "198.51.100.7", 0, 1, 2)
	wish := series.Wish(addrKey("198.51.100.7"), 32)
	for _, k := range w.engine.Kept() {
		k.MergeShare("mx3", wish, w.now)
	}
	if n, m := w.countOf("clients", "198.51.100.7"), w.countOf("names", "198.51.100.7"); n != 3 || m != 2 {
		t.Errorf("after another node's wish there are %d and %d, want the 3 and 2 of mx2", n, m)
	}
	connect("two")
	var told []string
	for _, d := range append(w.deltas("clients"), w.deltas("names")...) {
		told = append(told, fmt.Sprint(d.Amount, len(d.Values), d.Removed, d.IsWish()))
	}
	want := []string{"1 0 false false", "-1 0 true false", "1 0 false false", "0 0 true false", "0 1 false false"}
	if !slices.Equal(told, want) {
		t.Errorf("it tells %q, want %q: no wish, else it would never end", told, want)
	}
	if n, m := w.countOf("clients", "198.51.100.7"), w.countOf("names", "198.51.100.7"); n != 4 || m != 3 {
		t.Errorf("with what came after it there are %d and %d, want 4 and 3", n, m)
	}
	for _, k := range w.engine.Kept() {
		if !k.Remove(addrKey("198.51.100.7"), w.now) || k.Remove(addrKey("198.51.100.8"), w.now) {
			t.Errorf("%s: a key that counts is removed, and no other", k.Definition.Name)
		}
		if d := w.deltas(k.Definition.Name); len(d) != 3 || !d[0].IsWish() || !d[1].IsWish() || d[2].IsWish() {
			t.Errorf("%s: a removal tells %+v, want two wishes and what was taken back", k.Definition.Name, d)
		}
	}
}

func TestWhatBecomesOfShares(t *testing.T) {
	const one = inACluster + `
series:
  a: {type: ip, interval: 5m, windows: 6, add: {at: connect}, replicate: %s}
`
	for _, row := range []struct {
		name, after string
		want        string
		total, own  int64
		nodes       int
	}{
		{"nothing has changed", fmt.Sprintf(one, "cluster"), "kept a", 5, 2, 1},
		{"only managers have it now", fmt.Sprintf(one, "manager"), "kept a", 5, 2, 1},
		{"it replicates no longer", fmt.Sprintf(one, "none"), "reshaped a", 2, 2, 0},
		{"it has another shape, which the others have to tell anew", inACluster + `
series:
  a: {type: ip, interval: 5m, windows: 7, add: {at: connect}, replicate: cluster}
`, "reshaped a", 2, 2, 0},
	} {
		w := newWorld(t, fmt.Sprintf(one, "cluster"))
		w.followAll()
		w.decide(w.client("198.51.100.7"), policy.Connect)
		w.deltas("a")
		w.decide(w.client("198.51.100.7"), policy.Connect) // which has not been told yet
		w.tell("mx2", "a", "198.51.100.7", 3)
		changes := w.follow(row.after)
		got := "kept a"
		if len(changes.Reshaped) == 1 {
			got = "reshaped a"
		}
		a := w.engine.Lasting("a")
		own := a.Share("").Count(addrKey("198.51.100.7"), series.Host, 0, 5, w.now)
		if n := w.countOf("a", "198.51.100.7"); got != row.want || n != row.total || own != row.own || len(a.ShareNodes()) != row.nodes {
			t.Errorf("%s: %s, %d in all, %d of its own, shares of %v", row.name, got, n, own, a.ShareNodes())
		}
		if len(changes.Reshaped) == 1 && changes.Reshaped[0].Lost != "" {
			t.Errorf("%s: lost are %s", row.name, changes.Reshaped[0].Lost)
		}
	}
}

func TestWhatWasKeptIsTheNodesOwn(t *testing.T) {
	const text = inACluster + `
series:
  a: {type: ip, interval: 5m, windows: 6, add: {at: connect}, replicate: cluster}
  b: {type: ip, interval: 5m, windows: 6, distinct: helo_name, add: {at: helo}, replicate: cluster}
`
	w := newWorld(t, text)
	var restored policy.Restored
	for _, k := range w.engine.Kept() {
		l, err := policy.NewLasting(k.Definition, k.Of, k.Masks)
		if err != nil {
			t.Fatal(err)
		}
		start := w.now.Truncate(5 * time.Minute).Unix()
		l.Counter.Begin(w.now)
		l.Counter.Merge(series.Delta{Key: addrKey("198.51.100.7"), Bits: 32, Start: start, Amount: 3, Values: []uint64{1, 2, 3}}, w.now)
		restored.Series = append(restored.Series, l)
	}
	changes := w.restart(restored, parsed(t, text))
	if len(changes.Kept) != 2 {
		t.Errorf("kept are %v, reshaped %v", changes.Kept, changes.Reshaped)
	}
	w.followAll()
	w.tell("mx2", "a", "198.51.100.7", 4)
	w.tell("mx2", "b", "198.51.100.7", 0, 3, 4)
	for name, want := range map[string]int64{"a": 7, "b": 4} {
		own := w.engine.Lasting(name).Share("").Count(addrKey("198.51.100.7"), series.Host, 0, 0, w.now)
		if n := w.countOf(name, "198.51.100.7"); n != want || own != 3 || len(w.deltas(name)) != 0 {
			t.Errorf("of %s there are %d in all and %d of its own, want %d and 3, and nothing told", name, n, own, want)
		}
	}
}

func TestOpenSessionsOfOtherNodes(t *testing.T) {
	w := newWorld(t, inACluster+`
rules:
  - {name: here, at: connect, if: {series: open_sessions, scope: node, above: 1}, then: reject}
  - {name: all, at: connect, if: {series: open_sessions, above: 3}, then: tempfail}
`)
	open := w.engine.Open()
	addr := addrKey("198.51.100.7")
	first := w.client("198.51.100.7")
	w.expect(first, policy.Connect, "continue")
	open.SetShare("mx2", map[series.Key]int64{addr: 2, addrKey("198.51.100.8"): 1}, w.now)
	first.Leave()
	w.expect(first, policy.Connect, "continue")
	open.SetShare("mx2", map[series.Key]int64{addr: 3}, w.now)
	w.expect(first, policy.Connect, "tempfail: 451 4.7.1 all: 4 in open_sessions for 198.51.100.7 at present, above 3; try again in 1 minute")
	own := make(map[string]int64)
	for k, counts := range open.Share("").All(w.now) {
		own[k.String()] = counts[0]
	}
	if !maps.Equal(own, map[string]int64{"198.51.100.7": 1}) {
		t.Errorf("its own are %v, want the one session", own)
	}
	w.expect(w.client("198.51.100.7"), policy.Connect, "reject: 550 5.7.1 here: 2 in open_sessions for 198.51.100.7 at present, above 1")
	if adds := open.Counter.Stats().Adds; adds != 6 {
		t.Errorf("there were %d adds, want one for each of 4 sessions that began and 2 that ended here", adds)
	}
	open.SetShare("mx2", nil, w.now)
	if n := w.countOf(policy.OpenSessions, "198.51.100.7"); n != 2 || len(open.ShareNodes()) != 0 || open.Counter.Len() != 1 {
		t.Errorf("without the other node there are %d of %d keys, and shares of %v", n, open.Counter.Len(), open.ShareNodes())
	}
}

const flood = `
series:
  clients: {type: ip, interval: 5m, windows: 2, add: {at: connect}}
rules:
  - {name: flood, at: connect, if: {series: clients, above: 100}, then: tempfail, penalty: 10m}
`

func TestPenaltiesOfOtherNodesAreNotToldAgain(t *testing.T) {
	w := newWorld(t, flood)
	w.engine.PenaltyDeltas(w.now)
	p := policy.Penalty{Rule: "flood", Subject: policy.Subject{Network: netip.MustParsePrefix("198.51.100.7/32")}, Until: w.now.Add(time.Minute)}
	w.engine.MergePenalty(p, w.now)
	if all, told := w.engine.Penalties(w.now), w.engine.PenaltyDeltas(w.now); len(all) != 1 || len(told) != 0 {
		t.Errorf("%d run and %d are told, want 1 and 0", len(all), len(told))
	}
}

func TestThatAnotherNodeHasEndedAPenaltyIsToldOnce(t *testing.T) {
	w := newWorld(t, flood)
	w.engine.PenaltyDeltas(w.now)
	p := policy.Penalty{Rule: "flood", Subject: policy.Subject{Network: netip.MustParsePrefix("198.51.100.7/32")}, Until: w.now.Add(time.Minute)}
	end := policy.Penalty{Rule: p.Rule, Subject: p.Subject, Since: w.now}
	w.engine.SetPenalty(p, w.now)
	w.engine.PenaltyDeltas(w.now)
	for i, want := range []int{1, 0} {
		w.engine.EndPenalty(end, w.now)
		all, told := w.engine.Penalties(w.now), w.engine.PenaltyDeltas(w.now)
		if len(all) != 0 || len(told) != want || want > 0 && told[0] != end {
			t.Errorf("time %d: %d run and %v are told, want 0 and %d", i+1, len(all), told, want)
		}
	}
	w.engine.SetPenalty(p, w.now)
	w.engine.PenaltyDeltas(w.now)
	w.now = w.now.Add(2 * time.Minute)
	w.engine.EndPenalty(end, w.now)
	if told := w.engine.PenaltyDeltas(w.now); len(told) != 0 {
		t.Errorf("%v is told of one that had ended by itself", told)
	}
}

// The end may come to a node that was away for long, which has imposed a penalty anew; by
// a rule that is another one now, or was kept on a disk.
func TestOnlyPenaltiesThatWereImposedBeforeEnd(t *testing.T) {
	for _, row := range []struct {
		name    string
		imposed time.Duration // after the removal
		length  time.Duration // of the rule's penalty then
		kept    bool
		runs    int
	}{
		{"five minutes before", -5 * time.Minute, 10 * time.Minute, false, 0},
		{"just before", -time.Second, 10 * time.Minute, false, 0},
		{"by a clock that is somewhat ahead", 50 * time.Millisecond, 10 * time.Minute, false, 0},
		{"just after", time.Second, 10 * time.Minute, false, 1},
		{"an hour after", time.Hour, 10 * time.Minute, false, 1},
		{"before, by a longer rule", -time.Second, time.Hour, false, 0},
		{"after, by a longer rule", time.Second, time.Hour, false, 1},
		{"before, and kept", -time.Second, 10 * time.Minute, true, 0},
		{"after, and kept", time.Second, 10 * time.Minute, true, 1},
	} {
		w := newWorld(t, strings.Replace(flood, "10m", fmt.Sprint(int(row.length.Seconds())), 1))
		end := policy.Penalty{Rule: "flood", Subject: policy.Subject{Network: netip.MustParsePrefix("198.51.100.7/32")}, Since: w.now}
		w.now = w.now.Add(row.imposed)
		p := end
		p.Since, p.Until = w.now, w.now.Add(row.length)
		if row.kept {
			p.Since = time.Time{}
		}
		w.engine.MergePenalty(p, w.now)
		w.follow(flood)
		w.now = w.now.Add(3 * time.Minute)
		w.engine.EndPenalty(end, w.now)
		if all := w.engine.Penalties(w.now); len(all) != row.runs {
			t.Errorf("%s: %d run, want %d", row.name, len(all), row.runs)
		}
	}
}

// Sessions count while another node's counts come, are dropped and come again, and it
// is asked what is new: in the end nothing is lost or there twice.
func TestCountsWhileSharesComeAndGo(t *testing.T) {
	w := newWorld(t, clientsAndNames)
	w.followAll()
	const adds, keys = 5000, 20
	clients, names := w.engine.Lasting("clients"), w.engine.Lasting("names")
	key := func(i int) series.Key { return addrKey(fmt.Sprintf("198.51.100.%d", i%keys)) }
	start := w.now.Truncate(5 * time.Minute).Unix()
	share := func() {
		for i := range keys {
			clients.MergeShare("mx2", series.Delta{Key: key(i), Bits: 32, Start: start, Amount: 7}, w.now)
			names.MergeShare("mx2", series.Delta{Key: key(i), Bits: 32, Start: start, Values: []uint64{uint64(i) + 1, 99}}, w.now)
		}
	}
	var adding, telling sync.WaitGroup
	for range 2 {
		adding.Go(func() {
			for i := range adds {
				clients.Counter.(*series.Series).Add(key(i), 1, w.now)
				names.Show(key(i), fmt.Sprint(i%40), w.now)
			}
		})
	}
	adding.Go(func() {
		for range 50 {
			share()
			clients.DropShare("mx2", w.now)
			names.DropShare("mx2", w.now)
		}
		share()
	})
	done := make(chan struct{})
	var told int64
	telling.Go(func() {
		for {
			clients.Deltas(func(d series.Delta) { told += d.Amount })
			select {
			case <-done:
				clients.Deltas(func(d series.Delta) { told += d.Amount })
				return
			default:
			}
		}
	})
	adding.Wait()
	close(done)
	telling.Wait()
	if told != 2*adds {
		t.Errorf("it told of %d, want %d", told, 2*adds)
	}
	for i := range keys {
		if n := clients.Counter.Count(key(i), series.Host, 0, 1, w.now); n != 2*adds/keys+7 {
			t.Errorf("%s counts %d, want %d", key(i), n, 2*adds/keys+7)
		}
		shown := make(map[int]bool)
		for j := i; j < adds; j += keys {
			shown[j%40] = true
		}
		if n := names.Counter.Count(key(i), series.Host, 0, 1, w.now); n != int64(len(shown)+2) {
			t.Errorf("%s has shown %d, want %d", key(i), n, len(shown)+2)
		}
	}
}

// A node's part is put together anew again and again, with the same in it and more, while
// others read: it counts all the time, and nothing counts twice.
func TestWhatIsRenewedCountsAllTheTime(t *testing.T) {
	w := newWorld(t, clientsAndNames)
	const keys, rounds = 50, 300
	clients, names := w.engine.Lasting("clients"), w.engine.Lasting("names")
	key := func(i int) series.Key { return addrKey(fmt.Sprintf("198.51.100.%d", i)) }
	count := func(l *policy.Lasting, i int) int64 { return l.Counter.Count(key(i), series.Host, 0, 1, w.now) }
	start := w.now.Truncate(5 * time.Minute).Unix()
	renew := func(round int) {
		c, n := clients.Renew("mx2"), names.Renew("mx2")
		for i := range keys {
			c.Merge(series.Delta{Key: key(i), Bits: 32, Start: start, Amount: int64(1000 + round)}, w.now)
			n.Merge(series.Delta{Key: key(i), Bits: 32, Start: start, Values: []uint64{1, 2, 3}}, w.now)
		}
		c.Done(w.now)
		n.Done(w.now)
	}
	renew(0)
	for i := range keys {
		clients.Counter.(*series.Series).Add(key(i), 7, w.now)
		names.Show(key(i), "here", w.now)
	}
	done := make(chan struct{})
	go func() {
		for round := range rounds {
			renew(round)
		}
		close(done)
	}()
	before := make([]int64, keys)
	for over := false; !over; {
		select {
		case <-done:
			over = true
		default:
		}
		for i := range keys {
			n := count(clients, i)
			if n < max(before[i], 1007) || n > 1007+rounds-1 {
				t.Fatalf("%s counts %d after %d", key(i), n, before[i])
			}
			before[i] = n
			if n := count(names, i); n != 4 {
				t.Fatalf("%s has shown %d, want 4", key(i), n)
			}
		}
	}
	for i := range keys {
		if before[i] != 1007+rounds-1 {
			t.Errorf("%s counts %d in the end, want %d", key(i), before[i], 1007+rounds-1)
		}
	}
	c, n := clients.Renew("mx2"), names.Renew("mx2")
	n.Merge(series.Delta{Key: key(1), Bits: 32, Start: start, Values: []uint64{3}}, w.now)
	c.Merge(series.Delta{Key: key(1), Bits: 32, Start: start, Amount: 2}, w.now)
	c.Done(w.now)
	n.Done(w.now)
	for i, want := range []int64{7, 9} {
		if n := count(clients, i); n != want {
			t.Errorf("%s counts %d when the node counts less, want %d", key(i), n, want)
		}
		if n := count(names, i); n != int64(i+1) {
			t.Errorf("%s has shown %d when the node has less, want %d", key(i), n, i+1)
		}
	}
}

// To put a large part together anew takes its time, and ticks go on meanwhile.
func TestATickDoesNotWaitForARenewal(t *testing.T) {
	w := newWorld(t, clientsAndNames)
	w.followAll()
	const keys, rounds = 20_000, 20
	for _, name := range []string{"clients", "names"} {
		l := w.engine.Lasting(name)
		counted := func() int { return l.Counter.Len() }
		within := false
		for round := 1; round <= rounds && !within; round++ {
			node, before := fmt.Sprint("mx", round+1), counted()
			r := l.Renew(node)
			for i := range keys {
				a := netip.AddrFrom4([4]byte{10, byte(round), byte(i >> 8), byte(i)})
				r.Merge(series.Delta{Key: series.AddrKey(a), Bits: 32, Start: w.now.Truncate(5 * time.Minute).Unix(), Amount: 1, Values: []uint64{1}}, w.now)
			}
			done := make(chan struct{})
			go func() {
				r.Done(w.now)
				close(done)
			}()
			for counted() == before {
				runtime.Gosched()
			}
			l.Deltas(func(series.Delta) {})
			within = counted() < before+keys
			<-done
			l.DropShare(node, w.now)
		}
		if !within {
			t.Errorf("%s: in none of %d rounds did a tick come between", name, rounds)
		}
	}
}

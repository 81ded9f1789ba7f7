package cluster

import (
	"context"
	"encoding/json"
	"slices"
	"strconv"
	"time"

	"github.com/valkey-io/valkey-go"

	"github.com/audit-milter/audit-milter/internal/deltas"
	"github.com/audit-milter/audit-milter/policy"
	"github.com/audit-milter/audit-milter/series"
)

// presence is what a node says of itself every second, as JSON.
type presence struct {
	Role     string `json:"role"`
	Version  string `json:"version"`
	Life     string `json:"life"`   // another one after a restart
	Time     int64  `json:"time"`   // milliseconds since 1970, by its own clock
	Skew     int64  `json:"skew"`   // milliseconds that its clock was ahead of the server's
	Margin   int64  `json:"margin"` // milliseconds that this may be wrong
	Sessions int    `json:"sessions"`
	Open     string `json:"open"`  // another text when other sessions are open
	Lives    int64  `json:"lives"` // milliseconds that all it has sent can stay

	seen time.Time // by this node's clock
}

func (p *presence) skew() time.Duration { return time.Duration(p.Skew) * time.Millisecond }

// skew is how far this node's clock is ahead of the server's.
type skew struct{ ahead, margin time.Duration }

// skewOf knows that the server has read its clock at some time between two.
func skewOf(server, before, after time.Time) skew {
	half := after.Sub(before) / 2
	return skew{before.Add(half).Sub(server), half}
}

// refine takes a new measurement unless it only says less exactly the same.
func (s skew) refine(by skew) skew {
	if by.margin > s.margin && (by.ahead-s.ahead).Abs() <= by.margin+s.margin {
		return s
	}
	return by
}

// setAhead lets the taker know this node's clock.
func (r *reader) setAhead() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ahead = r.clock.ahead
}

func (c *Cluster) role() string {
	if c.Manager {
		return "manager"
	}
	return "node"
}

// beat says that this node is there, and hears who else is.
func (r *reader) beat(ctx context.Context) error {
	self, open, err := r.introduce()
	if err != nil {
		return err
	}
	r.noteOwn()
	nodes := clusterKey(r.Name, "nodes")
	before := r.Now()
	results, err := r.link.do(ctx, func(b valkey.Builder) []valkey.Completed {
		all := []valkey.Completed{
			b.Time().Build(),
			b.Hgetall().Key(nodes).Build(),
			b.Set().Key(r.openKey(r.Node)).Value(string(open)).Px(openLasts).Build(),
		}
		all = append(all, r.tellGranted(b)...) // it is no longer new when the server has heard of it
		return append(all, b.Hset().Key(nodes).FieldValue().FieldValue(r.Node, string(self)).Build())
	})
	if err != nil {
		return err
	}
	for _, result := range results {
		if err := result.Error(); err != nil {
			return err
		}
	}
	server, err := serverTime(results[0])
	if err != nil {
		return err
	}
	r.clock = r.clock.refine(skewOf(server, before, r.Now()))
	r.setAhead()
	there, err := results[1].AsStrMap()
	if err != nil {
		return err
	}
	lost := r.recognize(there[r.Node])
	r.toldGranted(lost)
	r.meet(there, server)
	if err := r.forgetGone(ctx); err != nil {
		return err
	}
	return r.readOpen(ctx)
}

// introduce is what this node says of itself, and what sessions it has open.
func (r *reader) introduce() (self, open []byte, err error) {
	var all []series.Delta
	sessions := 0
	for k, counts := range r.Engine().Open().Share("").All(r.Now()) {
		all = append(all, series.Delta{Key: k, Bits: uint8(k.Addr().BitLen()), Amount: counts[0]})
		sessions += int(counts[0])
	}
	slices.SortFunc(all, func(a, b series.Delta) int { return a.Key.Addr().Compare(b.Key.Addr()) })
	open = deltas.AppendDeltas(nil, all)
	p := &r.self
	p.Time, p.Skew, p.Margin = r.Now().UnixMilli(), r.clock.ahead.Milliseconds(), r.clock.margin.Milliseconds()
	p.Sessions, p.Open = sessions, shorten(string(open))
	longest := penaltiesLive
	for _, t := range r.topics {
		if t.lasting != nil {
			longest = max(longest, lives(t.lasting.Definition))
		}
	}
	p.Lives = longest.Milliseconds()
	self, err = json.Marshal(p)
	return self, open, err
}

// recognize looks at what the server has kept of this node, and reports whether it has
// lost something.
func (r *reader) recognize(kept string) (lost bool) {
	lost, again, taken := r.compareSelf(kept)
	if again {
		r.Log.Warn("cluster: the server has lost what it had: all is sent again")
	}
	if taken {
		r.Log.Error("cluster: another process uses this node's name: each node needs one of its own, else counts are lost", "node", r.Node)
	}
	return lost
}

// compareSelf reports whether the server has lost something, whether all is sent again for
// that, and whether the name is taken and that is to be told.
func (r *reader) compareSelf(kept string) (lost, again, taken bool) {
	var p presence
	known := json.Unmarshal([]byte(kept), &p) == nil
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.acked == 0:
	case !known, p.Life == r.incarnation && p.Time < r.acked:
		lost = true
		if again = r.joined && !r.broken; again {
			r.letGo()
		}
	case p.Life != r.incarnation:
		taken = r.isNews("name")
	}
	r.acked = r.self.Time
	return lost, again, taken
}

// meet takes in who is there. Those of whom the server has lost all are not gone: they
// will say so again, and what they have counted counts on. A name that no configuration
// allows is none: whoever can write to the server could write to the terminal of who looks
// at the nodes.
func (r *reader) meet(there map[string]string, server time.Time) {
	for node, text := range there {
		p := new(presence)
		if node == r.Node || !policy.IsNodeName(node) || json.Unmarshal([]byte(text), p) != nil {
			continue
		}
		p.Role, p.Version = policy.Printable(p.Role), policy.Printable(p.Version)
		age := server.Sub(time.UnixMilli(p.Time).Add(-p.skew()))
		p.seen = r.Now().Add(-max(age, 0))
		if before := r.nodes[node]; before != nil {
			if before.Time != p.Time && p.seen.Before(r.beaten) {
				p.seen = r.beaten // it was there since, and has set its clock back
			}
			if before.Life != p.Life {
				r.startOver(node)
			}
		}
		r.nodes[node] = p
		if r.heard[node] == nil {
			r.heard[node] = new(heard)
		}
		r.compareClocks(node, p)
	}
}

// startOver reads a node's snapshots again that was started anew. If the server has lost
// its data its numbers may be lower than those that were read.
func (r *reader) startOver(node string) {
	for _, t := range r.topics {
		if f := t.feeds[node]; f != nil {
			f.behind, f.need = true, 0
		}
	}
}

// compareClocks says when a node's clock and this one's are more than one interval
// apart: then they count the same time in different windows.
func (r *reader) compareClocks(node string, p *presence) {
	if !r.isSkewed(p) {
		return
	}
	r.mu.Lock()
	isNews := r.isNews("clock of " + node)
	r.mu.Unlock()
	if isNews {
		r.Log.Error("cluster: the clocks of two nodes are more than one interval of a series apart, so that windows do not match: set them right",
			"node", node, "ahead_of_this_node", (p.skew() - r.clock.ahead).String())
	}
}

func (r *reader) isSkewed(p *presence) bool {
	shortest := time.Duration(0)
	for _, t := range r.topics {
		if t.lasting != nil && (shortest == 0 || t.lasting.Definition.Interval < shortest) {
			shortest = t.lasting.Definition.Interval
		}
	}
	apart := (p.skew() - r.clock.ahead).Abs() - r.clock.margin - time.Duration(p.Margin)*time.Millisecond
	return shortest > 0 && apart > shortest
}

// forgetGone lets those go whose counts have left.
func (r *reader) forgetGone(ctx context.Context) error {
	var gone []string
	for node, p := range r.nodes {
		if r.Now().Sub(p.seen) > time.Duration(p.Lives)*time.Millisecond {
			gone = append(gone, node)
			delete(r.nodes, node)
			delete(r.heard, node)
		}
	}
	if gone == nil {
		return nil
	}
	_, err := r.link.do(ctx, func(b valkey.Builder) []valkey.Completed {
		return []valkey.Completed{b.Hdel().Key(clusterKey(r.Name, "nodes")).Field(gone...).Build()}
	})
	return err
}

// endOpen ends the open sessions of nodes that are not heard of, also while the server
// is away: else those of a dead node would stay for as long.
func (r *reader) endOpen() {
	gauge := r.Engine().Open()
	for _, node := range gauge.ShareNodes() {
		if p := r.nodes[node]; p == nil || r.Now().Sub(p.seen) >= openLasts {
			gauge.SetShare(node, nil, r.Now())
			delete(r.opened, node)
		}
	}
}

// readOpen reads the open sessions of those who have others than before.
func (r *reader) readOpen(ctx context.Context) error {
	gauge := r.Engine().Open()
	var changed []string
	for node, p := range r.nodes {
		if r.opened[node] != p.Open && r.Now().Sub(p.seen) < openLasts {
			changed = append(changed, node)
		}
	}
	if changed == nil {
		return nil
	}
	results, err := r.link.do(ctx, func(b valkey.Builder) (all []valkey.Completed) {
		for _, node := range changed {
			all = append(all, b.Get().Key(r.openKey(node)).Build())
		}
		return all
	})
	if err != nil {
		return err
	}
	for i, node := range changed {
		payload, err := results[i].AsBytes()
		if err != nil && !valkey.IsValkeyNil(err) {
			return err
		}
		gauge.SetShare(node, openOf(payload), r.Now())
		r.opened[node] = shorten(string(payload))
	}
	return nil
}

// openOf is what a node has open; nothing if that is not there any more. The gauge lets no
// key leave for others, so of addresses there are no more than a node can have sessions.
func openOf(payload []byte) map[series.Key]int64 {
	all, err := deltas.DecodeDeltas(payload)
	if err != nil {
		return nil
	}
	open := make(map[series.Key]int64)
	for d := range all {
		if open[d.Key] += d.Amount; len(open) == maxOpen {
			break
		}
	}
	return open
}

// leave says that no session is open any more. If the server does not hear it, the others
// know in half a minute. A node that has not said that it is there says nothing: it may
// be one that cannot start, and have counts in the cluster from before.
func (r *reader) leave(ctx context.Context) {
	if r.acked == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	r.link.do(ctx, func(b valkey.Builder) []valkey.Completed {
		r.self.Sessions, r.self.Open = 0, ""
		self, err := json.Marshal(r.self)
		if err != nil {
			panic(err) // texts and numbers are JSON
		}
		return []valkey.Completed{
			b.Del().Key(r.openKey(r.Node)).Build(),
			b.Hset().Key(clusterKey(r.Name, "nodes")).FieldValue().FieldValue(r.Node, string(self)).Build(),
		}
	})
}

func (r *reader) openKey(node string) string { return clusterKey(r.Name, "open:"+node) }

func serverTime(r valkey.ValkeyResult) (time.Time, error) {
	parts, err := r.AsStrSlice()
	if err != nil || len(parts) != 2 {
		return time.Time{}, err
	}
	seconds, err := strconv.ParseInt(parts[0], 10, 64)
	if err != nil {
		return time.Time{}, err
	}
	micros, err := strconv.ParseInt(parts[1], 10, 64)
	return time.Unix(seconds, micros*1000), err
}

package cluster

import (
	"context"
	"maps"
	"strconv"
	"time"

	"github.com/valkey-io/valkey-go"

	"github.com/audit-milter/audit-milter/internal/deltas"
)

// grant does what other nodes wish, each once: a wish may be read again after a restart,
// when this node has counted the key anew. Wishes of a node come in their order.
func (r *reader) grant(wishes []deltas.Wish) {
	now := r.Now()
	for _, w := range wishes {
		if w.Node == r.Node || w.Number <= r.grantedOf(w.Node) {
			continue
		}
		r.wishes[w.Node], r.granted[w.Node] = w.Number, w.Number
		if w.Until.After(now) {
			r.fulfil(w, now)
		}
	}
}

func (r *reader) fulfil(w deltas.Wish, now time.Time) {
	if t := r.topics[w.Series]; t != nil && t.lasting != nil {
		t.lasting.MergeShare(w.Node, w.Delta, now)
	}
}

// grantedOf is the number of the node's last wish that this one has granted.
func (r *reader) grantedOf(node string) uint64 {
	last, ever := r.wishes[node]
	if ever {
		return last
	}
	floor := int64(r.wishes[""])
	if p := r.nodes[node]; p != nil && floor > 0 {
		floor += p.Skew // numbers are by the node's own clock
	}
	return uint64(max(floor, 0))
}

// floor is what a node that is new to the server takes for granted: what was wished before
// it began to count, or before the last batch that its disk has. It is by the server's
// clock, in milliseconds since 1970.
func (r *reader) floor() uint64 {
	begun := r.Kept
	if begun == 0 {
		begun = uint64(max(r.started.UnixMilli(), 0))
	}
	return uint64(max(int64(begun)-r.clock.ahead.Milliseconds(), 0))
}

// grantKnown grants what was read before this node had its own counts. Its own wishes were
// granted when they were made; but the disk may lack that, if the node has crashed.
func (r *reader) grantKnown() {
	r.mu.Lock()
	known := r.standing.all(r.Now()).Wishes
	r.mu.Unlock()
	r.grant(known)
	for _, w := range known {
		if w.Node == r.Node && w.Number > r.Kept && r.Restored[w.Series] {
			r.fulfil(w, r.Now())
		}
	}
}

// tellGranted lets the server know what was granted before the last time that this node
// has said that it is there: what was taken back is on the disk by now, and told. Who
// crashes before that grants it again.
func (r *reader) tellGranted(b valkey.Builder) []valkey.Completed {
	lives := b.Pexpire().Key(r.wishesKey()).Milliseconds(r.self.Lives).Build()
	if len(r.settled) == 0 {
		return []valkey.Completed{lives}
	}
	tell := b.Hset().Key(r.wishesKey()).FieldValue()
	for node, number := range r.settled {
		tell = tell.FieldValue(node, decimal(number))
	}
	return []valkey.Completed{tell.Build(), lives}
}

// toldGranted is called when the server knows. One that had lost what it had is told all
// the next time.
func (r *reader) toldGranted(lost bool) {
	r.settled, r.granted = r.granted, make(map[string]uint64)
	if lost {
		r.settled = maps.Clone(r.wishes)
	}
}

// recall reads up to where this node has granted wishes in an earlier life.
func (r *reader) recall(ctx context.Context) error {
	results, err := r.link.do(ctx, func(b valkey.Builder) []valkey.Completed {
		return []valkey.Completed{b.Hgetall().Key(r.wishesKey()).Build()}
	})
	if err != nil {
		return err
	}
	granted, err := results[0].AsStrMap()
	if err != nil {
		return err
	}
	for node, text := range granted {
		if n, err := strconv.ParseUint(text, 10, 64); err == nil {
			r.wishes[node] = max(r.wishes[node], n)
		}
	}
	return nil
}

func (r *reader) wishesKey() string { return clusterKey(r.Name, "wishes:"+r.Node) }

package cluster

import (
	"context"
	"maps"
	"strconv"

	"github.com/valkey-io/valkey-go"

	"github.com/audit-milter/audit-milter/internal/deltas"
)

// grant does what nodes wish, each once: a wish may be read again after a restart, when
// this node has counted the key anew. Wishes of one life of a node come in their order.
func (r *reader) grant(wishes []deltas.Wish) {
	now := r.Now()
	for _, w := range wishes {
		who := w.Node + " " + w.Life
		if w.Life == r.incarnation || w.Number <= r.grantedOf(who, w.Node) {
			continue
		}
		r.wishes[who], r.granted[who] = w.Number, w.Number
		if t := r.topics[w.Series]; t != nil && t.lasting != nil && w.Until.After(now) {
			t.lasting.MergeShare(w.Node, w.Delta, now)
		}
	}
}

// grantedOf is the number of the last wish that this node has granted to one life of a
// node. Numbers are by that node's clock.
func (r *reader) grantedOf(who, node string) uint64 {
	last, ever := r.wishes[who]
	if ever {
		return last
	}
	floor := int64(r.wishes[""])
	switch p := r.nodes[node]; {
	case node == r.Node:
		floor += r.clock.ahead.Milliseconds()
	case p != nil:
		floor += p.Skew
	}
	return uint64(max(floor, 0))
}

// floor is up to when a node that is new to the server takes wishes for granted: those of
// before it began to count, or before the last batch that its disk has. It is by the
// server's clock, in milliseconds since 1970.
func (r *reader) floor() uint64 {
	begun := r.Kept
	if begun == 0 {
		begun = uint64(max(r.started.UnixMilli(), 0))
	}
	return uint64(max(int64(begun)-r.clock.ahead.Milliseconds(), 0))
}

// noteOwn notes this life's own wishes, which were granted when they were made.
func (r *reader) noteOwn() {
	r.mu.Lock()
	last := r.standing.heard[wisher{r.Node, r.incarnation}]
	r.mu.Unlock()
	if who := r.Node + " " + r.incarnation; last > r.wishes[who] {
		r.wishes[who], r.granted[who] = last, last
	}
}

// grantKnown grants what this node had told in an earlier life, its own wishes and others':
// its disk may lack what it had taken back.
func (r *reader) grantKnown() {
	r.mu.Lock()
	known := r.standing.all(r.Now()).Wishes
	r.mu.Unlock()
	r.grant(known)
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

// recall reads up to where this node has granted wishes in an earlier life, before it says
// that it is there. If there is nothing it is new to the server, and lets that know since
// when it is there before anything else.
func (r *reader) recall(ctx context.Context) error {
	if r.wishes[""] > 0 {
		return nil
	}
	before := r.Now()
	results, err := r.link.do(ctx, func(b valkey.Builder) []valkey.Completed {
		return []valkey.Completed{b.Time().Build(), b.Hgetall().Key(r.wishesKey()).Build()}
	})
	if err != nil {
		return err
	}
	server, err := serverTime(results[0])
	if err != nil {
		return err
	}
	r.clock = skewOf(server, before, r.Now())
	granted, err := results[1].AsStrMap()
	if err != nil {
		return err
	}
	for who, text := range granted {
		if n, err := strconv.ParseUint(text, 10, 64); err == nil {
			r.wishes[who] = n
		}
	}
	if r.wishes[""] == 0 {
		r.wishes[""] = max(r.floor(), 1)
		r.settled[""] = r.wishes[""]
	}
	return nil
}

func (r *reader) wishesKey() string { return clusterKey(r.Name, "wishes:"+r.Node) }

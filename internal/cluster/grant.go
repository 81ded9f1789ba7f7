package cluster

import (
	"context"
	"maps"
	"strconv"
	"time"

	"github.com/valkey-io/valkey-go"

	"github.com/audit-milter/audit-milter/internal/deltas"
	"github.com/audit-milter/audit-milter/policy"
)

// grant does what other nodes wish, each once: a wish may be read again after a restart,
// when this node has counted the key anew.
func (r *reader) grant(node string, wishes []deltas.Wish) {
	now := r.Now()
	for _, w := range wishes {
		if w.Number <= r.grantedOf(node) {
			continue
		}
		r.wishes[node], r.granted[node] = w.Number, w.Number
		if w.Until.After(now) {
			r.fulfil(node, w, now)
		}
	}
}

// grantedOf is the number of the node's last wish that this one has granted. One that was
// never in the cluster has not counted what those before are about, but for what it has
// kept.
func (r *reader) grantedOf(node string) uint64 {
	last, ever := r.wishes[node]
	switch {
	case ever || !r.fresh:
		return last
	case r.Kept > 0:
		return r.Kept
	}
	return uint64(max(r.started.UnixMilli(), 0))
}

func (r *reader) fulfil(node string, w deltas.Wish, now time.Time) {
	if t := r.topics[w.Series]; w.Series != "" && t != nil {
		t.lasting.MergeShare(node, w.Delta, now)
	}
	if w.Series == "" {
		r.hearPenalties([]policy.Penalty{w.Penalty})
		r.Engine().EndPenalty(w.Penalty, time.UnixMilli(int64(w.Number)), now)
	}
}

// tellGranted lets the server know what was granted before the last time that this node
// has said that it is there: what was taken back is on the disk by now, and told. Who
// crashes before that grants it again.
func (r *reader) tellGranted(b valkey.Builder) []valkey.Completed {
	if len(r.settled) == 0 {
		return nil
	}
	tell := b.Hset().Key(r.wishesKey()).FieldValue()
	for node, number := range r.settled {
		tell = tell.FieldValue(node, decimal(number))
	}
	return []valkey.Completed{tell.Build(), b.Pexpire().Key(r.wishesKey()).Milliseconds(r.self.Lives).Build()}
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

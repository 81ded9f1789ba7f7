package cluster

import (
	"context"
	"math"
	"strconv"
	"time"

	"github.com/valkey-io/valkey-go"

	"github.com/audit-milter/audit-milter/internal/deltas"
)

// whole is a node's whole snapshot of a topic.
type whole struct {
	end   uint64 // it has all batches up to that one
	shape string
	words string
	begun time.Time
	parts []part
}

type part struct {
	number  uint64
	payload []byte
}

// state is what a node says of its snapshot.
type state struct {
	whole
	begin uint64
	count uint64
}

var stateFields = []string{"begin", "end", "parts", "begun", "shape", "words"}

// parseState reports whether there is a whole snapshot.
func parseState(values []valkey.ValkeyMessage) (s state, ok bool) {
	var n [4]uint64
	for i, v := range values {
		text, err := v.ToString()
		if err != nil {
			return s, false
		}
		switch stateFields[i] {
		case "shape":
			s.shape = text
		case "words":
			s.words = text
		default:
			if n[i], err = strconv.ParseUint(text, 10, 64); err != nil {
				return s, false
			}
		}
	}
	s.begin, s.end, s.count = n[0], n[1], n[2]
	s.begun = time.UnixMilli(int64(n[3]))
	return s, len(values) == len(stateFields)
}

// states asks what snapshots there are.
func (r *reader) states(ctx context.Context, of []keys) ([]*state, error) {
	results, err := r.link.do(ctx, func(b valkey.Builder) (all []valkey.Completed) {
		for _, k := range of {
			all = append(all, b.Hmget().Key(k.state).Field(stateFields...).Build())
		}
		return all
	})
	if err != nil {
		return nil, err
	}
	states := make([]*state, len(of))
	for i, result := range results {
		values, err := result.ToArray()
		if err != nil {
			return nil, err
		}
		if s, ok := parseState(values); ok {
			states[i] = &s
		}
	}
	return states, nil
}

// fetch reads a snapshot to its end before any of it is put in, and reports whether it
// was still there.
func (r *reader) fetch(ctx context.Context, k keys, s *state) (whole bool, err error) {
	for from := s.begin; uint64(len(s.parts)) < s.count; {
		entries, err := r.stream(ctx, k.snapshot, from, s.end, 1)
		if err != nil {
			return false, err
		}
		for _, e := range entries {
			if e.FieldValues["i"] != strconv.Itoa(len(s.parts)) {
				return false, nil
			}
			number, err := parseID(e.ID)
			if err != nil {
				return false, err
			}
			s.parts = append(s.parts, part{number, []byte(e.FieldValues["d"])})
			from = number + 1
		}
		if len(entries) == 0 {
			return false, nil
		}
	}
	return true, nil
}

// stream reads the next entries of a stream, so many at the most.
func (r *reader) stream(ctx context.Context, key string, from, to uint64, count int64) ([]valkey.XRangeEntry, error) {
	results, err := r.link.do(ctx, func(b valkey.Builder) []valkey.Completed {
		return []valkey.Completed{b.Xrange().Key(key).Start(decimal(from) + "-0").End(decimal(to) + "-0").Count(count).Build()}
	})
	if err != nil {
		return nil, err
	}
	return results[0].AsXRange()
}

// catchUp starts with the snapshots of those feeds that are behind, as far as they are
// there.
func (r *reader) catchUp(ctx context.Context) error {
	type late struct {
		topic *topic
		node  string
		feed  *feed
	}
	var lates []late
	var of []keys
	for _, t := range r.topics {
		for node, f := range t.feeds {
			if f.behind {
				lates, of = append(lates, late{t, node, f}), append(of, f.keys)
			}
		}
	}
	if of == nil {
		return nil
	}
	states, err := r.states(ctx, of)
	if err != nil {
		return err
	}
	for i, s := range states {
		if r.isToBeat() {
			break // the others come next time
		}
		if l := lates[i]; s != nil && s.end >= l.feed.need {
			if err := r.start(ctx, l.topic, l.node, l.feed, s); err != nil {
				return err
			}
		}
	}
	return nil
}

// start puts a node's snapshot in the place of its share, and at once the batches behind it
// that were read before: else the node would count less until they are read again.
func (r *reader) start(ctx context.Context, t *topic, node string, f *feed, s *state) error {
	if s.shape != t.shape {
		r.differs(t, node, f, s.words)
		return nil
	}
	if whole, err := r.fetch(ctx, f.keys, s); err != nil || !whole {
		return err
	}
	again, err := r.batches(ctx, f.keys, t.shape, s.end, f.last)
	if err != nil {
		return err
	}
	if err := t.target.renew(node, s.parts, again); err != nil {
		r.damaged(t, node, f, err)
		f.need = max(f.need, s.end+1)
		return nil
	}
	f.last, f.behind, f.other, f.unread = s.end, false, false, false
	for _, p := range append(s.parts, again...) {
		r.heard[node].bytes += int64(len(p.payload))
		f.last = max(f.last, p.number)
	}
	return nil
}

// batches are those behind a snapshot that ends with one number, up to another: those
// that it can go on with.
func (r *reader) batches(ctx context.Context, k keys, shape string, end, to uint64) (told []part, err error) {
	for end < to {
		entries, err := r.stream(ctx, k.batches, end+1, to, readAtOnce)
		if err != nil || len(entries) == 0 {
			return told, err
		}
		for _, e := range entries {
			b, err := parseBatch(e)
			if err != nil || b.before > end || b.shape != shape {
				return told, nil
			}
			told, end = append(told, part{b.number, b.payload}), b.number
		}
	}
	return told, nil
}

// differs says that a node's series is another one by the same name: their counts do
// not mix.
func (r *reader) differs(t *topic, node string, f *feed, words string) {
	if f.other {
		return
	}
	f.other = true
	t.target.drop(node)
	r.Log.Error("cluster: a node's series is defined in another way, so its counts are left out here, and this node's there: define it the same at both, and where formats differ give both the same version",
		"node", node, "series", titleOf(t.name), "there", words, "here", t.words)
}

// join reads what this node has told in an earlier life of series that were not restored,
// before it tells anything new. Whether they persist says nothing: they may do so only
// since now, or the disk has lost them.
func (r *reader) join(ctx context.Context) error {
	if r.hasJoined() {
		return nil
	}
	if err := r.hearEnds(ctx); err != nil {
		return err
	}
	for _, t := range r.topics {
		if r.Restored[t.name] || r.back[t.name] {
			continue
		}
		begun, told, err := r.earlier(ctx, t, r.Node)
		if err != nil {
			return err
		}
		if t.lasting != nil && told != nil {
			t.lasting.Counter.Since(begun, r.Now())
		}
		var unread error
		for _, p := range told {
			if err := t.target.merge("", p.number, p.payload); err != nil {
				unread = err
			}
		}
		if unread != nil {
			r.Log.Error("cluster: what this node has sent before is not understood, and left out", "series", titleOf(t.name), "error", unread)
		}
		r.back[t.name] = true // also when the next one cannot be read yet
	}
	r.grantKnown()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.joined = true
	return nil
}

func (r *reader) hasJoined() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.joined
}

// hearEnds ends the penalties that others have ended meanwhile: those that the disk has
// kept, and those that this node has told, before they come back.
func (r *reader) hearEnds(ctx context.Context) error {
	for node := range r.nodes {
		_, told, err := r.earlier(ctx, r.topics[""], node)
		if err != nil {
			return err
		}
		for _, p := range told {
			if o, err := deltas.DecodeOrders(p.payload); err == nil { // else that is told when all of it is read
				r.hearOrders(node, &deltas.Orders{Ended: o.Ended}, r.Now())
			}
		}
	}
	return nil
}

// earlier is what a node has told of a topic so far, if that is defined as it is now.
func (r *reader) earlier(ctx context.Context, t *topic, node string) (begun time.Time, told []part, err error) {
	k := seriesKeys(r.Name, t.name, node)
	states, err := r.states(ctx, []keys{k})
	if err != nil || states[0] == nil {
		return begun, nil, err
	}
	s := states[0]
	if s.shape != t.shape {
		if node == r.Node {
			r.Log.Warn("cluster: what this node has sent before is defined in another way, and left out: what no disk has kept begins anew",
				"series", titleOf(t.name), "there", s.words, "here", t.words)
		}
		return begun, nil, nil
	}
	if whole, err := r.fetch(ctx, k, s); err != nil || !whole {
		return begun, nil, err
	}
	behind, err := r.batches(ctx, k, t.shape, s.end, math.MaxInt64)
	return s.begun, append(s.parts, behind...), err
}

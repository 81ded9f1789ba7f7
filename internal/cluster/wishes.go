package cluster

import (
	"context"
	"strconv"

	"github.com/valkey-io/valkey-go"
)

// wishes are those of one node in one batch: to take back what this node has counted
// for a key, or to end a penalty. Each is granted once. It may be read again after a
// restart, when this node has counted the key anew.
type wishes struct {
	reader *reader
	who    string // wishes, and about what
	number uint64
	isNew  bool
}

func (r *reader) wishesOf(topic, node string, number uint64) wishes {
	who := topic + "/" + node
	last, ever := r.wishes[who]
	if !ever && r.fresh {
		last = uint64(max(r.started.UnixMilli(), 0))
	}
	return wishes{r, who, number, number > last && node != ""}
}

// grant reports whether a wish is to be granted, and remembers that.
func (w wishes) grant() bool {
	if w.isNew {
		w.reader.wishes[w.who] = w.number
		w.reader.granted[w.who] = w.number
	}
	return w.isNew
}

// tellGranted lets the server know what was granted since it was told last.
func (r *reader) tellGranted(b valkey.Builder) []valkey.Completed {
	if len(r.granted) == 0 {
		return nil
	}
	tell := b.Hset().Key(r.wishesKey()).FieldValue()
	for who, number := range r.granted {
		tell = tell.FieldValue(who, decimal(number))
	}
	return []valkey.Completed{tell.Build(), b.Pexpire().Key(r.wishesKey()).Milliseconds(r.self.Lives).Build()}
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
	for who, text := range granted {
		if n, err := strconv.ParseUint(text, 10, 64); err == nil {
			r.wishes[who] = max(r.wishes[who], n)
		}
	}
	return nil
}

func (r *reader) wishesKey() string { return clusterKey(r.Name, "wishes:"+r.Node) }

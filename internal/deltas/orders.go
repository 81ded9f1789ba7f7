package deltas

import (
	"encoding/binary"
	"math"
	"time"

	"github.com/audit-milter/audit-milter/policy"
	"github.com/audit-milter/audit-milter/series"
)

// Orders are what nodes of a cluster tell each other beside counts.
type Orders struct {
	Imposed []policy.Penalty
	Ended   []policy.Penalty // with Over
	Wishes  []Wish
}

// Wish is what a node wishes of all others: that each takes back what it has counted for a
// key or a block.
type Wish struct {
	Node   string    // which wishes it
	Number uint64    // higher than those of the node's wishes before
	Until  time.Time // when all has left that it is about; whole seconds
	Series string
	Delta  series.Delta // a [series.Wish]
}

// AppendOrders appends orders, which [DecodeOrders] reads.
func AppendOrders(buf []byte, o *Orders) []byte {
	buf = AppendPenalties(buf, o.Imposed)
	ends := make([]policy.Penalty, len(o.Ended))
	for i, p := range o.Ended {
		p.Until = p.Over
		ends[i] = p
	}
	buf = AppendPenalties(buf, ends)
	buf = binary.AppendUvarint(buf, uint64(len(o.Wishes)))
	for i := range o.Wishes {
		buf = o.Wishes[i].append(buf)
	}
	return buf
}

func (w *Wish) append(buf []byte) []byte {
	buf = appendText(buf, w.Node)
	buf = binary.AppendUvarint(buf, w.Number)
	buf = binary.AppendVarint(buf, w.Until.Unix())
	buf = appendText(buf, w.Series)
	return appendKey(buf, w.Delta.Key, w.Delta.Bits)
}

// Size is how many bytes the wish takes among orders, at most, whatever its number.
func (w *Wish) Size() int {
	longest := *w
	longest.Number = math.MaxUint64
	return len(longest.append(nil))
}

// DecodeOrders is the inverse of [AppendOrders]. The error is [ErrPayload].
func DecodeOrders(payload []byte) (Orders, error) {
	r := reader{rest: payload}
	o := Orders{Imposed: r.penalties(), Ended: r.penalties(), Wishes: r.wishes()}
	for i := range o.Ended {
		p := &o.Ended[i]
		p.Over, p.Until = p.Until, time.Time{}
	}
	if !r.isAtEnd() {
		return Orders{}, ErrPayload
	}
	return o, nil
}

func (r *reader) wishes() []Wish {
	all := make([]Wish, r.length(6))
	for i := range all {
		all[i] = r.wish()
	}
	return all
}

func (r *reader) wish() (w Wish) {
	w.Node = r.text()
	w.Number = r.uvarint()
	w.Until = time.Unix(r.varint(), 0)
	w.Series = r.text()
	w.Delta = series.Wish(r.key())
	return w
}

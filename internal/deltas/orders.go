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
	Ended   []policy.Penalty // removed, at Since
	Wishes  []Wish
}

// Wish is what a node wishes of all others: that each takes back what it has counted for a
// key or a block.
type Wish struct {
	Node   string    // which wishes it
	Life   string    // of the node: another one after a restart
	Number uint64    // higher than those of that life's wishes before
	Until  time.Time // when all has left that it is about; whole seconds
	Series string
	Delta  series.Delta // a [series.Wish]
}

// AppendOrders appends orders, which [DecodeOrders] reads.
func AppendOrders(buf []byte, o *Orders) []byte {
	for _, penalties := range [][]policy.Penalty{o.Imposed, o.Ended} {
		buf = appendPenalties(buf, penalties)
		for _, p := range penalties {
			buf = binary.AppendVarint(buf, p.Since.UnixNano())
		}
	}
	buf = binary.AppendUvarint(buf, uint64(len(o.Wishes)))
	for i := range o.Wishes {
		buf = o.Wishes[i].append(buf)
	}
	return buf
}

func (w *Wish) append(buf []byte) []byte {
	buf = appendText(appendText(buf, w.Node), w.Life)
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
	o := Orders{Imposed: r.datedPenalties(), Ended: r.datedPenalties(), Wishes: r.wishes()}
	if !r.isAtEnd() {
		return Orders{}, ErrPayload
	}
	return o, nil
}

// datedPenalties are some with Since.
func (r *reader) datedPenalties() []policy.Penalty {
	all := r.penalties()
	for i := range all {
		all[i].Since = time.Unix(0, r.varint())
	}
	return all
}

func (r *reader) wishes() []Wish {
	all := make([]Wish, r.length(7))
	for i := range all {
		all[i] = r.wish()
	}
	return all
}

func (r *reader) wish() (w Wish) {
	w.Node, w.Life = r.text(), r.text()
	w.Number = r.uvarint()
	w.Until = time.Unix(r.varint(), 0)
	w.Series = r.text()
	w.Delta = series.Wish(r.key())
	return w
}

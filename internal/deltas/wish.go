package deltas

import (
	"encoding/binary"
	"time"

	"github.com/audit-milter/audit-milter/policy"
	"github.com/audit-milter/audit-milter/series"
)

// Wish is what a node wishes of all others of its cluster: that each takes back what it
// has counted for a key or a block, or ends a penalty.
type Wish struct {
	Number  uint64         // higher than those of the node's wishes before
	Until   time.Time      // when all has left that it is about; whole seconds
	Series  string         // "": it is about a penalty
	Delta   series.Delta   // a [series.Wish]
	Penalty policy.Penalty // that ended, of which Until says nothing
}

// AppendWishes appends wishes, which [DecodeTold] reads.
func AppendWishes(buf []byte, wishes []Wish) []byte {
	buf = binary.AppendUvarint(buf, uint64(len(wishes)))
	for i := range wishes {
		buf = appendWish(buf, &wishes[i])
	}
	return buf
}

func appendWish(buf []byte, w *Wish) []byte {
	buf = binary.AppendUvarint(buf, w.Number)
	buf = binary.AppendVarint(buf, w.Until.Unix())
	buf = appendText(buf, w.Series)
	if w.Series == "" {
		return appendPenalty(buf, w.Penalty)
	}
	return appendKey(buf, w.Delta.Key, w.Delta.Bits)
}

// DecodeTold reads what [AppendPenalties] and, behind that, [AppendWishes] have made. The
// error is [ErrPayload].
func DecodeTold(payload []byte) ([]policy.Penalty, []Wish, error) {
	r := reader{rest: payload}
	penalties, wishes := r.penalties(), r.wishes()
	if !r.isAtEnd() {
		return nil, nil, ErrPayload
	}
	return penalties, wishes, nil
}

func (r *reader) wishes() []Wish {
	all := make([]Wish, r.length(5))
	for i := range all {
		all[i] = r.wish()
	}
	return all
}

func (r *reader) wish() (w Wish) {
	w.Number = r.uvarint()
	w.Until = time.Unix(r.varint(), 0)
	if w.Series = r.text(); w.Series == "" {
		w.Penalty = r.penalty()
		return w
	}
	w.Delta = series.Wish(r.key())
	return w
}

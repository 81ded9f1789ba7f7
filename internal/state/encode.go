package state

import "github.com/audit-milter/audit-milter/internal/deltas"

// encoder makes records of batches.
type encoder struct {
	deltas.Encoder
	size int // of the last record, as a guess of the next one's
}

// encode makes a record of what persists; without any it has no bytes.
func (e *encoder) encode(b *deltas.Batch) record {
	r := record{number: b.Number, begin: b.Begin, end: b.End}
	persisting := 0
	for i := range b.Series {
		if s := &b.Series[i]; s.Persist {
			persisting++
			r.deltas += len(s.Deltas)
		}
	}
	if persisting == 0 && len(b.Penalties) == 0 && !b.Begin && !b.End {
		return r
	}
	buf := make([]byte, frameLen, e.size+e.size/4+256)
	buf = e.Append(buf, b, func(s *deltas.Series) bool { return s.Persist })
	frame(buf)
	r.bytes, e.size = buf, len(buf)
	return r
}

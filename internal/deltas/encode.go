package deltas

import (
	"encoding/binary"
	"net/netip"

	"github.com/audit-milter/audit-milter/policy"
	"github.com/audit-milter/audit-milter/series"
)

// What a batch's first byte says.
const (
	batchBegin = 1 << iota
	batchEnd
)

// What a series' first byte says.
const (
	seriesShape = 1 << iota // its shape follows
	seriesSerialize
)

// What a delta's first byte says; its lowest two bits are whom it is for.
const (
	deltaFor     = 1<<2 - 1
	deltaRemoved = 1 << (iota + 1)
	deltaSameKey // as the delta before has it
	deltaSameStart
	deltaAmount
	deltaValues
	deltaSketch
)

// What a key's first byte says.
const (
	keyText = iota
	keyIPv4 // an address alone
	keyIPv6
	keyIPv4Block // its length follows
	keyIPv6Block
)

// Encoder makes payloads of batches, which [Decode] reads. Behind each begin of a
// snapshot a series tells its shape once. The zero Encoder is ready.
type Encoder struct {
	told map[*policy.Lasting]bool // since the last begin
}

// Append appends a batch with those of its series that are wanted.
func (e *Encoder) Append(buf []byte, b *Batch, wanted func(*Series) bool) []byte {
	if b.Begin {
		e.told = make(map[*policy.Lasting]bool)
	}
	var series []*Series
	for i := range b.Series {
		if wanted(&b.Series[i]) {
			series = append(series, &b.Series[i])
		}
	}
	buf = appendBatchHead(buf, b)
	buf = binary.AppendUvarint(buf, uint64(len(series)))
	for _, s := range series {
		buf = e.appendSeries(buf, s, b.Begin)
	}
	return appendPenalties(buf, b.Penalties)
}

func appendPenalties(buf []byte, penalties []policy.Penalty) []byte {
	buf = binary.AppendUvarint(buf, uint64(len(penalties)))
	for _, p := range penalties {
		buf = appendPenalty(buf, p)
	}
	return buf
}

// AppendDeltas appends the deltas of one series, which [DecodeDeltas] reads. Those of
// one key that follow one another take the least room.
func AppendDeltas(buf []byte, all []series.Delta) []byte {
	buf = binary.AppendUvarint(buf, uint64(len(all)))
	var before series.Delta
	for i := range all {
		buf = appendDelta(buf, &all[i], &before)
		before = all[i]
	}
	return buf
}

func appendBatchHead(buf []byte, b *Batch) []byte {
	var flags byte
	if b.Begin {
		flags |= batchBegin
	}
	if b.End {
		flags |= batchEnd
	}
	buf = append(buf, flags)
	buf = binary.AppendUvarint(buf, b.Number)
	return binary.AppendVarint(buf, b.Now.UnixNano())
}

func (e *Encoder) appendSeries(buf []byte, s *Series, begin bool) []byte {
	var flags byte
	if !e.told[s.Lasting] {
		flags |= seriesShape
	}
	if s.Serialize {
		flags |= seriesSerialize
	}
	buf = append(buf, flags)
	buf = appendText(buf, s.Definition.Name)
	if flags&seriesShape != 0 {
		buf = appendText(buf, ShapeOf(s.Lasting).String())
		e.told[s.Lasting] = true
	}
	if begin {
		buf = binary.AppendVarint(buf, s.Begun.UnixNano())
	}
	return AppendDeltas(buf, s.Deltas)
}

func appendDelta(buf []byte, d, before *series.Delta) []byte {
	flags := byte(d.For)
	if d.Removed {
		flags |= deltaRemoved
	}
	if d.Key == before.Key && d.Bits == before.Bits {
		flags |= deltaSameKey
	}
	if d.Start == before.Start {
		flags |= deltaSameStart
	}
	if d.Amount != 0 {
		flags |= deltaAmount
	}
	if len(d.Values) > 0 {
		flags |= deltaValues
	}
	if d.Sketch != nil {
		flags |= deltaSketch
	}
	buf = append(buf, flags)
	if flags&deltaSameKey == 0 {
		buf = appendKey(buf, d.Key, d.Bits)
	}
	if flags&deltaSameStart == 0 {
		buf = binary.AppendVarint(buf, d.Start-before.Start)
	}
	if flags&deltaAmount != 0 {
		buf = binary.AppendVarint(buf, d.Amount)
	}
	if flags&deltaValues != 0 {
		buf = binary.AppendUvarint(buf, uint64(len(d.Values)))
		for _, v := range d.Values {
			buf = binary.LittleEndian.AppendUint64(buf, v)
		}
	}
	if flags&deltaSketch != 0 {
		buf = appendSketch(buf, d.Sketch)
	}
	return buf
}

func appendKey(buf []byte, k series.Key, bits uint8) []byte {
	addr := k.Addr()
	if !addr.IsValid() {
		return appendText(append(buf, keyText), k.String())
	}
	switch {
	case bits == 32 && addr.Is4():
		buf = append(buf, keyIPv4)
	case bits == 128:
		buf = append(buf, keyIPv6)
	default:
		buf = appendBlockKind(buf, addr, bits)
	}
	return appendAddr(buf, addr)
}

func appendBlockKind(buf []byte, addr netip.Addr, bits uint8) []byte {
	if addr.Is4() {
		return append(buf, keyIPv4Block, bits)
	}
	return append(buf, keyIPv6Block, bits)
}

// appendSketch writes the registers that are not zero, each behind how many zeros are
// before it: most sketches are of few values.
func appendSketch(buf []byte, s *series.Sketch) []byte {
	zeros := 0
	for _, rank := range s {
		if rank == 0 {
			zeros++
			continue
		}
		buf = append(binary.AppendUvarint(buf, uint64(zeros)), rank)
		zeros = 0
	}
	return binary.AppendUvarint(buf, uint64(zeros))
}

func appendPenalty(buf []byte, p policy.Penalty) []byte {
	buf = appendText(buf, p.Rule)
	var shadow byte
	if p.Shadow {
		shadow = 1
	}
	buf = append(buf, shadow)
	if n := p.Network; n.IsValid() {
		buf = appendAddr(appendBlockKind(buf, n.Addr(), uint8(n.Bits())), n.Addr())
	} else {
		buf = appendText(append(buf, keyText), p.Text)
	}
	if p.Until.IsZero() {
		return binary.AppendVarint(buf, 0)
	}
	return binary.AppendVarint(buf, p.Until.UnixNano())
}

func appendText(buf []byte, s string) []byte {
	return append(binary.AppendUvarint(buf, uint64(len(s))), s...)
}

func appendAddr(buf []byte, a netip.Addr) []byte {
	if a.Is4() {
		b := a.As4()
		return append(buf, b[:]...)
	}
	b := a.As16()
	return append(buf, b[:]...)
}

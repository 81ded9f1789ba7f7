package state

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"time"

	"github.com/audit-milter/audit-milter/policy"
	"github.com/audit-milter/audit-milter/series"
)

// batch is a record's payload.
type batch struct {
	begin, end bool
	number     uint64
	now        time.Time
	series     []section
	penalties  []policy.Penalty
}

// section is what a batch has of one series.
type section struct {
	name      string
	shape     string // "": it is the one that the segment told before
	serialize bool
	begun     time.Time // at the begin of a snapshot
	deltas    []series.Delta
}

var errPayload = errors.New("a batch in it is not understood though its checksum is right: move the file away to begin without what it counted")

// decode is the inverse of [encoder.encode].
func decode(payload []byte) (batch, error) {
	r := reader{rest: payload}
	b := r.head()
	b.series = make([]section, r.length(2))
	for i := range b.series {
		b.series[i] = r.section(b.begin)
	}
	b.penalties = make([]policy.Penalty, r.length(4))
	for i := range b.penalties {
		b.penalties[i] = r.penalty()
	}
	if r.failed || len(r.rest) > 0 {
		return batch{}, errPayload
	}
	return b, nil
}

// decodeHead leaves out series and penalties.
func decodeHead(payload []byte) (batch, error) {
	r := reader{rest: payload}
	b := r.head()
	if r.failed {
		return batch{}, errPayload
	}
	return b, nil
}

// reader reads a payload. Once it has failed, all that it reads is zero.
type reader struct {
	rest   []byte
	failed bool
}

func (r *reader) head() (b batch) {
	flags := r.byte()
	b.begin, b.end = flags&batchBegin != 0, flags&batchEnd != 0
	b.number = r.uvarint()
	b.now = time.Unix(0, r.varint())
	return b
}

func (r *reader) section(begin bool) (s section) {
	flags := r.byte()
	s.serialize = flags&seriesSerialize != 0
	s.name = r.text()
	if flags&seriesShape != 0 {
		s.shape = r.text()
	}
	if begin {
		s.begun = time.Unix(0, r.varint())
	}
	s.deltas = make([]series.Delta, r.length(1))
	var before series.Delta
	for i := range s.deltas {
		r.delta(&s.deltas[i], &before)
		before = s.deltas[i]
	}
	return s
}

func (r *reader) delta(d, before *series.Delta) {
	flags := r.byte()
	d.For = series.For(flags & deltaFor)
	d.Removed = flags&deltaRemoved != 0
	d.Key, d.Bits, d.Start = before.Key, before.Bits, before.Start
	if flags&deltaSameKey == 0 {
		d.Key, d.Bits = r.key()
	}
	if flags&deltaSameStart == 0 {
		d.Start += r.varint()
	}
	if flags&deltaAmount != 0 {
		d.Amount = r.varint()
	}
	if flags&deltaValues != 0 {
		d.Values = make([]uint64, r.length(8))
		for i := range d.Values {
			d.Values[i] = binary.LittleEndian.Uint64(r.bytes(8))
		}
	}
	if flags&deltaSketch != 0 {
		d.Sketch = r.sketch()
	}
}

func (r *reader) key() (series.Key, uint8) {
	switch r.byte() {
	case keyText:
		return series.TextKey(r.text()), 0
	case keyIPv4:
		return series.AddrKey(r.ipv4()), 32
	case keyIPv6:
		return series.AddrKey(r.ipv6()), 128
	case keyIPv4Block:
		bits := r.byte()
		return series.AddrKey(r.ipv4()), bits
	case keyIPv6Block:
		bits := r.byte()
		return series.AddrKey(r.ipv6()), bits
	}
	r.fail()
	return series.Key{}, 0
}

func (r *reader) sketch() *series.Sketch {
	s := new(series.Sketch)
	for i := 0; !r.failed; i++ {
		zeros := r.uvarint()
		if zeros > uint64(len(s)-i) {
			r.fail()
			break
		}
		if i += int(zeros); i == len(s) {
			break
		}
		s[i] = r.byte()
	}
	return s
}

func (r *reader) penalty() (p policy.Penalty) {
	p.Rule = r.text()
	p.Shadow = r.byte() != 0
	switch r.byte() {
	case keyText:
		p.Text = r.text()
	case keyIPv4Block:
		bits := int(r.byte())
		p.Network = netip.PrefixFrom(r.ipv4(), bits)
	case keyIPv6Block:
		bits := int(r.byte())
		p.Network = netip.PrefixFrom(r.ipv6(), bits)
	default:
		r.fail()
	}
	if until := r.varint(); until != 0 {
		p.Until = time.Unix(0, until)
	}
	return p
}

func (r *reader) ipv4() netip.Addr { return netip.AddrFrom4([4]byte(r.bytes(4))) }
func (r *reader) ipv6() netip.Addr { return netip.AddrFrom16([16]byte(r.bytes(16))) }

func (r *reader) text() string { return string(r.bytes(r.length(1))) }

// length is a number of things that take so many bytes each, at least.
func (r *reader) length(each uint64) int {
	n := r.uvarint()
	if n > uint64(len(r.rest))/each {
		r.fail()
		return 0
	}
	return int(n)
}

func (r *reader) byte() byte { return r.bytes(1)[0] }

var zeros [16]byte

// bytes are n bytes of the payload; n is up to 16, or what length has found to be there.
func (r *reader) bytes(n int) []byte {
	if n > len(r.rest) {
		r.fail()
		return zeros[:n]
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.rest)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

func (r *reader) varint() int64 {
	v, n := binary.Varint(r.rest)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

func (r *reader) fail() { r.failed, r.rest = true, nil }

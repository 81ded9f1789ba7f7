package deltas

import (
	"encoding/binary"
	"errors"
	"iter"
	"net/netip"
	"slices"
	"time"

	"github.com/audit-milter/audit-milter/policy"
	"github.com/audit-milter/audit-milter/series"
)

// Decoded is what a payload says. Its series are known by name: who decodes knows, or
// makes, the series that have it.
type Decoded struct {
	Begin, End bool
	Number     uint64
	Now        time.Time
	Series     []Section
	Penalties  []policy.Penalty
}

// Section is what a batch has of one series.
type Section struct {
	Name      string
	Shape     string // for [ReadShape]; "": it is the one that was told before
	Serialize bool
	Begun     time.Time // at the begin of a snapshot
	Deltas    []series.Delta
}

// ErrPayload says that bytes are not what a batch, deltas or penalties are made into.
var ErrPayload = errors.New("it is not encoded as this version does it")

// Decode is the inverse of [Encoder.Append]. The error is [ErrPayload].
func Decode(payload []byte) (Decoded, error) {
	r := reader{rest: payload}
	b := r.head()
	b.Series = make([]Section, r.length(2))
	for i := range b.Series {
		b.Series[i] = r.section(b.Begin)
	}
	b.Penalties = r.penalties()
	if !r.isAtEnd() {
		return Decoded{}, ErrPayload
	}
	return b, nil
}

// DecodeHead leaves out series and penalties.
func DecodeHead(payload []byte) (Decoded, error) {
	r := reader{rest: payload}
	b := r.head()
	if r.failed {
		return Decoded{}, ErrPayload
	}
	return b, nil
}

// DecodeDeltas is the inverse of [AppendDeltas]. It makes one delta after the other, since
// all together can take a thousand times the payload, whoever has sent it. The error is
// [ErrPayload].
func DecodeDeltas(payload []byte) (iter.Seq[series.Delta], error) {
	r := reader{rest: payload}
	for range r.some(r.length(1)) {
	}
	if !r.isAtEnd() {
		return nil, ErrPayload
	}
	return func(yield func(series.Delta) bool) {
		r := reader{rest: payload}
		r.some(r.length(1))(yield)
	}, nil
}

// reader reads a payload. Once it has failed, all that it reads is zero.
type reader struct {
	rest   []byte
	failed bool
}

func (r *reader) isAtEnd() bool { return !r.failed && len(r.rest) == 0 }

func (r *reader) head() (b Decoded) {
	flags := r.byte()
	b.Begin, b.End = flags&batchBegin != 0, flags&batchEnd != 0
	b.Number = r.uvarint()
	b.Now = time.Unix(0, r.varint())
	return b
}

func (r *reader) section(begin bool) (s Section) {
	flags := r.byte()
	s.Serialize = flags&seriesSerialize != 0
	s.Name = r.text()
	if flags&seriesShape != 0 {
		s.Shape = r.text()
	}
	if begin {
		s.Begun = time.Unix(0, r.varint())
	}
	s.Deltas = r.deltas()
	return s
}

func (r *reader) deltas() []series.Delta {
	n := r.length(1)
	return slices.AppendSeq(make([]series.Delta, 0, n), r.some(n))
}

// some are n deltas, up to one that is none.
func (r *reader) some(n int) iter.Seq[series.Delta] {
	return func(yield func(series.Delta) bool) {
		var before series.Delta
		for range n {
			var d series.Delta
			if r.delta(&d, &before); r.failed || !yield(d) {
				return
			}
			before = d
		}
	}
}

func (r *reader) penalties() []policy.Penalty {
	all := make([]policy.Penalty, r.length(4))
	for i := range all {
		all[i] = r.penalty()
	}
	return all
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

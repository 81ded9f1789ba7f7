package deltas

import (
	"bytes"
	"runtime"
	"testing"

	"github.com/audit-milter/audit-milter/series"
)

// Another node tells as much as it likes: of one byte is a delta of a hundred, and of four
// one with a sketch. What is kept of it is bounded elsewhere.
func TestADecodedPayloadTakesNoMoreThanOneDelta(t *testing.T) {
	const many = 1 << 20
	one := AppendDeltas(nil, make([]series.Delta, 1))[1:]
	payload := append([]byte{0x80, 0x80, 0x40}, bytes.Repeat(one, many)...) // 1 << 20 as a varint
	took := func() uint64 {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.TotalAlloc
	}
	before, n := took(), 0
	all, err := DecodeDeltas(payload)
	if err != nil {
		t.Fatal(err)
	}
	for range all {
		n++
	}
	if most := uint64(len(payload)); n != many || took()-before > most {
		t.Errorf("%d deltas of %d bytes took %d bytes", n, len(payload), took()-before)
	}
	if _, err := DecodeDeltas(payload[:len(payload)-1]); err != ErrPayload {
		t.Errorf("of a payload whose end is missing the error is %v", err)
	}
}

package series

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"runtime"
	"testing"
	"time"
)

// After a flood of several times as many keys as there may be, a series takes about what
// Memory says.
func TestMemoryIsWhatAFloodTakes(t *testing.T) {
	for _, windows := range []int{6, 288} {
		t.Run(fmt.Sprint(windows), func(t *testing.T) {
			d := Definition{Name: "clients", Type: IP, Interval: time.Minute, Windows: windows, MaxKeys: 20_000}
			before := heap()
			s, err := Define(d)
			if err != nil {
				t.Fatal(err)
			}
			for i := range uint64(4 * d.MaxKeys) {
				var addr [16]byte
				binary.BigEndian.PutUint64(addr[:], i*0x9e3779b97f4a7c15) // as if at random
				s.Add(AddrKey(netip.AddrFrom16(addr)), 1, time.Unix(1_800_000_000, 0))
			}
			took, says := heap()-before, uint64(Memory(d))
			runtime.KeepAlive(s)
			if took > says+says/4 || took < says-says/4 {
				t.Errorf("it takes %d bytes, and Memory says %d", took, says)
			}
		})
	}
}

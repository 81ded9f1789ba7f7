package milter_test

import (
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// shortSession is one of the ways in which a connection is soon over.
func shortSession(t testing.TB, socket string, n int64) {
	p := dial(t, socket)
	defer p.conn.Close()
	switch n % 6 {
	case 0: // a message, and QUIT
		p.say("O 6 0x1ff 0x1fffff")
		p.tell(strings.Replace(client, "192.0.2.7", "192.0.2."+strconv.FormatInt(n/6%256, 10), 2))
		for _, c := range message {
			p.say(c)
		}
		p.tell(`Q`)
		p.hear()
	case 1: // gone in a message
		p.say("O 6 0x1ff 0x1fffff")
		p.tell(client)
		p.say(`M "<a@example.com>·"`)
	case 2:
		p.conn.Write([]byte("GET / HTTP/1.1\r\n\r\n"))
		p.hear()
	case 3: // half a negotiation
		p.conn.Write([]byte("\x00\x00\x00"))
	case 4: // answers that it does not read
		p.conn.Write(slices.Repeat(fromMTA(t, "O 6 0x1ff 0x1fffff"), 20))
	case 5: // a health check
	}
}

// shortSessions plays n of them, eight at a time.
func shortSessions(t testing.TB, socket string, n int64) {
	var begun atomic.Int64
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for i := begun.Add(1); i <= n; i = begun.Add(1) {
				shortSession(t, socket, i)
			}
		})
	}
	all.Wait()
}

// left is what a process holds.
type left struct {
	goroutines, descriptors int
	heap                    uint64 // bytes in use
}

func whatIsLeft(t testing.TB) left {
	t.Helper()
	open, err := os.ReadDir("/dev/fd")
	if err != nil {
		t.Skip("this system does not tell a process its file descriptors: ", err)
	}
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return left{runtime.NumGoroutine(), len(open), m.HeapAlloc}
}

// sinceSessions is what n short sessions leave behind.
func sinceSessions(t testing.TB, n int64) left {
	t.Helper()
	_, socket := onSocket(t, everything)
	shortSessions(t, socket, 2000) // series and buffers have their size then
	before := whatIsLeft(t)
	shortSessions(t, socket, n)
	eventually(t, func() bool { return runtime.NumGoroutine() <= before.goroutines })
	after := whatIsLeft(t)
	return left{after.goroutines - before.goroutines, after.descriptors - before.descriptors, after.heap - min(after.heap, before.heap)}
}

func TestShortSessionsLeaveNothing(t *testing.T) {
	const sessions = 3000
	more := sinceSessions(t, sessions)
	if more.goroutines > 0 || more.descriptors > 0 || more.heap > 256*sessions {
		t.Errorf("%d sessions leave %d goroutines, %d file descriptors and %d bytes", sessions, more.goroutines, more.descriptors, more.heap)
	}
}

// BenchmarkShortSessions plays a million with -benchtime 1000000x.
func BenchmarkShortSessions(b *testing.B) {
	more := sinceSessions(b, int64(b.N))
	b.ReportMetric(float64(more.goroutines), "goroutines-left")
	b.ReportMetric(float64(more.descriptors), "descriptors-left")
	b.ReportMetric(float64(more.heap), "heap-bytes-left")
}

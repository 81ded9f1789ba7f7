package milter_test

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/audit-milter/audit-milter/milter"
)

// isCrowdServer tells a process that it is to be TestCrowdServer.
const isCrowdServer = "AUDIT_MILTER_CROWD_SERVER"

// TestCrowdServer is the server of BenchmarkCrowd, in a process of its own. It
// says where it listens, and ends with its standard input.
func TestCrowdServer(t *testing.T) {
	if os.Getenv(isCrowdServer) == "" {
		t.Skip("BenchmarkCrowd runs it")
	}
	_, socket := onSocket(t, everything, func(s *milter.Terms) {
		s.MaxSessions = idle + stalled + busy
		s.Timeouts = milter.Timeouts{Negotiate: time.Hour, Frame: time.Hour, Write: time.Hour}
	})
	os.Stdout.WriteString(socket + "\n")
	io.Copy(io.Discard, os.Stdin)
}

// startCrowdServer runs one for the benchmark.
func startCrowdServer(b *testing.B) (socket string) {
	b.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestCrowdServer$")
	cmd.Env = append(os.Environ(), isCrowdServer+"=yes")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		stdin.Close()
		cmd.Wait()
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	return strings.TrimSpace(line)
}

// The busy ones, and the crowd beside them.
const (
	busy    = 64
	idle    = 1000
	stalled = 1000
)

// BenchmarkCrowd is how long 64 busy sessions wait for an answer: alone, and
// beside 1,000 idle sessions and 1,000 that stalled, in the middle of a frame or
// because they do not read their answers. The two servers take turns. An
// operation is ten messages of each of the 64.
func BenchmarkCrowd(b *testing.B) {
	needDescriptors(b, idle+stalled+2*busy+100)
	alone, beside := newBusy(b, startCrowdServer(b)), newBusy(b, startCrowdServer(b))
	gather(b, beside.socket)
	for b.Loop() {
		alone.play(b)
		beside.play(b)
	}
	for _, s := range []struct {
		name string
		*busySessions
	}{{"alone", alone}, {"beside", beside}} {
		slices.Sort(s.waits)
		b.ReportMetric(float64(s.waits[len(s.waits)/2]), s.name+"-p50-ns")
		b.ReportMetric(float64(s.waits[len(s.waits)*99/100]), s.name+"-p99-ns")
	}
}

// busySessions play messages as fast as they are answered.
type busySessions struct {
	socket string
	peers  []*peer
	waits  []time.Duration // each for one answer
}

func newBusy(b *testing.B, socket string) *busySessions {
	s := &busySessions{socket: socket}
	for range busy {
		s.peers = append(s.peers, greetedPeer(b, socket))
	}
	return s
}

// message is the commands of a message, each of which is answered.
var message = []string{`M "<a@example.com>·"`, `R "<b@example.org>·"`, `R "<c@example.org>·"`, `R "<d@example.org>·"`, `T`, `E`}

// play is ten messages of each, so that one end is not all that it measures.
func (s *busySessions) play(b *testing.B) {
	var frames [][]byte
	for _, f := range message {
		frames = append(frames, fromMTA(b, f))
	}
	waits := make([][]time.Duration, len(s.peers))
	var all sync.WaitGroup
	for i, p := range s.peers {
		all.Go(func() {
			for range 10 {
				for _, f := range frames {
					begin := time.Now()
					if code, err := p.send(f); code != 'c' {
						b.Errorf("%q is answered %c, %v", f, code, err)
						return
					}
					waits[i] = append(waits[i], time.Since(begin))
				}
				p.tell(`A`)
			}
		})
	}
	all.Wait()
	s.waits = append(s.waits, slices.Concat(waits...)...)
}

// gather opens the sessions of the crowd.
func gather(b *testing.B, socket string) {
	for range idle {
		greetedPeer(b, socket)
	}
	var all sync.WaitGroup
	for i := range stalled {
		p := greetedPeer(b, socket)
		switch i % 3 {
		case 0:
			p.conn.Write([]byte("\x00\x00\x00\x09M<a"))
		case 1:
			p.say(`M "<a@example.com>·"`)
			p.conn.Write([]byte("\x00\x00\x00\x09B"))
		case 2:
			all.Go(func() { p.readNothing() })
		}
	}
	all.Wait()
}

// readNothing asks for large answers until the server can send no more of them.
func (p *peer) readNothing() {
	offers := slices.Repeat(fromMTA(p.t, "O 6 0x1ff 0x1fffff"), 1000)
	p.conn.SetWriteDeadline(time.Now().Add(time.Second))
	for {
		if _, err := p.conn.Write(offers); err != nil {
			return
		}
	}
}

// Yardstick is the least that a milter in Go can do: it answers the negotiation
// as a recorded one was answered, and from then on writes continue for each
// frame of the kinds that were answered there. It looks at nothing else. The
// benchmarks hold audit-milter against it.
//
//	yardstick tcp 127.0.0.1:9900 RECORDING
//	yardstick unix PATH RECORDING
package main

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"net"
	"os"

	wire "github.com/emersion/go-milter"

	"github.com/audit-milter/audit-milter/internal/wiretrace"
)

func main() {
	if len(os.Args) != 4 {
		fail(fmt.Errorf("write yardstick tcp HOST:PORT RECORDING, or yardstick unix PATH RECORDING"))
	}
	trace, err := wiretrace.ReadFile(os.Args[3])
	if err != nil {
		fail(err)
	}
	l, err := net.Listen(os.Args[1], os.Args[2])
	if err != nil {
		fail(err)
	}
	fail(serve(l, answersOf(trace)))
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "yardstick:", err)
	os.Exit(1)
}

// answers are what each kind of frame is answered, nil for nothing.
type answers [256][]byte

func answersOf(trace *wiretrace.Trace) (a answers) {
	for _, turn := range trace.Turns() {
		if len(turn.Answers) > 0 {
			a[turn.Sent[len(turn.Sent)-1].Code] = turn.Answers[0].Bytes()
		}
	}
	return a
}

func serve(l net.Listener, a answers) error {
	for {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		go a.session(conn)
	}
}

// session reads as much as there is at once, and keeps a pipelined dialogue's
// order by answering frame by frame.
func (a *answers) session(conn net.Conn) {
	defer conn.Close()
	in := bufio.NewReader(conn)
	for {
		head, err := in.Peek(5)
		if err != nil || head[4] == byte(wire.CodeQuit) {
			return
		}
		answer := a[head[4]]
		if _, err := in.Discard(4 + int(binary.BigEndian.Uint32(head))); err != nil {
			return
		}
		if answer == nil {
			continue
		}
		if _, err := conn.Write(answer); err != nil {
			return
		}
	}
}

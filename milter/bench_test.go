package milter_test

import (
	"bytes"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"

	"github.com/audit-milter/audit-milter/milter"
	"github.com/audit-milter/audit-milter/policy"
)

// loop is a tape whose middle is played n times.
type loop struct {
	*tape
	middle []byte
	n      int
}

func (l *loop) Read(p []byte) (int, error) {
	if l.in.Len() == 0 && l.n > 0 {
		l.n--
		l.in.Reset(l.middle)
	}
	return l.tape.Read(p)
}

func (l *loop) Write(p []byte) (int, error) { return io.Discard.Write(p) }

// BenchmarkSendmailOverTCP is one judged command as Sendmail writes it: its
// macros in one piece, itself in another that TCP holds back until the first is
// acknowledged.
func BenchmarkSendmailOverTCP(b *testing.B) {
	engine, err := policy.NewEngine(parse(b, everything).Policy, policy.Options{})
	if err != nil {
		b.Fatal(err)
	}
	server := new(milter.Server)
	server.Adopt(milter.Terms{Engine: engine})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	go server.Serve(l, nil)
	defer server.Shutdown(b.Context())
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	if err := conn.(*net.TCPConn).SetNoDelay(false); err != nil {
		b.Fatal(err)
	}
	answer := make([]byte, 64<<10)
	for _, piece := range []string{`O 6 0x1ff 0x1fffff`, `M "<a@example.com>·"`} {
		conn.Write(fromMTA(b, piece))
		if _, err := conn.Read(answer); err != nil {
			b.Fatal(err)
		}
	}
	macros, rcpt := fromMTA(b, `D "R{rcpt_mailer}·local·"`), fromMTA(b, `R "<b@example.com>·"`)
	for b.Loop() {
		conn.Write(macros)
		conn.Write(rcpt)
		if _, err := conn.Read(answer); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkMessage is the whole of this room's work on one message with three
// recipients, as Postfix sends it, without the operating system's. There are as many
// connections as processors: -cpu 1,2 shows what a second one brings.
func BenchmarkMessage(b *testing.B) {
	wire := func(frames string) (stream []byte) {
		for _, f := range strings.Split(frames, " | ") {
			stream = append(stream, fromMTA(b, f)...)
		}
		return stream
	}
	message := wire(`D "Mi·4F0E19A01D7·" | M "<alice@example.com>·SIZE=1000·" | D "Ri·4F0E19A01D7·{rcpt_mailer}·smtp·" | R "<bob@example.org>·" | ` +
		`D "Ri·4F0E19A01D7·{rcpt_mailer}·smtp·" | R "<carol@example.org>·" | D "Ri·4F0E19A01D7·{rcpt_mailer}·smtp·" | R "<dave@example.org>·" | D "Ti·4F0E19A01D7·" | T | ` +
		`D "Li·4F0E19A01D7·" | L "Subject·hello·" | D "Ni·4F0E19A01D7·" | N | D "Ei·4F0E19A01D7·" | E | A`)
	pipes := newPipes()
	engine, err := policy.NewEngine(parse(b, everything).Policy, policy.Options{})
	if err != nil {
		b.Fatal(err)
	}
	server := new(milter.Server)
	server.Adopt(milter.Terms{Engine: engine})
	go server.Serve(pipes, nil)
	defer server.Shutdown(b.Context())
	loops := make([]*loop, runtime.GOMAXPROCS(0))
	for i := range loops {
		loops[i] = &loop{
			tape:   &tape{in: bytes.NewReader(wire(`O 6 0x1ff 0x1fffff | ` + postfixClient)), piece: 1 << 16, closed: make(chan struct{})},
			middle: message,
			n:      b.N / len(loops),
		}
	}
	b.ReportAllocs()
	b.ResetTimer()
	for _, l := range loops {
		pipes.conns <- l
	}
	for _, l := range loops {
		<-l.closed
	}
}

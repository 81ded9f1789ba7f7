package milter_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/audit-milter/audit-milter/internal/wiretrace"
	"github.com/audit-milter/audit-milter/milter"
	"github.com/audit-milter/audit-milter/policy"
)

// greedy uses every attribute, stage and verdict. Its windows are short, so
// that what millions of sessions leave behind goes soon.
const greedy = `
max_delayed: 1000
lists:
  bad: {string: [a@b, "@c"]}
series:
  addrs: {type: ip, interval: 1, windows: 2, add: {at: [connect, helo, mail, rcpt, data, eoh, eom, rcpt_refused, accepted, refused, abort, end]}}
  sizes: {type: ip, interval: 1, windows: 2, add: [{at: mail, count: size}, {at: eom, count: message_size}]}
  texts: {type: string, interval: 1, windows: 2, add: [
    {at: connect, key: [client_name, reverse_client_name, client_port, server_address, server_port, daemon_name]},
    {at: mail, key: [helo_name, encryption_protocol, encryption_cipher, sender, sender_raw, sender_domain, sasl_username, sasl_method, sasl_sender, queue_id]},
    {at: rcpt, key: [recipient, recipient_raw, recipient_domain, recipient_count], leaky: true},
    {at: rcpt_refused, key: [refused_status, refused_text]},
    {at: eom, key: ['header["Subject"]', from_domain]}]}
rules:
  - {name: connect, at: connect, when: client_port == 1, then: tempfail}
  - {name: helo, at: helo, when: helo_name startsWith "h", then: reject, reply: "550 5.7.1 {helo_name} 100%"}
  - {name: mail, at: mail, when: sender in bad, then: tempfail, reply: "450 4.7.1 {sender_raw} {sasl_username}"}
  - {name: discard, at: mail, when: sender startsWith "d", then: discard}
  - {name: fails, at: mail, when: 'sender startsWith "f" and int(sender) > 0', then: reject}
  - {name: rcpt, at: rcpt, when: recipient contains "x", then: disconnect, reply: "421 4.7.0 {recipient_raw}"}
  - {name: many, at: rcpt, if: {series: addrs, above: 100}, then: tempfail}
  - {name: hold, at: rcpt, when: recipient startsWith "q", then: quarantine}
  - {name: mark, at: [mail, rcpt, data, eoh, eom], header: ["X-Audit: {sender_raw} {helo_name}", "Subject: {queue_id}"]}
  - {name: data, at: data, when: recipient_count > 3, then: reject}
  - {name: eoh, at: eoh, when: 'header["Subject"] contains "bad"', then: reject}
  - {name: slow, at: eom, when: message_size > 10, delay: 8s}
  - {name: eom, at: eom, when: from_domain == "c", then: tempfail}
`

// tape is a connection whose other end has sent everything in advance and
// closed. It hands out pieces of a given size.
type tape struct {
	in     *bytes.Reader
	piece  int
	out    bytes.Buffer
	closed chan struct{}
}

func (t *tape) Read(p []byte) (int, error) {
	if t.in.Len() == 0 {
		return 0, io.EOF
	}
	return t.in.Read(p[:min(len(p), t.piece)])
}

func (t *tape) Close() error {
	select {
	case <-t.closed:
	default:
		close(t.closed)
	}
	return nil
}

func (t *tape) Write(p []byte) (int, error)      { return t.out.Write(p) }
func (t *tape) LocalAddr() net.Addr              { return &net.UnixAddr{} }
func (t *tape) RemoteAddr() net.Addr             { return &net.UnixAddr{} }
func (t *tape) SetDeadline(time.Time) error      { return nil }
func (t *tape) SetReadDeadline(time.Time) error  { return nil }
func (t *tape) SetWriteDeadline(time.Time) error { return nil }

// FuzzSession plays any bytes as a whole session against a policy that uses
// everything: first as frames behind a negotiation, then as they are. Whatever
// comes, the session ends, nothing panics, every answer is well-formed and
// belongs to a frame that waits for one.
func FuzzSession(f *testing.F) {
	pipes := newPipes()
	engine, err := policy.NewEngine(parse(f, greedy), policy.Options{})
	if err != nil {
		f.Fatal(err)
	}
	var failures bytes.Buffer // complete for a session once its connection is closed
	log := slog.New(slog.NewTextHandler(&failures, &slog.HandlerOptions{Level: slog.LevelError}))
	server := &milter.Server{Engine: engine, MaxDelayed: 1000, Log: log}
	go server.Serve(pipes, nil)
	f.Cleanup(func() { server.Shutdown(f.Context()) })
	play := func(t *testing.T, stream []byte, piece int) {
		conn := &tape{in: bytes.NewReader(stream), piece: piece, closed: make(chan struct{})}
		pipes.conns <- conn
		<-conn.closed
		if err := checkAnswers(stream, conn.out.Bytes()); err != nil {
			t.Errorf("in pieces of %d, %q was answered %q: %v", piece, stream, conn.out.Bytes(), err)
		}
		if failures.Len() > 0 {
			t.Fatalf("%q fails: %s", stream, failures.String())
		}
	}
	for _, stream := range seeds(f) {
		f.Add(stream)
	}
	f.Fuzz(func(t *testing.T, input []byte) {
		if len(input) == 0 {
			return
		}
		piece := 1 + int(input[0])*17
		play(t, input[1:], piece)
		play(t, inFrames(input[1:]), piece)
	})
}

// inFrames makes frames of any bytes: a negotiation whose bits they choose,
// then commands, each a code, the length of its data, and those.
func inFrames(b []byte) []byte {
	take := func(n int) []byte {
		n = min(n, len(b))
		taken := b[:n]
		b = b[n:]
		return taken
	}
	bits := append(take(5), 0, 0, 0, 0, 0)[:5]
	offer := []byte{0, 0, 0, 2 + bits[0]%6, 0, 0, 1, bits[1], 0, bits[2] & 0x1f, bits[3], bits[4]}
	stream := wiretrace.Frame{Code: 'O', Data: offer}.Bytes()
	for len(b) > 1 {
		head := take(2)
		code := "DCHMRTLNBEAUKQO"[int(head[0])%15]
		stream = append(stream, wiretrace.Frame{Code: code, Data: take(int(head[1]))}.Bytes()...)
	}
	return stream
}

// seeds are the recorded dialogues.
func seeds(f *testing.F) (streams [][]byte) {
	files, err := filepath.Glob("testdata/wire/*/*.txt")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		trace, err := wiretrace.Parse(text)
		if err != nil {
			f.Fatalf("%s: %v", name, err)
		}
		stream := []byte{255}
		for _, frame := range trace.Frames {
			if frame.FromMTA {
				stream = append(stream, frame.Bytes()...)
			}
		}
		streams = append(streams, stream)
	}
	return streams
}

// replyBits are the protocol's bits with which an MTA does not wait for the
// answer to a command.
var replyBits = map[byte]uint32{
	'C': 1 << 12, 'H': 1 << 13, 'M': 1 << 14, 'R': 1 << 15, 'T': 1 << 16, 'U': 1 << 17, 'L': 1 << 7, 'N': 1 << 18, 'B': 1 << 19, 'E': 0,
}

// checkAnswers matches answers with the frames of a stream, as an MTA does:
// each belongs to the first frame that still waits for one. Where the session
// gave up, the last frames have none.
func checkAnswers(stream, answers []byte) error {
	var protocol uint32
	rest := bytes.NewReader(answers)
	for {
		code, ok := nextCode(&stream)
		if !ok {
			break
		}
		bit, answered := replyBits[code]
		if code != 'O' && (!answered || protocol&bit != 0) {
			continue
		}
		answer, err := readAnswer(rest, code == 'E')
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		switch {
		case (code == 'O') != (answer.Code == 'O'):
			return fmt.Errorf("%c is answered %c", code, answer.Code)
		case code == 'O':
			protocol = binary.BigEndian.Uint32(answer.Data[8:])
		case !strings.ContainsRune("cyad", rune(answer.Code)), code != 'E' && strings.ContainsRune("ad", rune(answer.Code)):
			return fmt.Errorf("%c is answered %c", code, answer.Code)
		}
	}
	if rest.Len() > 0 {
		return fmt.Errorf("%d bytes answer nothing", rest.Len())
	}
	return nil
}

// nextCode takes one frame from a stream.
func nextCode(stream *[]byte) (code byte, ok bool) {
	b := *stream
	if len(b) < 5 {
		return 0, false
	}
	n := binary.BigEndian.Uint32(b)
	if n == 0 || uint64(n)+4 > uint64(len(b)) {
		return 0, false
	}
	*stream = b[4+n:]
	return b[4], true
}

// readAnswer reads one answer, at the end of a message behind its changes.
func readAnswer(r io.Reader, atEnd bool) (wiretrace.Frame, error) {
	for {
		f, err := wiretrace.ReadFrame(r)
		if err == nil && f.Code != 'O' {
			err = checkAnswer(f)
		}
		if err != nil || !atEnd || !strings.ContainsRune("qim", rune(f.Code)) {
			return f, err
		}
	}
}

package milter_test

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
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
  accepted: {type: string, interval: 1, windows: 2, add: {at: accepted, key: node}}
  refused: {type: string, interval: 1, windows: 2, add: {at: refused, key: node}}
  denied: {type: string, interval: 1, windows: 2, add: {at: rcpt_refused, key: node}}
  aborted: {type: string, interval: 1, windows: 2, add: {at: abort, key: node}}
  gone: {type: string, interval: 1, windows: 2, add: {at: end, key: node}}
  addrs: {type: ip, interval: 1, windows: 2, add: {at: [connect, helo, mail, rcpt, data, eoh, eom, rcpt_refused, accepted, refused, abort, end]}}
  steps: {type: string, interval: 1, windows: 2, add: {at: [connect, helo, mail, rcpt], key: session}}
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
  - {name: many, at: rcpt, if: {series: steps, key: session, above: 20}, then: tempfail}
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

// play lets a server hear a stream in pieces, to the end of the connection, and
// returns what it answers.
func (p *pipes) play(stream []byte, piece int) (answers *bytes.Buffer) {
	conn := &tape{in: bytes.NewReader(stream), piece: piece, closed: make(chan struct{})}
	p.conns <- conn
	<-conn.closed
	return &conn.out
}

// fullServer is one with no place for another session.
func fullServer(f *testing.F, seen *observer) *pipes {
	server := serverFor(f, parse(f, greedy), seen, func(t *milter.Terms) {
		t.MaxSessions = 1
		t.Timeouts.Negotiate = 24 * time.Hour // the one that says nothing stays
	})
	pipes := newPipes()
	go server.Serve(pipes, nil)
	_, only := net.Pipe()
	pipes.conns <- only
	f.Cleanup(func() { server.Shutdown(f.Context()) })
	return pipes
}

// FuzzSession plays any bytes against a policy that uses everything: as a
// session, as a session's frames behind a negotiation, as frames that are
// well-formed but in any order, and above max_sessions. Whatever comes, the
// session ends, nothing panics, every answer is well-formed and belongs to a
// frame that waits for one, and, of what was well-formed, the outcomes are those
// of the ledger.
func FuzzSession(f *testing.F) {
	seen, pipes := newObserver(), newPipes()
	server := serverFor(f, parse(f, greedy), seen)
	go server.Serve(pipes, nil)
	f.Cleanup(func() { server.Shutdown(f.Context()) })
	full := fullServer(f, seen)
	play := func(t *testing.T, stream []byte, piece int) (told ledger) {
		seen.forget()
		if err := told.read(framesIn(stream), pipes.play(stream, piece)); err != nil {
			t.Errorf("in pieces of %d, %q: %v", piece, stream, err)
		}
		if open := server.InForce().Engine.Counter(policy.OpenSessions).Len(); open > 0 {
			t.Errorf("%q has ended, and counts as open", stream)
		}
		if seen.said("a session failed")+seen.said("not counted") > 0 {
			t.Fatalf("%q fails: %q", stream, *seen.messages)
		}
		return told
	}
	for _, stream := range seeds(f) {
		f.Add(stream)
	}
	for _, dialogue := range dialogues {
		f.Add(inBytes(dialogue))
	}
	f.Fuzz(func(t *testing.T, input []byte) {
		if len(input) == 0 {
			return
		}
		piece := 1 + int(input[0])*17
		play(t, input[1:], piece)
		play(t, inFrames(input[1:], anyData), piece)
		told := play(t, inFrames(input[1:], wellFormed), piece)
		for _, outcome := range []string{"accepted", "refused", "denied", "aborted", "gone"} {
			if got, want := seen.sum(outcome), told.outcomes[outcome]; got != int64(want) {
				t.Errorf("%q: %s %d, want %d", inFrames(input[1:], wellFormed), outcome, got, want)
			}
		}
		seen.forget()
		for _, stream := range [][]byte{input[1:], inFrames(input[1:], wellFormed)} {
			if told := codesIn(full.play(stream, piece)); !strings.HasPrefix("Oa", told) || len(seen.sums) > 0 || seen.said("a session failed") > 0 {
				t.Errorf("%q above max_sessions: answered %s, counted %v, logged %q", stream, told, seen.sums, *seen.messages)
			}
		}
	})
}

// codesIn are the codes of the answers.
func codesIn(answers *bytes.Buffer) (codes string) {
	for {
		f, err := wiretrace.ReadFrame(answers)
		if err != nil {
			return codes
		}
		codes += string(f.Code)
	}
}

// framesIn are the frames of a stream, as far as it has any.
func framesIn(stream []byte) (frames []wiretrace.Frame) {
	for len(stream) > 4 {
		n := binary.BigEndian.Uint32(stream)
		if n == 0 || uint64(n)+4 > uint64(len(stream)) {
			break
		}
		frames = append(frames, wiretrace.Frame{FromMTA: true, Code: stream[4], Data: stream[5 : 4+n]})
		stream = stream[4+n:]
	}
	return frames
}

// commandCodes are the codes by the numbers that stand for them in a fuzzed
// input.
const commandCodes = "DCHMRTLNBEAUKQO"

// dialogues are inputs that get far: frames, each a code and its text.
var dialogues = []string{
	"C|H|Ma@x|Ru@c|T|LSubject:x|N|E|A|Q",
	"C|H|Ma@b|Me@f|D1|Ru@c|Ru@c|D|Rx|T|E|Q",
	"C|Hh|H|Md@e|Ru@c|T|N|E|Md@e|A|Md@e|Q",
	"C|H|Ma@x|Ru@c|Ru@c|Ru@c|Ru@c|T|Ru@c|T|E|Q",
	"C|H|Ma@x|Ru@c|Ru@c|Ru@c|Ru@c|T|A|Ma@x|H|E|Q",
	"C|H|Ma@x|Ru@c|LSubject:bad|N|LSubject:good|N|E|Q",
	"C|H|Ma@x|LFrom:x@c|Bbody|E|Mq@x|Rq@x|E|Ma@x|H|K|C|H|Mf@x|O|C|Ma@x",
	"M|E|R|A|E|T|N|D1|R|M|R|Q",
}

// inBytes is the input of which inFrames makes a dialogue, behind the number
// that chooses the pieces.
func inBytes(dialogue string) []byte {
	input := []byte{255, 4, 0xff, 0x1f, 0xff, 0xff} // version 6, and everything offered
	for _, command := range strings.Split(dialogue, "|") {
		input = append(input, byte(strings.IndexByte(commandCodes, command[0])), byte(len(command)-1))
		input = append(input, command[1:]...)
	}
	return input
}

// inFrames makes frames of any bytes: a negotiation whose bits they choose,
// then commands, each a code, the length of its text, and this, of which data
// makes the frame's.
func inFrames(b []byte, data func(code byte, text []byte) []byte) []byte {
	take := func(n int) []byte {
		n = min(n, len(b))
		taken := b[:n]
		b = b[n:]
		return taken
	}
	var bits [5]byte
	copy(bits[:], take(5))
	offer := []byte{0, 0, 0, 2 + bits[0]%6, 0, 0, 1, bits[1], 0, bits[2] & 0x1f, bits[3], bits[4]}
	stream := wiretrace.Frame{Code: 'O', Data: offer}.Bytes()
	for len(b) > 1 {
		head := take(2)
		code := commandCodes[int(head[0])%len(commandCodes)]
		text := take(int(head[1]))
		stream = append(stream, wiretrace.Frame{Code: code, Data: data(code, text)}.Bytes()...)
	}
	return stream
}

func anyData(_ byte, text []byte) []byte { return text }

// wellFormed is the data of a command as an MTA may send it.
func wellFormed(code byte, text []byte) []byte {
	word := func(s string) []byte { return append([]byte(cString(s)), 0) }
	switch code {
	case 'O':
		return []byte("\x00\x00\x00\x06\x00\x00\x01\xff\x00\x1f\xff\xff")
	case 'C':
		return append(word(string(text)), "4\x10\x92192.0.2.7\x00"...)
	case 'D':
		if len(text)%2 == 1 {
			return []byte("R{rcpt_mailer}\x00error\x00{rcpt_host}\x005.1.1\x00")
		}
		return append([]byte("R{rcpt_mailer}\x00smtp\x00i\x00"), word(string(text))...)
	case 'L':
		name, value, _ := bytes.Cut(text, []byte{':'})
		return append(word(string(name)), word(string(value))...)
	case 'H', 'M', 'R', 'U':
		return word(string(text))
	}
	return nil
}

// seeds are the recorded dialogues.
func seeds(f *testing.F) (streams [][]byte) {
	files, err := filepath.Glob("testdata/wire/*/*.txt")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range files {
		trace, err := wiretrace.ReadFile(name)
		if err != nil {
			f.Fatal(err)
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

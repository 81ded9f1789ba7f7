// Package wiretrace reads and writes recorded dialogues of an MTA with a
// milter, frame by frame, as text that a person can read and correct. The
// tests of the milter room replay such files; the integration tests record
// them. It knows the shape of a frame and nothing of what frames mean.
//
// # Format
//
// A file is one milter connection, line by line; empty lines and lines that
// begin with # are for people.
//
//	> M "<a@example.com>·SIZE=100·"     a frame from the MTA: its code and its data
//	> T                                 one without data
//	< c                                 a frame from the milter
//	> O 6 0x1ff 0x1fffff                a negotiation: version, actions, protocol
//	< O 6 0x100 0x7f "···\x02i·"        and the data behind them
//	= connections 2                     the sum of a series when all is over
//
// Data are quoted as Go quotes strings, with · for NUL. The MTA's frames up to
// the next one of the milter were sent without waiting for it. At the end of
// the file the MTA closes the connection.
package wiretrace

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
)

// Frame is one message, of either side.
type Frame struct {
	FromMTA bool
	Code    byte
	Data    []byte
}

// Count is what a series holds when the dialogue is over, all its keys and
// windows taken together.
type Count struct {
	Series string
	N      int64
}

// Trace is one recorded connection.
type Trace struct {
	Frames []Frame
	Counts []Count
}

const (
	codeNegotiation = 'O'
	headSize        = 12 // of a negotiation: three numbers of four bytes
	nul             = "·"
)

// ReadFrame reads one frame as it stands on the wire. It is for peers that the
// tests own, and believes the length that it is told.
func ReadFrame(r io.Reader) (Frame, error) {
	var head [4 + 1]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return Frame{}, err
	}
	length := binary.BigEndian.Uint32(head[:])
	if length == 0 {
		return Frame{}, errors.New("a frame without a code")
	}
	data := make([]byte, length-1)
	_, err := io.ReadFull(r, data)
	return Frame{Code: head[4], Data: data}, err
}

// ReadFile reads the file at path.
func ReadFile(path string) (*Trace, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	t, err := Parse(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return t, nil
}

// Parse reads a file's text. Its error begins with the line's number.
func Parse(text []byte) (*Trace, error) {
	t := new(Trace)
	n := 0
	for line := range strings.Lines(string(text)) {
		n++
		if err := t.add(strings.TrimSpace(line)); err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
	}
	return t, nil
}

func (t *Trace) add(line string) error {
	if line == "" || line[0] == '#' {
		return nil
	}
	if len(line) < 3 || line[1] != ' ' {
		return fmt.Errorf("%q begins with none of >, <, = and #", line)
	}
	rest := line[2:]
	switch line[0] {
	case '>', '<':
		f, err := parseFrame(rest)
		f.FromMTA = line[0] == '>'
		t.Frames = append(t.Frames, f)
		return err
	case '=':
		c, err := parseCount(rest)
		t.Counts = append(t.Counts, c)
		return err
	}
	return fmt.Errorf("%q begins with none of >, <, = and #", line)
}

func parseFrame(s string) (Frame, error) {
	f := Frame{Code: s[0]}
	rest := strings.TrimSpace(s[1:])
	if f.Code == codeNegotiation {
		head, quoted, err := cutHead(rest)
		if err != nil {
			return f, err
		}
		f.Data, rest = head, quoted
	}
	if rest == "" {
		return f, nil
	}
	data, err := strconv.Unquote(strings.ReplaceAll(rest, nul, `\x00`))
	if err != nil {
		return f, fmt.Errorf("the data %s are not quoted as Go quotes strings", rest)
	}
	f.Data = append(f.Data, data...)
	return f, nil
}

// cutHead reads the three numbers of a negotiation.
func cutHead(s string) (head []byte, rest string, err error) {
	rest = s
	for range 3 {
		var word string
		word, rest, _ = strings.Cut(rest, " ")
		n, err := strconv.ParseUint(word, 0, 32)
		if err != nil {
			return nil, "", fmt.Errorf("a negotiation has three numbers, not %q", s)
		}
		head = binary.BigEndian.AppendUint32(head, uint32(n))
	}
	return head, rest, nil
}

func parseCount(s string) (Count, error) {
	series, number, _ := strings.Cut(s, " ")
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil {
		return Count{}, fmt.Errorf("%q is not a series and its count", s)
	}
	return Count{series, n}, nil
}

// Turn is what the MTA sends without waiting, and what it is answered.
type Turn struct{ Sent, Answers []Frame }

// Turns are the trace's frames turn by turn. After the last answer there is a
// turn without any, if the MTA said more.
func (t *Trace) Turns() (turns []Turn) {
	for rest := t.Frames; len(rest) > 0; {
		var turn Turn
		turn.Sent, rest = cutSide(rest, true)
		turn.Answers, rest = cutSide(rest, false)
		turns = append(turns, turn)
	}
	return turns
}

// cutSide takes the frames of one side from the beginning.
func cutSide(frames []Frame, fromMTA bool) (side, rest []Frame) {
	n := 0
	for n < len(frames) && frames[n].FromMTA == fromMTA {
		n++
	}
	return frames[:n], frames[n:]
}

// String is the frame's line, as Parse reads it.
func (f Frame) String() string {
	var b strings.Builder
	b.WriteString("< ")
	if f.FromMTA {
		b.Reset()
		b.WriteString("> ")
	}
	b.WriteByte(f.Code)
	data := f.Data
	if f.Code == codeNegotiation && len(data) >= headSize {
		fmt.Fprintf(&b, " %d %#x %#x", binary.BigEndian.Uint32(data), binary.BigEndian.Uint32(data[4:]), binary.BigEndian.Uint32(data[8:]))
		data = data[headSize:]
	}
	if len(data) > 0 {
		b.WriteString(" " + quote(data))
	}
	return b.String()
}

// quote is the inverse of what parseFrame does; a middle dot in the data, not
// being a NUL, is escaped.
func quote(data []byte) string {
	pieces := bytes.Split(data, []byte{0})
	quoted := make([]string, len(pieces))
	for i, p := range pieces {
		q := strconv.Quote(string(p))
		quoted[i] = strings.ReplaceAll(q[1:len(q)-1], nul, `\u00b7`)
	}
	return `"` + strings.Join(quoted, nul) + `"`
}

// Bytes is the frame on the wire.
func (f Frame) Bytes() []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(1+len(f.Data)))
	b = append(b, f.Code)
	return append(b, f.Data...)
}

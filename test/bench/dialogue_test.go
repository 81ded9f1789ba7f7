package bench

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/audit-milter/audit-milter/internal/wiretrace"
)

// dialogue is a recorded one, ready to be played by many clients.
type dialogue struct {
	recording string // its file
	policy    string // the file of the policy under which it was recorded
	trace     *wiretrace.Trace
	clients   [][]turn
	waits     int // answers that the mail server waits for, the negotiation's apart
}

// turn is what a mail server writes at once, and the answer that it then waits
// for, nil at the end.
type turn struct {
	send        []byte
	want        []byte
	negotiation bool // whose answer has other words on other libraries
}

const recordings = "../../milter/testdata/wire"

// numClients is how many clients, each with an address and a sender of its own,
// take turns: enough that their counts do not stay in the nearest cache.
const numClients = 1000

func readDialogue(b *testing.B, name string) *dialogue {
	b.Helper()
	d := &dialogue{
		recording: filepath.Join(recordings, name, "postfix.txt"),
		policy:    filepath.Join(recordings, name, "policy.yaml"),
	}
	var err error
	if d.trace, err = wiretrace.ReadFile(d.recording); err != nil {
		b.Fatal(err)
	}
	turns := d.trace.Turns()
	for n := range numClients {
		d.clients = append(d.clients, asClient(turns, n))
	}
	for _, t := range d.clients[0] {
		if t.want != nil && !t.negotiation {
			d.waits++
		}
	}
	return d
}

// asClient is the dialogue of the client with number n: the recorded one's
// address and sender are replaced by others of the same length.
func asClient(turns []wiretrace.Turn, n int) []turn {
	renamed := func(frames []wiretrace.Frame) (stream []byte) {
		for _, f := range frames {
			stream = append(stream, f.Bytes()...)
		}
		stream = bytes.ReplaceAll(stream, []byte("198.51.100.100"), fmt.Appendf(nil, "198.51.%d.%d", 100+n/100, 100+n%100))
		return bytes.ReplaceAll(stream, []byte("sender-0000"), fmt.Appendf(nil, "sender-%04d", n))
	}
	client := make([]turn, len(turns))
	for i, t := range turns {
		client[i] = turn{renamed(t.Sent), renamed(t.Answers), i == 0}
	}
	return client
}

// negotiation is the frame that the mail server's offer was answered with.
func (d *dialogue) negotiation() wiretrace.Frame { return d.trace.Turns()[0].Answers[0] }

// answered are the commands that were answered, the negotiation apart.
func (d *dialogue) answered() string {
	codes := ""
	for _, t := range d.trace.Turns()[1:] {
		if len(t.Answers) > 0 {
			codes += string(rune(t.Sent[len(t.Sent)-1].Code))
		}
	}
	return codes
}

// protocolBits are those that were negotiated, as a C program reads a number.
func (d *dialogue) protocolBits() string {
	return "0x" + hex.EncodeToString(d.negotiation().Data[8:12])
}

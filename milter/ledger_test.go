package milter_test

import (
	"encoding/binary"
	"fmt"
	"io"
	"strings"

	"github.com/audit-milter/audit-milter/internal/wiretrace"
)

// ledger is the MTA's side of a session: it matches answers with frames, and
// works out from both what must have been counted. It is written from what the
// outcomes mean and not from the code that counts them.
type ledger struct {
	protocol uint32 // the bits that were agreed
	begun    bool
	open     bool // a message is in progress
	owed     bool // and has no outcome yet
	unknown  bool // the macros of the next RCPT say that the MTA refused it

	outcomes map[string]int
}

// replyBits are the protocol's bits with which an MTA does not wait for the
// answer to a command.
var replyBits = map[byte]uint32{
	'C': 1 << 12, 'H': 1 << 13, 'M': 1 << 14, 'R': 1 << 15, 'T': 1 << 16, 'U': 1 << 17, 'L': 1 << 7, 'N': 1 << 18, 'B': 1 << 19, 'E': 0,
}

const rcptRejected = 1 << 11 // the bit with which an MTA shows the recipients that it refused

// waits reports whether the MTA waits for an answer.
func (l *ledger) waits(code byte) bool {
	bit, answered := replyBits[code]
	return code == 'O' || answered && l.protocol&bit == 0
}

// read matches the answers with the frames, as an MTA does: each belongs to the
// first frame that still waits for one. Where the session gave up, the last
// frames have none.
func (l *ledger) read(frames []wiretrace.Frame, answers io.Reader) error {
	l.outcomes = make(map[string]int)
	defer l.end()
	for _, f := range frames {
		var answer wiretrace.Frame
		if l.waits(f.Code) {
			var err error
			if answer, err = readAnswer(answers, f.Code); err == io.EOF {
				return nil
			} else if err != nil {
				return fmt.Errorf("%c: %w", f.Code, err)
			}
		}
		if f.Code == 'Q' {
			break
		}
		l.enter(f, answer)
	}
	if rest, _ := io.ReadAll(answers); len(rest) > 0 {
		return fmt.Errorf("%d bytes answer nothing", len(rest))
	}
	return nil
}

// readAnswer reads one answer, at the end of a message behind its changes.
func readAnswer(r io.Reader, to byte) (wiretrace.Frame, error) {
	allowed := map[byte]string{'O': "O", 'E': "cyadqim"}[to]
	if allowed == "" {
		allowed = "cy"
	}
	for {
		f, err := wiretrace.ReadFrame(r)
		switch {
		case err != nil:
			return f, err
		case !strings.ContainsRune(allowed, rune(f.Code)):
			return f, fmt.Errorf("answered %c", f.Code)
		case to == 'O':
			return f, nil
		}
		if err := checkAnswer(f); err != nil || !strings.ContainsRune("qim", rune(f.Code)) {
			return f, err
		}
	}
}

// enter books one frame and its answer, which is the zero Frame where none is
// waited for.
func (l *ledger) enter(f, answer wiretrace.Frame) {
	refused := answer.Code == 'y' || answer.Code == 'd'
	switch f.Code {
	case 'O':
		l.end()
		*l = ledger{begun: true, protocol: binary.BigEndian.Uint32(answer.Data[8:]), outcomes: l.outcomes}
	case 'K':
		l.end()
		*l = ledger{begun: true, protocol: l.protocol, outcomes: l.outcomes}
	case 'D':
		if len(f.Data) > 0 && f.Data[0] == 'R' {
			l.unknown = strings.Contains(string(f.Data), "{rcpt_mailer}\x00error\x00")
		}
	case 'C':
		l.unknown = false
	case 'H':
		l.close()
	case 'M':
		l.close()
		l.open, l.owed = !refused, !refused
	case 'R':
		if l.open && l.unknown && l.protocol&rcptRejected != 0 {
			l.outcomes["denied"]++
		}
		l.unknown = l.unknown && !l.open
	case 'T', 'N':
		l.owed = l.owed && !refused
	case 'E':
		if l.open && !refused {
			l.outcomes["accepted"]++
		}
		l.open, l.owed = false, false
	case 'A':
		l.abort()
	}
	if refused {
		l.outcomes["refused"]++
	}
}

// close ends the message, and what the recipients' macros said.
func (l *ledger) close() {
	l.abort()
	l.unknown = false
}

func (l *ledger) abort() {
	if l.owed {
		l.outcomes["aborted"]++
	}
	l.open, l.owed = false, false
}

// end ends the dialogue, once.
func (l *ledger) end() {
	l.abort()
	if l.begun {
		l.outcomes["gone"]++
	}
	l.begun = false
}

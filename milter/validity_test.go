package milter_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"regexp"
	"strings"

	"github.com/audit-milter/audit-milter/internal/wiretrace"
)

// What the receivers of an answer find wrong with it. These checks know nothing
// of the code that writes answers, only what both MTAs were seen to take.

var (
	replyCode  = regexp.MustCompile(`^[45][0-9][0-9][ -]`)
	replyCodes = regexp.MustCompile(`^([45])[0-9]{2}[ -]([0-9])\.[0-9]{1,3}\.[0-9]{1,3} [^ ]`)
	headerName = regexp.MustCompile(`^[!-9;-~]+$`)
)

// receivers read the data of a reply, each by its own rules.
var receivers = []struct {
	name  string
	wrong func(data []byte) error
}{
	{"Sendmail", wrongForSendmail},
	{"Postfix 3.7", wrongForPostfix},
	{"Postfix 3.12", wrongForLaterPostfix},
	{"libmilter", wrongForLibmilter},
	{"an SMTP client", wrongForClients},
}

// checkReply says who would find what wrong with the data of a reply.
func checkReply(data []byte) error {
	for _, r := range receivers {
		if err := r.wrong(data); err != nil {
			return fmt.Errorf("%s: %w", r.name, err)
		}
	}
	return nil
}

// wrongForSendmail: it shows a text of its own instead of a reply whose length
// is not that of the string, or in which % is not doubled, and cuts at 16 KiB,
// with the recipient that it inserts.
func wrongForSendmail(data []byte) error {
	switch {
	case bytes.IndexByte(data, 0) != len(data)-1:
		return fmt.Errorf("strlen+1 is %d, the length %d", bytes.IndexByte(data, 0)+1, len(data))
	case !replyCode.Match(data):
		return fmt.Errorf("no code")
	case bytes.Contains(bytes.ReplaceAll(data, []byte("%%"), nil), []byte("%")):
		return fmt.Errorf("a single %%")
	case len(data)+512 > 16<<10:
		return fmt.Errorf("%d bytes", len(data))
	}
	return nil
}

// wrongForPostfix: what 3.7 takes ill it makes 451 4.3.5 of, for the rest of the
// SMTP session. It looks at the first line only. A text that ends in CRLF shifts
// all later replies.
func wrongForPostfix(data []byte) error {
	text, ended := bytes.CutSuffix(data, []byte{0})
	m := replyCodes.FindSubmatch(data)
	switch {
	case !ended:
		return fmt.Errorf("no NUL: the client is sent stale memory")
	case m == nil:
		return fmt.Errorf("no code with an enhanced one")
	case !bytes.Equal(m[1], m[2]):
		return fmt.Errorf("class %s beside %s", m[2], m[1])
	case bytes.HasSuffix(text, []byte("\n")), bytes.HasSuffix(text, []byte("\r")):
		return fmt.Errorf("a line end at the end")
	}
	return nil
}

// wrongForLaterPostfix: it looks at every line.
func wrongForLaterPostfix(data []byte) error {
	lines := linesOf(data)
	for i, line := range lines {
		separator := "-"
		if i == len(lines)-1 {
			separator = " "
		}
		if !strings.HasPrefix(line, lines[0][:3]+separator) {
			return fmt.Errorf("line %d of %d begins %.4q", i+1, len(lines), line)
		}
		if err := wrongForPostfix([]byte(line + "\x00")); err != nil {
			return fmt.Errorf("line %d: %w", i+1, err)
		}
		if strings.ContainsAny(line, "\r\n\x00") {
			return fmt.Errorf("line %d has a CR, LF or NUL", i+1)
		}
	}
	return nil
}

// wrongForLibmilter: no filter that is built with it could send more.
func wrongForLibmilter(data []byte) error {
	lines := linesOf(data)
	if len(lines) > 32 {
		return fmt.Errorf("%d lines", len(lines))
	}
	for i, line := range lines {
		if len(line) > 980 {
			return fmt.Errorf("line %d has %d bytes", i+1, len(line))
		}
	}
	return nil
}

// wrongForClients: RFC 5321 allows lines of 512 bytes with CRLF, and Sendmail
// puts the recipient into the first one. The text is ASCII.
func wrongForClients(data []byte) error {
	for i, line := range linesOf(data) {
		if shown := strings.ReplaceAll(line, "%%", "%"); len(shown) > 510-100 {
			return fmt.Errorf("line %d has %d bytes", i+1, len(shown))
		}
		if err := notPrintable(line); err != nil {
			return fmt.Errorf("line %d: %w", i+1, err)
		}
	}
	return nil
}

func linesOf(data []byte) []string {
	return strings.Split(strings.TrimSuffix(string(data), "\x00"), "\r\n")
}

func notPrintable(s string) error {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return fmt.Errorf("byte %#x", s[i])
		}
	}
	return nil
}

// checkAnswer says what is wrong with a frame of the milter other than the
// negotiation's.
func checkAnswer(f wiretrace.Frame) error {
	switch f.Code {
	case 'c', 'a', 'd':
		if len(f.Data) > 0 {
			return fmt.Errorf("%s has data", f)
		}
		return nil
	case 'y':
		return checkReply(f.Data)
	case 'q':
		return checkStrings(f.Data, "reason")
	case 'i':
		return checkHeader(f.Data, 0)
	case 'm':
		return checkHeader(f.Data, 1)
	}
	return fmt.Errorf("%s is no answer", f)
}

// checkHeader says what is wrong with an index, from the least one on, and a
// header's name and value.
func checkHeader(data []byte, least uint32) error {
	if len(data) < 4 || binary.BigEndian.Uint32(data) < least {
		return fmt.Errorf("%q has no index from %d on", data, least)
	}
	if err := checkStrings(data[4:], "name", "value"); err != nil {
		return err
	}
	name, value, _ := strings.Cut(string(data[4:len(data)-1]), "\x00")
	switch {
	case !headerName.MatchString(name):
		return fmt.Errorf("%q is no name of a header", name)
	case len(name)+len(": ")+len(value) > 998:
		return fmt.Errorf("the line of %s has %d bytes of value", name, len(value))
	}
	return nil
}

// checkStrings says what is wrong with data that are strings, each ending in
// NUL.
func checkStrings(data []byte, names ...string) error {
	if len(data) > 1<<10 || bytes.Count(data, []byte{0}) != len(names) || !bytes.HasSuffix(data, []byte{0}) {
		return fmt.Errorf("%q is not %s, each ending in NUL", data, strings.Join(names, " and "))
	}
	return notPrintable(strings.ReplaceAll(string(data), "\x00", ""))
}

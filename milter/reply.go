package milter

import (
	"strconv"
	"strings"

	"github.com/audit-milter/audit-milter/policy"
)

// The bounds of a reply's text. A line stays below the 512 bytes of RFC 5321
// with what Sendmail puts in front of it; the whole, with every % doubled,
// well below the 16 KiB to which Sendmail cuts.
const (
	maxReplyLine = 400
	maxReplyText = 2000
)

// replyData is the data of an SMTP reply as every version of both MTAs takes
// it, whatever the reply says: lines joined by CRLF, each with the code and an
// enhanced status code of its class, printable ASCII only, every % doubled,
// one NUL at the end. A malformed one costs Postfix the whole session.
func replyData(r policy.Reply) string {
	code, enhanced := replyCodes(r)
	lines := replyLines(r.Text, maxReplyLine-len(code+"- "+enhanced))
	var b strings.Builder
	for i, line := range lines {
		separator := "-"
		if i == len(lines)-1 {
			separator = " "
		}
		b.WriteString(code + separator + enhanced + " " + line)
		if i < len(lines)-1 {
			b.WriteString("\r\n")
		}
	}
	b.WriteByte(0)
	return b.String()
}

// replyCodes are the reply's codes, or those of a temporary failure where they
// are none that refuses.
func replyCodes(r policy.Reply) (code, enhanced string) {
	if r.Code < 400 || r.Code > 599 {
		r.Code = 451
	}
	code = strconv.Itoa(r.Code)
	if !isStatus(r.Enhanced) || r.Enhanced[0] != code[0] {
		return code, code[:1] + ".0.0"
	}
	return code, r.Enhanced
}

// replyLines makes the text harmless and cuts it into lines of at most width
// bytes, between words where it can.
func replyLines(text string, width int) []string {
	words := strings.Fields(printable(text, maxReplyText))
	if len(words) == 0 {
		return []string{"refused"}
	}
	var lines []string
	var line string
	for _, word := range words {
		for word != "" {
			piece, rest := cutEscaped(word, width)
			if line != "" && len(line)+1+len(piece) > width {
				lines, line = append(lines, line), ""
			}
			if line != "" {
				line += " "
			}
			line += piece
			word = rest
		}
	}
	return append(lines, line)
}

// cutEscaped doubles every % of the word and cuts it where more than width
// bytes would result.
func cutEscaped(word string, width int) (piece, rest string) {
	var b strings.Builder
	for i, c := range []byte(word) {
		n := 1
		if c == '%' {
			n = 2
		}
		if b.Len()+n > width {
			return b.String(), word[i:]
		}
		b.WriteString("%%"[:n-1])
		b.WriteByte(c)
	}
	return b.String(), ""
}

// printable is at most limit bytes of s, with a space for what ends a line and
// a question mark for every other byte that is not printable ASCII.
//
// The policy's texts are harmless already; it is made sure of here because one
// byte that is not costs Postfix the whole session.
func printable(s string, limit int) string {
	b := []byte(s[:min(len(s), limit)])
	for i, c := range b {
		switch {
		case c == '\r' || c == '\n' || c == '\t':
			b[i] = ' '
		case c < ' ' || c > '~':
			b[i] = '?'
		}
	}
	return string(b)
}

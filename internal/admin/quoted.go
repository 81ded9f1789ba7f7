package admin

import "bufio"

// quotedEnds reads CSV for encoding/csv, which takes the CR of every CR LF for one of the
// line's own. Within quotes it is a part of a client's text: there it comes twice, so that
// one is left.
type quotedEnds struct {
	from   *bufio.Reader
	quoted bool // within quotes; a doubled one leaves them and comes back
	again  bool // the CR that was read last comes again
}

func (q *quotedEnds) Read(p []byte) (n int, err error) {
	for ; n < len(p); n++ {
		if q.again {
			p[n], q.again = '\r', false
			continue
		}
		b, err := q.from.ReadByte()
		if err != nil {
			return n, err
		}
		switch {
		case b == '"':
			q.quoted = !q.quoted
		case b == '\r' && q.quoted:
			next, _ := q.from.Peek(1)
			q.again = len(next) == 1 && next[0] == '\n'
		}
		p[n] = b
	}
	return n, nil
}

package milter_test

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// Where a session is when something odd comes, and what has been counted by
// then. Its client has an address of its own.
const (
	fresh      = ``
	negotiated = `O 6 0x1ff 0x1fffff`
	greeted    = negotiated + ` | C "x·4\x10\x92192.0.2.99·" | H "c·"`
	inMessage  = greeted + ` | M "<a@b>·"`

	greetedCounts = "connected 1, greeted 1"
	messageCounts = "connected 1, greeted 1, mailed 1"
	brokenCounts  = "aborted 1, connected 1, gone 1, greeted 1, mailed 1" // as inMessage, and then it ends
)

// How a connection ends.
const (
	goesOn      = "it goes on"
	closes      = "it is closed"
	closesLater = "it is closed when the MTA has been waited for"
	hangsUp     = "the MTA closes it"
)

// raw marks bytes that are no frames.
const raw = "raw "

// TestMalformedInput has all that a peer may send and no MTA does, or hardly
// any: what is answered, what becomes of the connection, what is logged and
// counted. A second session, in the middle of a message, never notices.
func TestMalformedInput(t *testing.T) {
	for _, row := range []struct {
		name            string
		state, input    string
		answers         string
		end             string
		logged, counted string
	}{
		{"a length of zero", fresh, raw + "\x00\x00\x00\x00\x00", ``, closes, "a frame of 0 bytes", ""},
		{"a length of zero in a message", inMessage, raw + "\x00\x00\x00\x00\x00", ``, closes, "a frame of 0 bytes", brokenCounts},
		{"a length above all that MTAs send", inMessage, raw + "\x00\x01\x00\x01B", ``, closes, "a frame of 65537 bytes", brokenCounts},
		{"a length of 4 GiB", inMessage, raw + "\xff\xff\xff\xffM", ``, closes, "a frame of 4294967295 bytes", brokenCounts},
		{"HTTP", fresh, raw + "GET / HTTP/1.1\r\n\r\n", ``, closes, "a frame of 1195725856 bytes; is this an MTA's milter connection?", ""},
		{"TLS", fresh, raw + "\x16\x03\x01\x02\x00\x01\x00\x01\xfc", ``, closes, "a frame of 369295618 bytes", ""},
		{"SMTP", fresh, raw + "EHLO client.example\r\n", ``, closes, "a frame of 1162366031 bytes", ""},

		{"nothing, and an end: a health check", fresh, raw, ``, hangsUp, "", ""},
		{"nothing, and no end", fresh, raw, ``, closesLater, "no negotiation came", ""},
		{"half a length, and an end", inMessage, raw + "\x00\x00", ``, hangsUp, "the connection ended inside a frame", brokenCounts},
		{"half a length, and no end", inMessage, raw + "\x00\x00", ``, closesLater, "a frame was begun and not ended", brokenCounts},
		{"half a negotiation, and no end", fresh, raw + "\x00\x00\x00\x0dO\x00", ``, closesLater, "a frame was begun and not ended", ""},
		{"half a frame, and an end", inMessage, raw + "\x00\x00\x00\x09R<u@", ``, hangsUp, "the connection ended inside a frame", brokenCounts},
		{"half a frame, and no end", inMessage, raw + "\x00\x00\x00\x09R<u@", ``, closesLater, "a frame was begun and not ended", brokenCounts},
		{"half a piece of a body, and an end", inMessage, raw + "\x00\x00\x00\x09Babc", ``, hangsUp, "the connection ended inside a frame", brokenCounts},
		{"half a piece of a body, and no end", inMessage, raw + "\x00\x00\x00\x09Babc", ``, closesLater, "a frame was begun and not ended", brokenCounts},

		{"a command before the negotiation", fresh, `H "c·"`, ``, closes, `command 'H' before the negotiation`, ""},
		{"a negotiation of 11 bytes", fresh, raw + "\x00\x00\x00\x0cO\x00\x00\x00\x06\x00\x00\x01\xff\x00\x1f\xff", ``, closes, "a negotiation of 11 bytes", ""},
		{"a negotiation of nothing", fresh, raw + "\x00\x00\x00\x01O", ``, closes, "a negotiation of 0 bytes", ""},
		{"a negotiation of version 1", fresh, `O 1 0x3f 0x7f`, ``, closes, "protocol version 1", ""},
		{"a second negotiation: another dialogue", inMessage, `O 6 0x1ff 0x1fffff`, `O 6 0x120 0x1990`, goesOn, "", brokenCounts},
		{"a second negotiation that is malformed", inMessage, raw + "\x00\x00\x00\x01O", ``, closes, "a negotiation of 0 bytes", brokenCounts},

		{"a CONNECT of nothing", negotiated, `C`, ``, closes, "a CONNECT without an address family", ""},
		{"a CONNECT without NUL", negotiated, `C "abc"`, ``, closes, "a CONNECT without an address family", ""},
		{"a CONNECT without a family", negotiated, `C "abc·"`, ``, closes, "a CONNECT without an address family", ""},
		{"a CONNECT by IPv4 without a port", negotiated, `C "abc·4"`, ``, closes, "a CONNECT without a port", ""},
		{"a CONNECT by IPv6 with half a port", negotiated, `C "abc·6\x10"`, ``, closes, "a CONNECT without a port", ""},
		{"a CONNECT by a unix socket without a port", negotiated, `C "abc·L·"`, ``, closes, "a CONNECT without a port", ""},
		{"a CONNECT whose address has no end", negotiated, `C "abc·4\x10\x92192.0.2.99"`, ``, closes, "a CONNECT whose address does not end in NUL", ""},
		{"a CONNECT whose path has no end", negotiated, `C "abc·L··/run"`, ``, closes, "a CONNECT whose address does not end in NUL", ""},
		{"a CONNECT of an unknown family: no address", negotiated, `C "abc·Z··x·" | H "c·"`, `c`, goesOn, "", ""},
		{"a CONNECT whose address is none", negotiated, `C "abc·4\x10\x92nonsense·" | H "c·"`, `c`, goesOn, "", ""},
		{"a CONNECT with more behind it", negotiated, `C "abc·4\x10\x92192.0.2.99·more"`, ``, goesOn, "", "connected 1"},
		{"a CONNECT again: counted again", greeted, `C "x·4\x10\x92192.0.2.99·"`, ``, goesOn, "", "connected 2, greeted 1"},

		{"macros of no command", inMessage, `D`, ``, closes, "a macro frame without a command", brokenCounts},
		{"macros without NUL", inMessage, `D "Ri"`, ``, closes, "a macro frame that does not end in NUL", brokenCounts},
		{"a macro whose value has no end", inMessage, `D "Ri·Q1"`, ``, closes, "a macro frame that does not end in NUL", brokenCounts},
		{"an odd number of strings: an empty value", inMessage, `D "R{rcpt_mailer}·" | R "<u@c>·"`, `c`, goesOn, "", messageCounts + ", rcpts 1"},
		{"macros of an unknown command", inMessage, `D "Zi·x·" | R "<u@c>·"`, `c`, goesOn, "", messageCounts + ", rcpts 1"},
		{"macros whose command never comes", inMessage, `D "R{rcpt_mailer}·error·" | D "R" | R "<u@c>·"`, `c`, goesOn, "", messageCounts + ", rcpts 1"},

		{"a HELO of nothing", greeted, `H`, ``, closes, "a HELO that does not end in NUL", "connected 1, gone 1, greeted 1"},
		{"a HELO without NUL", greeted, `H "c"`, ``, closes, "a HELO that does not end in NUL", "connected 1, gone 1, greeted 1"},
		{"an empty HELO", greeted, `H "·"`, `c`, goesOn, "", "connected 1, greeted 2"},
		{"a HELO of 64 KiB", greeted, `H "` + strings.Repeat("x", 65534) + `·"`, `c`, goesOn, "", "connected 1, greeted 2"},
		{"a MAIL of nothing", greeted, `M`, ``, closes, "a MAIL without an address", "connected 1, gone 1, greeted 1"},
		{"a MAIL without NUL", greeted, `M "<a@b>"`, ``, closes, "a MAIL without an address", "connected 1, gone 1, greeted 1"},
		{"a MAIL whose parameter has no end", greeted, `M "<a@b>·SIZE=1"`, ``, closes, "a MAIL that does not end in NUL", "connected 1, gone 1, greeted 1"},
		{"a MAIL in a message: another message", inMessage, `M "<a@b>·"`, `c`, goesOn, "", "aborted 1, connected 1, greeted 1, mailed 2"},
		{"a malformed MAIL in a message", inMessage, `M`, ``, closes, "a MAIL without an address", brokenCounts},
		{"a RCPT of nothing", inMessage, `R`, ``, closes, "a RCPT without an address", brokenCounts},
		{"a RCPT without NUL", inMessage, `R "<a@b>"`, ``, closes, "a RCPT without an address", brokenCounts},
		{"a header of nothing", inMessage, `L`, ``, closes, "a header field that does not end in NUL", brokenCounts},
		{"a header without a value", inMessage, `L "Subject·"`, ``, closes, "a header field that does not end in NUL", brokenCounts},
		{"a header whose value has no end", inMessage, `L "Subject·x"`, ``, closes, "a header field that does not end in NUL", brokenCounts},

		{"an unknown command", inMessage, `Z "x·"`, ``, closes, `unknown command 'Z'`, brokenCounts},
		{"a command in small letters", inMessage, `m "<a@b>·"`, ``, closes, `unknown command 'm'`, brokenCounts},
		{"a command of the other side", inMessage, `y "451 4.3.0 later·"`, ``, closes, `unknown command 'y'`, brokenCounts},
		{"the rest of a message without one", greeted, `R "<u@c>·" | T | L "a·b·" | N | B "x" | E`, `c, c, c, c, c`, goesOn, "", greetedCounts},
		{"an end that brings the last of the body", inMessage, `E "body"`, `c`, goesOn, "", "accepted 1, connected 1, ended 1, greeted 1, mailed 1"},
		{"data with commands that have none", inMessage, `T "x" | N "x" | A "x"`, `c, c`, goesOn, "", "aborted 1, connected 1, data 1, greeted 1, headed 1, mailed 1"},
		{"aborts of nothing", negotiated, `A | A | C "x·4\x10\x92192.0.2.99·" | A`, ``, goesOn, "", "connected 1"},
		{"a QUIT with data", inMessage, `Q "x"`, ``, closes, "", brokenCounts},
		{"commands behind QUIT", inMessage, `Q | R "<u@c>·"`, ``, closes, "", brokenCounts},
	} {
		t.Run(row.name, func(t *testing.T) {
			inPlace(t, everything, func(p *place) {
				other := p.mta()
				other.hears(`c, c`, client, `H "c·"`, `M "<a@b>·"`)

				m := p.dial()
				m.write(frames(row.state)...)
				m.answers()
				if bytes, ok := strings.CutPrefix(row.input, raw); ok {
					m.writeRaw([]byte(bytes))
				} else {
					m.write(frames(row.input)...)
				}
				if got, _, _ := strings.Cut(m.answers(), ` "···`); got != row.answers {
					t.Errorf("answered %s, want %s", got, row.answers)
				}
				switch row.end {
				case hangsUp:
					m.hangUp()
				case closesLater:
					if m.closed() {
						t.Error("closed at once")
					}
					time.Sleep(30 * time.Second)
				}
				if got, want := m.closed(), row.end != goesOn; got != want {
					t.Errorf("closed: %v, want %v", got, want)
				}
				if got := p.countsOf("192.0.2.99"); got != row.counted {
					t.Errorf("counted %s, want %s", got, row.counted)
				}
				want := []string{row.logged}
				if row.logged == "" {
					want = nil
				}
				if got := *p.seen.messages; !slices.EqualFunc(got, want, strings.Contains) {
					t.Errorf("logged %q, want %q", got, want)
				}

				other.hears(`c, c, c`, `R "<u@c>·"`, `T`, `E`)
				p.mta().hears(`c`, client, `H "c·"`)
			})
		})
	}
}

// frames are frames that are spelled one behind the other.
func frames(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(text, " | ")
}

func TestAConnectionThatNeverNegotiatedIsNotTheSessionBefore(t *testing.T) {
	inPlace(t, everything, func(p *place) {
		for range 10 { // not every session is used again
			m := p.mta()
			m.hears(``, client)
			m.write(`Q`)
			p.dial().writeRaw([]byte("GET / HTTP/1.1\r\n\r\n"))
			synctest.Wait()
			time.Sleep(time.Hour) // this is said once a minute
		}
		for _, line := range *p.seen.messages {
			if !strings.Contains(line, " session= ") {
				t.Errorf("logged %q", line)
			}
		}
		if n := p.seen.said("malformed"); n < 10 {
			t.Errorf("said %d times", n)
		}
	})
}

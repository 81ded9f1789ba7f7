package policy

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestTemplate(t *testing.T) {
	ev := &Event{}
	ev.SetSender("<Evil\r\n250 ok\x00é%s@Ex.test>")
	ev.SetHeader("X-Mark", "a\tb\r\n c")
	v := &Verdict{Measure: Measure{Series: "connections", Network: "192.0.2.0/24", Numbers: Numbers{Count: 7, Threshold: Threshold{N: 5}}, RetryAfter: 90 * time.Second}}
	for source, want := range map[string]string{
		"plain":                    "plain",
		"{count} of {threshold}":   "7 of 5",
		"{series} from {network}":  "connections from 192.0.2.0/24",
		"wait {retry_after}":       "wait 90 seconds",
		"<{sender}>":               "<evil.250.ok??%s@ex.test>",
		`{header["x-mark"]}`:       "a b   c",
		"{sasl_username}{size}":    "0",
		"{sender_domain}: {count}": "ex.test: 7",
	} {
		tmpl, err := ParseTemplate(source)
		if err != nil {
			t.Errorf("%s: %v", source, err)
			continue
		}
		if got := tmpl.render(ev, v); got != want {
			t.Errorf("%s = %q, want %q", source, got, want)
		}
	}
}

func TestTemplateIsBounded(t *testing.T) {
	ev := &Event{}
	ev.SetHelo(strings.Repeat("x", 65536))
	tmpl, err := ParseTemplate("hello {helo_name}")
	if err != nil {
		t.Fatal(err)
	}
	if got := tmpl.render(ev, &Verdict{}); len(got) != maxText || !strings.HasSuffix(got, "xxx...") {
		t.Errorf("%d bytes, ending in %q", len(got), got[len(got)-6:])
	}
}

func TestTemplateMistakes(t *testing.T) {
	for _, row := range []struct {
		source string
		offset int
		want   string
	}{
		{"wait {retry_afer}", 5, `unknown placeholder "retry_afer"; did you mean retry_after?`},
		{"{sender", 0, "this { has no }; a placeholder is {name}"},
		{"a } b", 2, `"}" does not belong here; a placeholder is {name}, a text has one line`},
		{"two\nlines", 3, `"\n" does not belong here; a placeholder is {name}, a text has one line`},
		{"größer", 2, `'ö' is not ASCII, and a reply or a header may hold nothing else; spell it in ASCII letters`},
		{"{header}", 0, `header needs a name; write header["Name"]`},
		{`{header[X]}`, 0, `header[X] is not a header; write header["Name"]`},
	} {
		_, err := ParseTemplate(row.source)
		var at *SyntaxError
		if !errors.As(err, &at) || at.Error() != row.want || at.Offset != row.offset {
			t.Errorf("%q: %v, want at %d %s", row.source, err, row.offset, row.want)
		}
	}
}

func TestReplies(t *testing.T) {
	for _, row := range []struct {
		then Action
		text string
		want string // the reply, or "error: …"
	}{
		{Tempfail, "450 4.7.1 Slow down", "450 4.7.1 Slow down"},
		{Tempfail, "450 Slow down", "450 4.7.1 Slow down"},
		{Tempfail, "Slow down", "451 4.7.1 Slow down"},
		{Tempfail, "4 messages are enough", "451 4.7.1 4 messages are enough"},
		{Tempfail, "1000 messages are enough", "451 4.7.1 1000 messages are enough"},
		{Reject, "no", "550 5.7.1 no"},
		{Reject, "554 5.7.0 no", "554 5.7.0 no"},
		{Reject, "5.7.0 no", "550 5.7.0 no"},
		{Reject, "4.7.0 later", "error: the enhanced status code 4.7.0 contradicts 550; it must begin with 5"},
		{Reject, "5.7 reasons", "550 5.7.1 5.7 reasons"},
		{Disconnect, "421 4.7.0 bye", "421 4.7.0 bye"},
		{Tempfail, "550 no", "error: 550 contradicts then: tempfail; write a code such as 451, or leave the code out"},
		{Reject, "450 no", "error: 450 contradicts then: reject; write a code such as 550, or leave the code out"},
		{Reject, "250 yes", "error: 250 contradicts then: reject; write a code such as 550, or leave the code out"},
		{Tempfail, "421 4.7.0 bye", "error: 421 closes the connection, which contradicts then: tempfail; write then: disconnect or another 4xx code"},
		{Disconnect, "451 bye", "error: 451 contradicts then: disconnect, whose code is 421"},
		{Reject, "521 no", "error: 521 closes the connection on some MTAs; write then: disconnect, or another 5xx code such as 550"},
		{Tempfail, "450 5.7.1 no", "error: the enhanced status code 5.7.1 contradicts 450; it must begin with 4"},
		{Tempfail, "450 4.7.1", "error: a reply needs a text after its code"},
		{Tempfail, "450", "error: a reply needs a text after its code"},
		{Accept, "welcome", "error: a reply belongs to tempfail, reject or disconnect"},
		{Quarantine, "held", "error: a reply belongs to tempfail, reject or disconnect"},
	} {
		tmpl, err := ParseTemplate(row.text)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		if reply, err := newReply(tmpl, row.then); err != nil {
			got = "error: " + err.Error()
		} else {
			got = reply.render(&Event{}, &Verdict{}).String()
		}
		if got != row.want {
			t.Errorf("then: %s, reply: %q gave %q, want %q", row.then, row.text, got, row.want)
		}
	}
}

func TestDurationText(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0:                                 "1 second",
		time.Second:                       "1 second",
		1001 * time.Millisecond:           "2 seconds",
		40 * time.Second:                  "40 seconds",
		60 * time.Second:                  "1 minute",
		61 * time.Second:                  "61 seconds",
		121 * time.Second:                 "3 minutes",
		12 * time.Minute:                  "12 minutes",
		11*time.Minute + time.Millisecond: "12 minutes",
		time.Hour:                         "1 hour",
		90 * time.Minute:                  "90 minutes",
		121 * time.Minute:                 "3 hours",
		3 * time.Hour:                     "3 hours",
		24 * time.Hour:                    "1 day",
		47 * time.Hour:                    "47 hours",
		49 * time.Hour:                    "3 days",
		31 * 24 * time.Hour:               "31 days",
	} {
		if got := DurationText(d); got != want {
			t.Errorf("%v is %q, want %q", d, got, want)
		}
	}
}

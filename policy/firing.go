package policy

import (
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Firing is a rule that fired, as those hear of it whom its `notify` names
// ([Options.Notify]). It is good until the call returns: its event goes on.
type Firing struct {
	Verdict *Verdict
	To      []string // the names in `notify`
	At      time.Time

	event *Event
}

// tell passes on that a rule fired, if it wants that.
func (e *Engine) tell(ev *Event, r *rule, v *Verdict, now time.Time) {
	if e.notify != nil && len(r.Notify) > 0 {
		e.notify(Firing{Verdict: v, To: r.Notify, At: now, event: ev})
	}
}

// Key is the text or the block that was counted. A rule without conditions has
// none; the client stands for it.
func (f Firing) Key() string {
	if f.Verdict.Series == "" {
		return f.event.ClientAddress
	}
	return f.Verdict.Subject()
}

// Why are the numbers in a sentence, printable and on one line; "" for a rule
// without conditions.
func (f Firing) Why() string {
	if f.Verdict.Series == "" {
		return ""
	}
	return Printable(strings.TrimPrefix(f.Verdict.sentence(), f.Verdict.Rule+": "))
}

// Text is an attribute's value, printable, on one line and no longer than a key.
func (f Firing) Text(a Attribute) string {
	return Printable(boundedKey(Term{Attribute: a}.text(f.event)))
}

// Printable makes a text safe to show anywhere, whatever a client put into it:
// what ends a line, moves a terminal's cursor or changes the direction of what
// follows becomes �.
func Printable(text string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return utf8.RuneError
		}
		return r
	}, text)
}

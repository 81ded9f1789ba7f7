package policy

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/audit-milter/audit-milter/series"
)

// Notes are what an admin should know of a policy that is right: what it costs,
// and where it may surprise.
func (p *Policy) Notes() []string {
	return slices.Concat(p.stageNotes(), p.windowNotes(), p.memoryNotes(), p.sizeNotes(), p.sharedNotes(), p.connectNotes(), p.dataNotes(), p.openNotes(), p.vainNotes())
}

func (p *Policy) stageNotes() []string {
	u := p.uses()
	note := fmt.Sprintf("the MTA shows %s and waits for an answer at %s", u.Shown, u.Answered)
	if p.Shadow {
		note += "; in global shadow every answer is continue"
	}
	return []string{note}
}

func (p *Policy) windowNotes() (notes []string) {
	const day = 24 * time.Hour
	for _, s := range p.Series {
		if s.Interval < day && day%s.Interval != 0 || s.Interval > day && s.Interval%day != 0 {
			notes = append(notes, fmt.Sprintf("series %s: an interval of %s does not divide a day, so its windows do not begin at midnight UTC", s.Name, DurationText(s.Interval)))
		}
	}
	return notes
}

// large is how much memory a series of events takes that is worth a note.
const large = 1e9

// memoryNotes tell what a series of different values can take, since a key's memory
// grows with what it shows, and what any other can that takes much.
func (p *Policy) memoryNotes() (notes []string) {
	for _, s := range p.Series {
		switch {
		case s.Distinct != nil:
			notes = append(notes, fmt.Sprintf("series %s: takes %s of memory at the most, when each of max_keys %d shows many values in every window", s.Name, sizeText(series.DistinctMemory(s.Definition)), s.MaxKeys))
		case series.Memory(s.Definition) >= large:
			notes = append(notes, fmt.Sprintf("series %s: takes about %s of memory when it has as many keys as max_keys lets it, %d, each with %d windows", s.Name, sizeText(series.Memory(s.Definition)), s.MaxKeys, s.Windows))
		}
	}
	return notes
}

// sizeText is a number of bytes with a unit.
func sizeText(n int64) string {
	for _, unit := range []struct {
		name string
		size int64
	}{{"GB", 1e9}, {"MB", 1e6}} {
		if n >= unit.size {
			return fmt.Sprintf("%.1f %s", float64(n)/float64(unit.size), unit.name)
		}
	}
	return fmt.Sprintf("%.1f kB", float64(n)/1e3)
}

// sizeNotes name who makes the MTA send every message whole.
func (p *Policy) sizeNotes() []string {
	size := Term{Attribute: MessageSize}
	var users []string
	for _, s := range p.Series {
		if slices.ContainsFunc(s.Adds, func(a Add) bool { return slices.Contains(s.terms(&a), size) }) {
			users = append(users, "series "+s.Name)
		}
	}
	for _, r := range p.Rules {
		if slices.Contains(p.terms(r), size) {
			users = append(users, "rule "+r.Name)
		}
	}
	if users == nil {
		return nil
	}
	return []string{"message_size makes the MTA send every message whole; used by " + strings.Join(users, ", ")}
}

// sharedNotes name the rules that a shared key cannot fire.
func (p *Policy) sharedNotes() []string {
	var rules []string
	for _, r := range p.Rules {
		if r.AllowSharedKey {
			continue
		}
		for c := range r.conditions() {
			if key := p.key(c); len(key) == 1 && canBeShared(key[0].Attribute) {
				rules = append(rules, r.Name)
				break
			}
		}
	}
	if rules == nil {
		return nil
	}
	return []string{"loopback, this host's own addresses and the null sender are keys that many share; they do not fire " + strings.Join(rules, ", ") + " (allow_shared_key: true lets them)"}
}

func canBeShared(a Attribute) bool {
	return a.Kind() == Address || a == Sender || a == SenderRaw
}

func (p *Policy) connectNotes() (notes []string) {
	for _, r := range p.Rules {
		if r.At.Has(Connect) && r.Reply != nil {
			notes = append(notes, fmt.Sprintf("rule %s: at connect Sendmail shows its own text, not the reply", r.Name))
		}
	}
	return notes
}

// dataNotes name the rules whose refusals a client can turn against the mail server.
func (p *Policy) dataNotes() (notes []string) {
	for _, r := range p.Rules {
		if r.At.Has(Data) && (r.Then == Tempfail || r.Then == Reject) {
			notes = append(notes, fmt.Sprintf("rule %s: a client that is refused at data can crash Postfix 3.7 by BDAT; at eoh it cannot, nor with smtpd_discard_ehlo_keywords = chunking", r.Name))
		}
	}
	return notes
}

// openNotes say where open_sessions lacks some that are open.
func (p *Policy) openNotes() (notes []string) {
	u := p.uses()
	if !u.Shown.Has(Connect) {
		return []string{"the MTA does not show connect, so open_sessions is empty"}
	}
	for _, r := range p.Rules {
		for c := range r.conditions() {
			if c.Series == OpenSessions && !u.Answered.Has(Connect) {
				return []string{fmt.Sprintf("rule %s: nothing is answered at connect, so Postfix shows a connection with its client's first command that is answered, and open_sessions lacks it until then; a rule at connect has them all", r.Name)}
			}
		}
	}
	return nil
}

package policy

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// Template is the text of a reply or a header, with placeholders in braces.
type Template struct {
	source string
	parts  []templatePart
}

// templatePart is a literal text, a term, or one of the condition's numbers.
type templatePart struct {
	text   string
	term   Term
	number placeholder
	offset int
	kind   partKind
}

type partKind uint8

const (
	literalPart partKind = iota
	termPart
	numberPart
)

// placeholder is what only the condition that fired can say.
type placeholder string

const (
	countPlaceholder     placeholder = "count"
	thresholdPlaceholder placeholder = "threshold"
	seriesPlaceholder    placeholder = "series"
	networkPlaceholder   placeholder = "network"
	retryPlaceholder     placeholder = "retry_after"
)

var placeholders = []placeholder{countPlaceholder, thresholdPlaceholder, seriesPlaceholder, networkPlaceholder, retryPlaceholder}

// ParseTemplate reads a text with {placeholders}. A mistake is a
// [*SyntaxError].
func ParseTemplate(source string) (*Template, error) {
	t := &Template{source: source}
	for i, c := range source {
		if c >= utf8.RuneSelf || c == '\t' {
			return nil, &SyntaxError{i, fmt.Errorf("%q is not ASCII, and a reply or a header may hold nothing else; spell it in ASCII letters", c)}
		}
	}
	for i := 0; i < len(source); {
		open := strings.IndexAny(source[i:], "{}\r\n")
		if open < 0 {
			t.literal(source[i:])
			break
		}
		t.literal(source[i : i+open])
		i += open
		if source[i] != '{' {
			return nil, &SyntaxError{i, fmt.Errorf("%q does not belong here; a placeholder is {name}, a text has one line", source[i:i+1])}
		}
		end := strings.IndexByte(source[i:], '}')
		if end < 0 {
			return nil, &SyntaxError{i, fmt.Errorf("this { has no }; a placeholder is {name}")}
		}
		if err := t.placeholder(source[i+1:i+end], i); err != nil {
			return nil, &SyntaxError{i, err}
		}
		i += end + 1
	}
	return t, nil
}

func (t *Template) literal(s string) {
	if s != "" {
		t.parts = append(t.parts, templatePart{kind: literalPart, text: harmless(s)})
	}
}

func (t *Template) placeholder(name string, offset int) error {
	for _, p := range placeholders {
		if string(p) == name {
			t.parts = append(t.parts, templatePart{kind: numberPart, number: p, offset: offset})
			return nil
		}
	}
	term, err := ParseTerm(name)
	if err != nil {
		if _, ok := err.(UnknownError); ok {
			return UnknownError{"placeholder", name, placeholderNames()}
		}
		return err
	}
	t.parts = append(t.parts, templatePart{kind: termPart, term: term, offset: offset})
	return nil
}

func placeholderNames() []string {
	names := AttributeNames()
	for _, p := range placeholders {
		names = append(names, string(p))
	}
	return names
}

// String is the text as the configuration has it.
func (t *Template) String() string { return t.source }

// terms are the attributes and headers that the text shows.
func (t *Template) terms() (terms []placed) {
	if t == nil {
		return nil
	}
	for _, p := range t.parts {
		if p.kind == termPart {
			terms = append(terms, placed{p.term, p.offset})
		}
	}
	return terms
}

// has reports whether the text shows that placeholder.
func (t *Template) has(p placeholder) bool {
	return t != nil && slices.ContainsFunc(t.parts, func(part templatePart) bool {
		return part.kind == numberPart && part.number == p
	})
}

// render fills in the placeholders. The result is printable ASCII on one line,
// whatever a client sent.
func (t *Template) render(ev *Event, v *Verdict) string {
	var b strings.Builder
	for _, p := range t.parts {
		switch p.kind {
		case literalPart:
			b.WriteString(p.text)
		case termPart:
			b.WriteString(harmless(p.term.text(ev)))
		case numberPart:
			b.WriteString(harmless(v.number(p.number)))
		}
	}
	return bounded(b.String())
}

// maxText bounds a reply's or header's text, in bytes: what a client sent can
// be far longer than any line of SMTP.
const maxText = 900

func bounded(s string) string {
	if len(s) <= maxText {
		return s
	}
	return s[:maxText-3] + "..."
}

// harmless makes s printable ASCII: every other byte becomes a question mark,
// or a space where it separated words.
func harmless(s string) string {
	if isPrintable(s) {
		return s
	}
	var b strings.Builder
	b.Grow(len(s))
	for _, r := range s {
		switch {
		case r == '\t' || r == '\r' || r == '\n':
			b.WriteByte(' ')
		case r < ' ' || r >= utf8.RuneSelf || r == 0x7f:
			b.WriteByte('?')
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

func isPrintable(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return true
}

package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Error is one mistake and where it is. The message begins with the thing it
// is about, such as `rule "connection-flood":`, and says what would be right.
type Error struct {
	File   string // the configuration, or the file of a list or a table
	Line   int    // from 1; 0 when the file itself could not be read
	Column int    // in characters, from 1
	Msg    string
}

func (e *Error) Error() string {
	if e.Line == 0 {
		return e.File + ": " + e.Msg
	}
	return fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Column, e.Msg)
}

// Errors are all mistakes of a configuration, one a line: those of the
// configuration itself by position, then those of the other files.
type Errors []*Error

func (es Errors) Error() string {
	lines := make([]string, len(es))
	for i, e := range es {
		lines[i] = e.Error()
	}
	return strings.Join(lines, "\n")
}

// sorted puts the errors of the configuration, which is main, first. Mistakes
// that are found twice, such as by two rules in one list, are told once.
func (es Errors) sorted(main string) Errors {
	slices.SortStableFunc(es, func(a, b *Error) int {
		if (a.File == main) != (b.File == main) {
			if a.File == main {
				return -1
			}
			return 1
		}
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return slices.CompactFunc(es, func(a, b *Error) bool { return *a == *b })
}

package main

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/audit-milter/audit-milter/internal/admin"
)

// A key is a client's text: it writes no line of its own, and moves no cursor.
func TestAKeyHarmsNoTerminal(t *testing.T) {
	const key = "a\x1b]0;title\x07\r\n999  b\tc\u009b31m\u202ed"
	const want = "a�]0;title���999  b�c�31m�d"
	for name, print := range map[string]func(io.Writer){
		"top": func(w io.Writer) { printTop(w, admin.Top{Top: []admin.Entry{{Key: key, Count: 1}}}) },
		"show limits": func(w io.Writer) {
			printLimits(w, admin.Limits{Limits: []admin.Near{{Reading: &admin.Reading{Key: key}}}})
		},
		"show penalties": func(w io.Writer) { printPenalties(w, admin.PenaltyList{Penalties: []admin.Penalty{{Key: key}}}) },
	} {
		var out bytes.Buffer
		print(&out)
		if text := out.String(); !strings.Contains(text, want) || strings.Count(text, "\n") != 2 {
			t.Errorf("%s shows %q, want %q in it", name, text, want)
		}
	}
}

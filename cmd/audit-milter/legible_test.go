package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/audit-milter/audit-milter/internal/admin"
)

// A key is a client's text: it writes no line of its own, and moves no cursor.
func TestAKeyHarmsNoTerminal(t *testing.T) {
	const key = "a\x1b]0;title\x07\r\n999  b\tc\u009b31m\u202ed"
	const want = "a�]0;title���999  b�c�31m�d"
	for name, row := range map[string]struct {
		lines int
		print func(io.Writer)
	}{
		"top": {2, func(w io.Writer) { printTop(w, admin.Top{Top: []admin.Entry{{Key: key, Count: 1}}}) }},
		"show limits": {2, func(w io.Writer) {
			printLimits(w, admin.Limits{Limits: []admin.Near{{Reading: &admin.Reading{Key: key}}}})
		}},
		"show penalties": {2, func(w io.Writer) { printPenalties(w, admin.PenaltyList{Penalties: []admin.Penalty{{Key: key}}}) }},
		"probe":          {1, func(w io.Writer) { (&player{out: w}).print("connect", "192.0.2.1", key) }},
		"an error": {1, func(w io.Writer) {
			fmt.Fprintln(w, message(checkCommand(), errors.New("it says "+strings.ReplaceAll(key, "\n", "\r"))))
		}},
		"count":          {1, func(w io.Writer) { printCount(w, admin.Count{Key: key}) }},
		"add":            {1, func(w io.Writer) { printAdded(w, admin.Added{Key: key}) }},
		"remove":         {1, func(w io.Writer) { printRemoved(w, admin.Removed{Key: key, Removed: 1}) }},
		"remove nothing": {1, func(w io.Writer) { printRemoved(w, admin.Removed{Key: key}) }},
		"remove a block": {1, func(w io.Writer) { printRemoved(w, admin.Removed{Key: key, Removed: 2}) }},
		"remove --penalty": {1, func(w io.Writer) {
			printRemoved(w, admin.Removed{Rule: "r", Key: key, Removed: 1})
		}},
		"remove --penalty without one": {1, func(w io.Writer) { printRemoved(w, admin.Removed{Rule: "r", Key: key}) }},
		"remove --penalty, and others run on": {2, func(w io.Writer) {
			printRemoved(w, admin.Removed{Rule: "r", Key: "k", Penalties: 1, Others: []string{key}})
		}},
		"explain, the key": {3, func(w io.Writer) { printExplained(w, admin.Explained{Key: key}) }},
		"explain, a series": {6, func(w io.Writer) {
			printExplained(w, admin.Explained{Series: []admin.Held{{Key: key}}})
		}},
		"explain, a rule": {6, func(w io.Writer) {
			c := admin.ConditionState{Reading: &admin.Reading{Key: key}}
			printExplained(w, admin.Explained{Rules: []admin.RuleState{{If: []admin.ConditionState{c}}}})
		}},
	} {
		var out bytes.Buffer
		row.print(&out)
		if text := out.String(); !strings.Contains(text, want) || strings.Count(text, "\n") != row.lines {
			t.Errorf("%s shows %q, want %q in it and %d lines", name, text, want, row.lines)
		}
	}
}

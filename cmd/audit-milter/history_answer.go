package main

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/audit-milter/audit-milter/internal/history"
	"github.com/audit-milter/audit-milter/policy"
)

// historyAnswer is an answer to print, and what was asked.
type historyAnswer struct {
	history.Answer
	asked *historyQuestion
}

// key is what a line counts: empty for the keys that have no rows of their own.
func (a historyAnswer) key(l history.Line) string {
	switch {
	case a.PerKey:
		return l.Of.String()
	case a.asked.Block.IsValid():
		return history.Group{Block: a.asked.Block}.String()
	}
	return "all"
}

// begin is the column of a line's day or window; nil where there is only one.
func (a historyAnswer) begin() (head string, of func(time.Time) string) {
	switch a.asked.By {
	case history.Days:
		return "day", func(t time.Time) string { return t.Format(time.DateOnly) }
	case history.Windows:
		return "window_start", func(t time.Time) string { return t.UTC().Format(time.RFC3339) }
	}
	return "", nil
}

// record is a line as texts, under the heads.
func (a historyAnswer) record(l history.Line) []string {
	var record []string
	if _, of := a.begin(); of != nil {
		record = append(record, of(l.Begin))
	}
	record = append(record, a.key(l))
	for _, n := range l.Counts {
		record = append(record, strconv.FormatInt(n, 10))
	}
	return record
}

func (a historyAnswer) heads() []string {
	var heads []string
	if head, of := a.begin(); of != nil {
		heads = append(heads, head)
	}
	return append(append(heads, "key"), a.Columns...)
}

func (a historyAnswer) csv(out io.Writer) error {
	w := csv.NewWriter(out)
	w.Write(a.heads()) // Flush tells of an error
	for _, l := range a.Lines {
		w.Write(a.record(l))
	}
	w.Flush()
	return w.Error()
}

// print prints a table for people, with the total below if it is of several lines.
func (a historyAnswer) print(out io.Writer) {
	if len(a.Lines) == 0 && a.asked.Threshold != nil && slices.ContainsFunc(a.Total, func(n int64) bool { return n != 0 }) {
		fmt.Fprintf(out, "No line reaches the threshold of %d.\n", *a.asked.Threshold)
		return
	}
	if len(a.Lines) == 0 {
		fmt.Fprintln(out, "Nothing was counted that was asked for.")
		return
	}
	table(out, func(w io.Writer) {
		heads := a.heads()
		for i, head := range heads[:len(heads)-len(a.Columns)] {
			heads[i] = strings.ToUpper(head)
		}
		row(w, heads)
		for _, l := range a.Lines {
			record := a.record(l)
			if at := len(record) - len(l.Counts) - 1; record[at] == "" {
				record[at] = "(smaller)"
			}
			row(w, record)
		}
		if len(a.Lines) > 1 {
			record := a.record(history.Line{Counts: a.Total})
			clear(record[:len(record)-len(a.Total)])
			record[0] = "TOTAL"
			row(w, record)
		}
	})
}

// row is a line of a table.
func row(w io.Writer, cells []string) {
	for i, c := range cells {
		cells[i] = policy.Printable(c)
	}
	fmt.Fprintln(w, strings.Join(cells, "\t"))
}

type historyAnswerJSON struct {
	Series   []string      `json:"series"` // the columns
	Distinct bool          `json:"distinct"`
	From     *time.Time    `json:"from"`
	To       *time.Time    `json:"to"`
	Lines    []historyLine `json:"lines"`
	Total    []int64       `json:"total"` // also of lines that are left out by the limit or the threshold
}

type historyLine struct {
	Begin  *time.Time `json:"begin,omitempty"`
	Key    string     `json:"key"`
	Counts []int64    `json:"counts"`
}

func (a historyAnswer) json(out io.Writer) error {
	j := historyAnswerJSON{a.Columns, a.Distinct, known(a.asked.From), known(a.asked.To), make([]historyLine, len(a.Lines)), a.Total}
	for i, l := range a.Lines {
		j.Lines[i] = historyLine{known(l.Begin), a.key(l), l.Counts}
	}
	return json.NewEncoder(out).Encode(j)
}

func known(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

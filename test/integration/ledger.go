package integration

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// sum is what a key must have been counted to in the end. The sums of one
// series are complete: a key that is not named must have nothing.
type sum struct {
	forMTA
	where  string
	series string
	key    string
	want   int64
}

// parseSum: SERIES KEY = N. A key may have blanks in it, and may be a Go string;
// "SERIES nothing" says that the series has no key at all.
func parseSum(l line) (sum, error) {
	series, rest, _ := strings.Cut(l.text, " ")
	s := sum{forMTA: l.forMTA, where: l.where, series: series}
	if rest == "nothing" {
		return s, nil
	}
	at := strings.LastIndex(rest, " = ")
	if at < 0 {
		return s, fmt.Errorf("%q; write SERIES KEY = N, or SERIES nothing", l.text)
	}
	var err error
	s.key = rest[:at]
	if key, err := strconv.Unquote(s.key); err == nil {
		s.key = key
	}
	s.want, err = strconv.ParseInt(rest[at+len(" = "):], 10, 64)
	return s, err
}

// logged is a decision that must have been logged. The lines of a dialogue are
// found in their order; others may stand between them.
type logged struct {
	forMTA
	where  string
	absent bool // there must be no such line at all
	fields []string
	want   []string
}

// parseLogged: [no] NAME=VALUE ..., a value in Go's quotes where it has
// blanks. Alone, "nothing" says that there is no decision.
func parseLogged(l line) (logged, error) {
	e := logged{forMTA: l.forMTA, where: l.where}
	rest := l.text
	if rest == "nothing" {
		e.absent = true
		return e, nil
	}
	rest, e.absent = strings.CutPrefix(rest, "no ")
	for rest != "" {
		name, value, ok := strings.Cut(rest, "=")
		if !ok {
			return e, fmt.Errorf("%q; write NAME=VALUE, with blanks between", rest)
		}
		value, rest = cutValue(value)
		e.fields, e.want = append(e.fields, name), append(e.want, value)
	}
	return e, nil
}

// cutValue takes a value off the front of s.
func cutValue(s string) (value, rest string) {
	if quoted, err := strconv.QuotedPrefix(s); err == nil {
		value, _ = strconv.Unquote(quoted)
		return value, strings.TrimSpace(s[len(quoted):])
	}
	value, rest, _ = strings.Cut(s, " ")
	return value, strings.TrimSpace(rest)
}

func (e *logged) matches(line entry) bool {
	if line.field("msg") != "verdict" {
		return false
	}
	for i, name := range e.fields {
		if line.field(name) != e.want[i] {
			return false
		}
	}
	return true
}

// counter is one key of one series.
type counter struct{ series, key string }

func (c counter) compare(with counter) int {
	return cmp.Or(cmp.Compare(c.series, with.series), cmp.Compare(c.key, with.key))
}

// sums adds up what the program says that it added, and of values, how many
// different ones there were.
func sums(lines []entry) (map[counter]int64, error) {
	all := make(map[counter]int64)
	known := make(map[shown]bool)
	for _, e := range lines {
		if e.field("msg") != "add" {
			continue
		}
		c := counter{e.field("series"), e.field("key")}
		if value, ok := e.fields["value"]; ok {
			if v := (shown{c, fmt.Sprint(value)}); !known[v] {
				known[v] = true
				all[c]++
			}
			continue
		}
		amount, err := strconv.ParseInt(e.field("amount"), 10, 64)
		if err != nil {
			return nil, err
		}
		all[c] += amount
	}
	return all, nil
}

// shown is a value of a key.
type shown struct {
	counter
	value string
}

// checkSums compares the program's sums with those of the dialogue.
func (d *dialogue) checkSums(m *mta, lines []entry) error {
	got, err := sums(lines)
	if err != nil {
		return err
	}
	var wrong []error
	series := make(map[string]bool) // those that the dialogue speaks of
	for _, s := range d.sums {
		series[s.series] = true
		if s.key == "" || !s.concerns(m) {
			continue
		}
		c := counter{s.series, s.key}
		if got[c] != s.want {
			wrong = append(wrong, fmt.Errorf("%s: %s %s is %d, not %d", s.where, s.series, s.key, got[c], s.want))
		}
		delete(got, c)
	}
	for _, c := range slices.SortedFunc(maps.Keys(got), counter.compare) {
		if n := got[c]; series[c.series] && n != 0 {
			wrong = append(wrong, fmt.Errorf("%s: %s %s is %d and should not be", d.name, c.series, c.key, n))
		}
	}
	return errors.Join(wrong...)
}

// checkLogs compares the program's decisions with those of the dialogue.
func (d *dialogue) checkLogs(m *mta, lines []entry) error {
	var wrong []error
	rest := lines
	for _, e := range d.logs {
		if !e.concerns(m) {
			continue
		}
		if e.absent {
			if slices.ContainsFunc(lines, e.matches) {
				wrong = append(wrong, fmt.Errorf("%s: there is such a line", e.where))
			}
			continue
		}
		at := slices.IndexFunc(rest, e.matches)
		if at < 0 {
			wrong = append(wrong, fmt.Errorf("%s: there is no such line (any more)", e.where))
			continue
		}
		rest = rest[at+1:]
	}
	return errors.Join(wrong...)
}

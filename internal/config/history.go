package config

import (
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/audit-milter/audit-milter/policy"
)

// History is where series with `serialize` are written to.
type History struct {
	Dir       string // need not be there yet
	Retention time.Duration
	MaxSize   int64 // in bytes
	MinCount  int64 // 1 or more

	include, exclude []pattern
}

// What holds where a history does not say otherwise.
const (
	defaultRetention = 30 * 24 * time.Hour
	defaultMaxSize   = 10 * gibibyte
)

// decodeHistory decodes where closed windows are written.
//
//	key        default   what, and what follows
//	dir        required  a directory, which is made if it is missing; it can be inside state_dir, and is not state_dir
//	retention  30d       how long a window is kept, 1h to 36500d
//	max_size   10GiB     how much the files take at the most, 1MiB to 1048576GiB; the oldest go first
//	min_count  1         keys of a window that count less than this are kept as one row without a key, 1 to 1000000000
//	include    ".*"      a regular expression or a list: series whose whole name one of them matches are written
//	exclude    none      a regular expression or a list: and of those, none whose whole name one of these matches
func (d *decoder) decodeHistory(n node) {
	h := &History{Retention: defaultRetention, MaxSize: defaultMaxSize, MinCount: 1}
	d.config.History = h
	n.mapping("a mapping such as {dir: ./state/history}",
		required("dir", "dir: ./state/history", func(n node) {
			h.Dir = d.directory(n)
			if state := d.config.StateDir; h.Dir != "" && state != "" && d.sameDirectory(h.Dir, state) {
				n.errorf("dir is the same directory as state_dir; give the history one of its own, which may be inside it, such as ./state/history")
			}
		}),
		optional("retention", set(&h.Retention, duration(time.Hour, 36_500*24*time.Hour))),
		optional("max_size", func(n node) { h.MaxSize = sizeInBytes.decode(n, mebibyte, mebibyte*gibibyte) }),
		optional("min_count", func(n node) { h.MinCount = n.integer(1, 1_000_000_000) }),
		optional("include", func(n node) { h.include = patterns(n.items()) }),
		optional("exclude", func(n node) {
			if n.Kind != yaml.SequenceNode || len(n.Content) > 0 { // an empty list excludes none
				h.exclude = patterns(n.items())
			}
		}),
	)
}

// Takes reports whether a series of that name is written, if it has `serialize`.
func (h *History) Takes(name string) bool {
	matches := func(p pattern) bool { return p.whole.MatchString(name) }
	return (h.include == nil || slices.ContainsFunc(h.include, matches)) && !slices.ContainsFunc(h.exclude, matches)
}

// String tells all of it, as `check` shows it.
func (h *History) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: retention %s, max_size %s, min_count %d", h.Dir, policy.DurationText(h.Retention), sizeInBytes.spell(h.MaxSize), h.MinCount)
	for _, p := range h.include {
		fmt.Fprintf(&b, ", include %q", p.text)
	}
	for _, p := range h.exclude {
		fmt.Fprintf(&b, ", exclude %q", p.text)
	}
	return b.String()
}

// pattern is a regular expression that has to match a whole name.
type pattern struct {
	text  string
	whole *regexp.Regexp
}

func patterns(items []node) (all []pattern) {
	for _, item := range items {
		if p, ok := namePattern(item); ok {
			all = append(all, p)
		}
	}
	return all
}

func namePattern(n node) (p pattern, ok bool) {
	p.text = n.text(`a regular expression, such as "connections.*"`)
	if p.text == "" {
		return p, false
	}
	_, err := regexp.Compile(p.text) // by itself: in brackets an expression can be right that is not without them
	if err == nil {
		p.whole, err = regexp.Compile(`\A(?:` + p.text + `)\z`)
	}
	if err != nil {
		n.errorf(`%s needs a regular expression for whole names, such as "connections.*", and this is none: %s`, n.name, whyNoRegexp(err))
	}
	return p, err == nil
}

// whyNoRegexp is in one line, whatever the expression is.
func whyNoRegexp(err error) string {
	if e, ok := errors.AsType[*syntax.Error](err); ok {
		return fmt.Sprintf("%s: %q", e.Code, e.Expr)
	}
	return err.Error()
}

// Package docs keeps the documentation true: its configurations are right, its
// table of attributes is the program's, its tables of times are what the engine
// does, and its links lead somewhere.
package docs

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/audit-milter/audit-milter/internal/config"
	"github.com/audit-milter/audit-milter/policy"
)

// Files that a configuration names stand in testdata.
func parse(t *testing.T, page string, b block) *config.Config {
	t.Helper()
	conf, err := config.Parse(filepath.Join("testdata", page), []byte(b.code))
	if err != nil {
		t.Errorf("the example at %s:%d:\n%v", page, b.line, err)
	}
	return conf
}

func TestExamplesAreConfigurations(t *testing.T) {
	n := 0
	for _, page := range pages(t) {
		for _, b := range readPage(t, page) {
			if b.lang == "yaml" {
				parse(t, page, b)
				n++
			}
		}
	}
	if n == 0 {
		t.Error("no page has an example")
	}
}

// table is the page's table whose head begins with that cell.
func table(t *testing.T, page, head string) [][]string {
	t.Helper()
	for _, b := range readPage(t, page) {
		if b.rows != nil && b.rows[0][0] == head {
			return b.rows[1:]
		}
	}
	t.Fatalf("%s has no table that begins with %q", page, head)
	return nil
}

func TestAttributesAreThoseOfTheProgram(t *testing.T) {
	places := make(map[string]policy.StageSet)
	for _, row := range table(t, "attributes.md", "known") {
		places[row[0]] = stages(t, row[1])
	}
	var names []string
	for _, row := range table(t, "attributes.md", "attribute") {
		name, _, _ := strings.Cut(strings.Trim(row[0], "`"), "[")
		a, ok := policy.ParseAttribute(name)
		if !ok {
			t.Errorf("there is no attribute %s", name)
			continue
		}
		names = append(names, name)
		known, ok := places[row[1]]
		if !ok || known != a.KnownAt() {
			t.Errorf("%s is known at %s (%s); the program says at %s", name, row[1], known, a.KnownAt())
		}
		if isNumber := strings.HasPrefix(row[5], "a number"); isNumber != (a.Kind() == policy.Number) {
			t.Errorf("%s is a number: %v; the program says otherwise", name, isNumber)
		}
	}
	if want := policy.AttributeNames(); !slices.Equal(names, want) {
		t.Errorf("attributes.md lists\n%v\nand the program has\n%v", names, want)
	}
}

func stages(t *testing.T, list string) (set policy.StageSet) {
	t.Helper()
	for _, name := range strings.Split(list, ", ") {
		s, ok := policy.ParseStage(name)
		if !ok {
			t.Errorf("there is no stage %q", name)
		}
		set = set.With(s)
	}
	return set
}

func TestStagesAreThoseOfTheProgram(t *testing.T) {
	var names []string
	for _, head := range []string{"stage", "outcome"} {
		for _, row := range table(t, "rules.md", head) {
			names = append(names, strings.Trim(row[0], "`"))
		}
	}
	if want := policy.StageNames(); !slices.Equal(names, want) {
		t.Errorf("rules.md lists\n%v\nand the program has\n%v", names, want)
	}
}

var link = regexp.MustCompile(`\]\(([^):]*)\)`)

func TestLinksLeadSomewhere(t *testing.T) {
	var files []string
	for _, pattern := range []string{"*.md", "../*.md", "../packaging/*.md"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, found...)
	}
	for _, file := range files {
		for i, line := range lines(t, file) {
			for _, l := range link.FindAllStringSubmatch(line, -1) {
				if err := follow(t, file, l[1]); err != nil {
					t.Errorf("%s:%d: %v", file, i+1, err)
				}
			}
		}
	}
}

// follow looks whether there are the file and the heading of a link.
func follow(t *testing.T, from, link string) error {
	t.Helper()
	path, anchor, _ := strings.Cut(link, "#")
	to := from
	if path != "" {
		to = filepath.Join(filepath.Dir(from), path)
	}
	if _, err := os.Stat(to); err != nil {
		return err
	}
	if anchor != "" && !slices.Contains(anchors(t, to), anchor) {
		return fmt.Errorf("%s has no heading #%s", to, anchor)
	}
	return nil
}

var notInAnchor = regexp.MustCompile(`[^a-z0-9 _-]`)

// anchors are the headings of a page as a link spells them.
func anchors(t *testing.T, page string) (anchors []string) {
	for _, line := range lines(t, page) {
		if heading := strings.TrimLeft(line, "#"); heading != line && strings.HasPrefix(heading, " ") {
			text := notInAnchor.ReplaceAllString(strings.ToLower(heading[1:]), "")
			anchors = append(anchors, strings.ReplaceAll(text, " ", "-"))
		}
	}
	return anchors
}

package integration

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/tools/txtar"
	"gopkg.in/yaml.v3"
)

// dialogue is one file of testdata/dialogues. README.md has the grammar.
type dialogue struct {
	name  string
	text  string // all of it
	only  string // the one mail server that it concerns, "" for both
	files map[string]string
	steps []step
	sums  []sum
	logs  []logged
}

// A line that begins with a server's name concerns that server only.
type forMTA string

func (f forMTA) concerns(m *mta) bool { return f == "" || string(f) == m.name }

// step is one statement.
type step struct {
	forMTA
	where string // file:line
	text  string
	do    func(*play) error
}

// line is one line of a section that has something to say.
type line struct {
	forMTA
	where, text string
}

// The sections of a file that are not for the program.
const (
	script  = "dialogue"
	counted = "counted"
	logs    = "logged"
)

func readDialogue(path string) (*dialogue, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	d := &dialogue{
		name:  strings.TrimSuffix(filepath.Base(path), ".txt"),
		text:  string(data),
		files: make(map[string]string),
	}
	archive := txtar.Parse(data)
	if len(strings.TrimSpace(string(archive.Comment))) == 0 {
		return nil, fmt.Errorf("%s: says nowhere what it shows", path)
	}
	for _, f := range archive.Files {
		if err := d.section(path, data, f); err != nil {
			return nil, err
		}
	}
	if d.steps == nil || d.sums == nil && d.logs == nil {
		return nil, fmt.Errorf("%s: needs a dialogue, and something that is counted or logged", path)
	}
	if err := d.countsAll(); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return d, nil
}

// countsAll refuses a policy with a series of which the dialogue says nothing:
// whatever that counts would be right.
func (d *dialogue) countsAll() error {
	var policy struct{ Series map[string]any }
	if err := yaml.Unmarshal([]byte(d.files["policy.yaml"]), &policy); err != nil {
		return err
	}
	for _, s := range d.sums {
		delete(policy.Series, s.series)
	}
	if silent := slices.Sorted(maps.Keys(policy.Series)); len(silent) > 0 {
		return fmt.Errorf("no line under counted names the series %v; write SERIES KEY = N, or SERIES nothing", silent)
	}
	return nil
}

func (d *dialogue) section(path string, data []byte, f txtar.File) error {
	lines := func() []line { return readLines(path, lineOf(data, f.Name), string(f.Data)) }
	var err error
	switch f.Name {
	case script:
		err = d.parseSteps(lines())
	case counted:
		d.sums, err = parseEach(lines(), parseSum)
	case logs:
		d.logs, err = parseEach(lines(), parseLogged)
	default:
		d.files[f.Name] = string(f.Data)
	}
	return err
}

// lineOf is the number of the line that begins the section.
func lineOf(data []byte, section string) int {
	before, _, _ := strings.Cut(string(data), "\n-- "+section+" --")
	return strings.Count(before, "\n") + 2
}

// perMTA is the beginning of a line that concerns one server only.
var perMTA = regexp.MustCompile(`^(postfix|sendmail): `)

// readLines leaves out empty lines and comments.
func readLines(path string, first int, text string) []line {
	var lines []line
	for i, s := range strings.Split(text, "\n") {
		l := line{where: fmt.Sprintf("%s:%d", path, first+1+i), text: strings.TrimSpace(s)}
		if name := perMTA.FindStringSubmatch(l.text); name != nil {
			l.forMTA, l.text = forMTA(name[1]), strings.TrimSpace(l.text[len(name[0]):])
		}
		if l.text != "" && !strings.HasPrefix(l.text, "#") {
			lines = append(lines, l)
		}
	}
	return lines
}

// parseEach parses lines that stand for themselves.
func parseEach[T any](lines []line, parse func(line) (T, error)) ([]T, error) {
	var all []T
	for _, l := range lines {
		one, err := parse(l)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", l.where, err)
		}
		all = append(all, one)
	}
	return all, nil
}

// parseSteps understands the dialogue itself. Lines that a client sends one
// after the other go out together.
func (d *dialogue) parseSteps(lines []line) error {
	lines, err := unroll(lines)
	if err != nil {
		return err
	}
	for len(lines) > 0 {
		n := 1
		for strings.HasPrefix(lines[0].text, ">") && n < len(lines) &&
			strings.HasPrefix(lines[n].text, ">") && lines[n].forMTA == lines[0].forMTA {
			n++
		}
		if err := d.parseStep(lines[:n]); err != nil {
			return fmt.Errorf("%s: %w", lines[0].where, err)
		}
		lines = lines[n:]
	}
	return nil
}

func (d *dialogue) parseStep(lines []line) error {
	first := lines[0]
	verb, arg, _ := strings.Cut(first.text, " ")
	s := step{forMTA: first.forMTA, where: first.where, text: first.text}
	var err error
	switch verb {
	case "only":
		name, _, reasoned := strings.Cut(arg, ": ")
		if !reasoned || name != "postfix" && name != "sendmail" {
			return fmt.Errorf("%q; write only postfix: the reason", first.text)
		}
		d.only = name
		return nil
	case "policy":
		return d.example(arg)
	case ">":
		s.do, err = sends(lines)
	default:
		parse, ok := statements[verb]
		if !ok {
			return fmt.Errorf("no statement %q", verb)
		}
		s.do, err = parse(strings.TrimSpace(arg))
	}
	d.steps = append(d.steps, s)
	return err
}

// example takes the policy from a file of the project.
func (d *dialogue) example(path string) error {
	text, err := os.ReadFile(filepath.Join("../..", path))
	d.files["policy.yaml"] = string(text)
	return err
}

// unroll writes out what stands between "repeat N" and its "end", N times;
// {n} is the number of the turn, of the innermost repeat.
func unroll(lines []line) ([]line, error) {
	var out []line
	for i := 0; i < len(lines); i++ {
		times, ok := strings.CutPrefix(lines[i].text, "repeat ")
		if !ok {
			out = append(out, lines[i])
			continue
		}
		n, err := strconv.Atoi(times)
		end := endOf(lines, i)
		if err != nil || end == 0 {
			return nil, fmt.Errorf("%s: repeat needs a number and an end", lines[i].where)
		}
		inner, err := unroll(lines[i+1 : end])
		if err != nil {
			return nil, err
		}
		for turn := 1; turn <= n; turn++ {
			for _, l := range inner {
				l.text = strings.ReplaceAll(l.text, "{n}", strconv.Itoa(turn))
				out = append(out, l)
			}
		}
		i = end
	}
	return out, nil
}

// endOf is the number of the end that belongs to the repeat at i, 0 if none
// does.
func endOf(lines []line, i int) int {
	for depth := 0; i < len(lines); i++ {
		switch {
		case strings.HasPrefix(lines[i].text, "repeat "):
			depth++
		case lines[i].text == "end":
			depth--
		}
		if depth == 0 {
			return i
		}
	}
	return 0
}

// unquote is a line as it goes over the wire: as written, or as a Go string
// where bytes must be told that cannot be written.
func unquote(s string) (string, error) {
	if !strings.HasPrefix(s, `"`) {
		return s, nil
	}
	return strconv.Unquote(s)
}

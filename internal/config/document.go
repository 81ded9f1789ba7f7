package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"sort"
	"strings"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

// document is a YAML file on its way into a [Config]: its text, and the
// mistakes found so far.
type document struct {
	file  string
	lines []string // without line ends, to find a column inside a text
	errs  Errors
	bad   map[*yaml.Node]bool // where a mistake was noted
	lost  map[slot]bool       // what is not there, but may be meant
}

// slot is a key that a mapping may have. It is lost when it was missed, and
// when it may stand there misspelt or under a key that is refused.
type slot struct {
	mapping *yaml.Node
	key     string
}

func newDocument(file string, data []byte) *document {
	return &document{
		file:  file,
		lines: strings.Split(string(data), "\n"),
		bad:   make(map[*yaml.Node]bool),
		lost:  make(map[slot]bool),
	}
}

func (d *document) add(line, column int, msg string) {
	msg = strings.NewReplacer("\n", `\n`, "\r", `\r`).Replace(msg) // an error is one line
	// YAML places a value that is missing at the end behind it.
	if last := len(d.lines); line > last {
		line, column = last, 1+utf8.RuneCountInString(d.lines[last-1])
	}
	d.errs = append(d.errs, &Error{d.file, line, column, msg})
}

// root is the top of the file's only document; nil when there is none to
// decode, which is the error empty, if that is one.
func (d *document) root(data []byte, empty string) *yaml.Node {
	if end, msg := notLines(data); msg != "" {
		line, column := endOf(data[:end])
		d.add(line, column, msg)
		return nil
	}
	docs, err := parseYAML(data)
	switch {
	case err != nil:
		seen := syntaxSeen(data, err)
		line, column := endOf(seen)
		d.add(line, column, syntaxMessage(seen, err))
		return nil
	case len(docs) == 0 || docs[0].Content[0].Tag == "!!null":
		if empty != "" {
			d.add(1, 1, empty)
		}
		return nil
	case len(docs) > 1:
		d.add(docs[1].Line, docs[1].Column, "a second YAML document begins here; a file is one document, without ---")
	}
	root := docs[0].Content[0]
	d.refuseIndirection(root)
	return root
}

// oddLineEnds end a line in YAML, but not in every editor.
var oddLineEnds = map[rune]string{'\r': `\r`, '\u0085': `\u0085`, '\u2028': `\u2028`, '\u2029': `\u2029`}

// notLines says where and why a file is not made of lines that everyone counts
// in the same way: no error could tell its place.
func notLines(data []byte) (end int, msg string) {
	if isUTF16(data) {
		return 1, notUTF8
	}
	for i, r := range string(data) {
		if escape := oddLineEnds[r]; escape != "" && !bytes.HasPrefix(data[i:], []byte("\r\n")) {
			return i + utf8.RuneLen(r), fmt.Sprintf(`a character %s ends a line in YAML but not in every editor; end lines with LF or CR LF, or write "%s" in double quotes`, escape, escape)
		}
	}
	return 0, ""
}

const notUTF8 = "the file is UTF-16; save it as UTF-8"

func isUTF16(data []byte) bool {
	return bytes.HasPrefix(data, []byte("\xff\xfe")) || bytes.HasPrefix(data, []byte("\xfe\xff"))
}

// parseYAML reads every document of a file.
func parseYAML(data []byte) (docs []*yaml.Node, err error) {
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	for {
		doc := new(yaml.Node)
		err := decoder.Decode(doc)
		if errors.Is(err, io.EOF) {
			return docs, nil
		}
		if err != nil {
			return nil, err
		}
		docs = append(docs, doc)
	}
}

// syntaxSeen is the beginning of the file up to where the YAML parser failed.
// Its own errors name a line at most, often that of the block around; but the
// shortest beginning that fails in the same way ends where the mistake shows:
// first in whole lines, then in characters of the last one.
func syntaxSeen(data []byte, err error) []byte {
	fails := func(end int) bool {
		_, e := parseYAML(data[:end])
		return e != nil && e.Error() == err.Error()
	}
	begin, end := narrow(0, bytes.SplitAfter(data, []byte("\n")), fails)
	_, end = narrow(begin, bytes.Split(data[begin:end], nil), fails)
	return data[:end]
}

// narrow finds the part with which a text first fails; the parts follow one
// another from begin on.
func narrow(begin int, parts [][]byte, fails func(end int) bool) (from, to int) {
	ends := make([]int, len(parts))
	for i, end := 0, begin; i < len(parts); i++ {
		end += len(parts[i])
		ends[i] = end
	}
	i := sort.Search(len(ends)-1, func(i int) bool { return fails(ends[i]) })
	return ends[i] - len(parts[i]), ends[i]
}

// endOf is the place of the text's last character.
func endOf(text []byte) (line, column int) {
	_, size := utf8.DecodeLastRune(text)
	before := text[:len(text)-size]
	line = 1 + bytes.Count(before, []byte("\n"))
	column = 1 + utf8.RuneCount(before[bytes.LastIndexByte(before, '\n')+1:])
	return line, column
}

// syntaxHints say what would be right, by what the YAML parser says is wrong.
var syntaxHints = []struct{ part, hint string }{
	{"mapping values are not allowed", `check the indentation, or put a text that has a colon in it in quotes`},
	{"cannot start any token", `put a text that begins with a special character in quotes`},
	{"expected ',' or ']'", `a list that begins with [ ends with ]`},
	{"expected ',' or '}'", `a mapping that begins with { ends with }, and a text in it that has brackets, braces or a comma stands in single quotes`},
	{"unexpected end of stream", `a quote is not closed`},
	{"could not find expected ':'", `write key: value`},
	{"expected node content", `put a text that begins with a special character in quotes`},
	{"expected key", `check the indentation, and put a text that begins with a quote or a bracket in quotes as a whole`},
	{"expected '-' indicator", `check the indentation: the keys of a list's item stand one below the other`},
	{"unknown escape character", `use single quotes where a backslash is a backslash`},
	{"expected alphabetic or numeric character", `put a text that begins with a special character in quotes`},
	{"UTF-8", `save the file as UTF-8`},
	{"unknown anchor", `aliases are not understood anyway; write the value out`},
}

func syntaxMessage(seen []byte, err error) string {
	if bytes.HasSuffix(seen, []byte("\t")) {
		return "not valid YAML: a tab where a value or a key should begin; indent with spaces"
	}
	msg := strings.TrimPrefix(err.Error(), "yaml: ")
	if rest, ok := strings.CutPrefix(msg, "line "); ok {
		_, msg, _ = strings.Cut(rest, ": ")
	}
	lines := bytes.Split(seen, []byte("\n"))
	if near := slices.Concat(lines[max(0, len(lines)-2):]...); bytes.Contains(near, []byte("\u00a0")) {
		return "not valid YAML: " + msg + "; here or in the line before is a no-break space (U+00A0), a letter like any other; write a space"
	}
	for _, h := range syntaxHints {
		if strings.Contains(msg, h.part) {
			return fmt.Sprintf("not valid YAML: %s; %s", msg, h.hint)
		}
	}
	return "not valid YAML: " + msg
}

// refuseIndirection refuses what would let a node mean something else than
// what stands there: aliases, merge keys and tags.
func (d *document) refuseIndirection(n *yaml.Node) {
	at := node{Node: n, doc: d}
	switch {
	case n.Kind == yaml.AliasNode:
		at.errorf("aliases (*%s) are not understood; write the value out", n.Value)
	case n.Style&yaml.TaggedStyle != 0:
		at.errorf("tags (%s) are not understood; write the value without it", n.Tag)
	}
	for i, c := range n.Content {
		switch {
		case n.Kind == yaml.MappingNode && i%2 == 0 && c.Tag == "!!merge":
			node{Node: c, doc: d}.errorf("merge keys (<<) are not understood; write the keys out")
		case n.Kind == yaml.MappingNode && i%2 == 1 && n.Content[i-1].Tag == "!!merge":
		default:
			d.refuseIndirection(c)
		}
	}
}

// position is where the byte at offset of a scalar's text stands in the file,
// when the scalar is on one line; else where the scalar begins.
func (d *document) position(n *yaml.Node, offset int) (line, column int) {
	if offset <= 0 || offset > len(n.Value) || n.Line > len(d.lines) {
		return n.Line, n.Column
	}
	source := []rune(d.lines[n.Line-1])
	at := n.Column - 1
	if n.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle) != 0 {
		at++
	}
	for _, r := range n.Value[:offset] {
		width := sourceWidth(source, at, r, n.Style)
		if width == 0 {
			return n.Line, n.Column
		}
		at += width
	}
	return n.Line, at + 1
}

// sourceWidth is how many characters of the source line at the given place
// stand for r; 0 when r is not what stands there.
func sourceWidth(source []rune, at int, r rune, style yaml.Style) int {
	switch {
	case at >= len(source):
		return 0
	case style&yaml.DoubleQuotedStyle != 0 && source[at] == '\\':
		return escapeWidth(source, at+1)
	case source[at] != r:
		return 0
	case style&yaml.SingleQuotedStyle != 0 && r == '\'':
		return 2
	}
	return 1
}

// escapeWidth is the length of a double-quoted escape, its backslash included.
func escapeWidth(source []rune, at int) int {
	if at >= len(source) {
		return 0 // an escaped line end: the scalar has several lines
	}
	switch source[at] {
	case 'x':
		return 4
	case 'u':
		return 6
	case 'U':
		return 10
	}
	return 2
}

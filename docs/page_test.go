package docs

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// block is a part of a page. What is neither code nor a table is prose, whose
// text does not matter here.
type block struct {
	line int
	lang string     // of code: what stands behind the fence
	code string     // of code
	rows [][]string // of a table, its head first, without the line below that
}

// pages are the names of all pages of this directory.
func pages(t *testing.T) []string {
	t.Helper()
	names, err := filepath.Glob("*.md")
	if err != nil || len(names) == 0 {
		t.Fatalf("there are no pages: %v", err)
	}
	return names
}

// lines are those of a file.
func lines(t *testing.T, name string) []string {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(string(data), "\n")
}

// readPage cuts a page into its blocks.
func readPage(t *testing.T, name string) (blocks []block) {
	t.Helper()
	const fence = "```"
	inCode, inTable := false, false
	for i, line := range lines(t, name) {
		last := len(blocks) - 1
		isRow := strings.HasPrefix(line, "|") && !inCode
		switch {
		case inCode && line == fence:
			inCode = false
		case inCode:
			blocks[last].code += line + "\n"
		case strings.HasPrefix(line, fence):
			inCode = true
			blocks = append(blocks, block{line: i + 1, lang: line[len(fence):]})
		case isRow && !inTable:
			blocks = append(blocks, block{line: i + 1, rows: [][]string{cells(line)}})
		case isRow && !strings.HasPrefix(line, "|---"):
			blocks[last].rows = append(blocks[last].rows, cells(line))
		case !isRow && line != "":
			blocks = append(blocks, block{line: i + 1})
		}
		inTable = isRow
	}
	return blocks
}

// cells are those of a table's row.
func cells(row string) []string {
	cells := strings.Split(strings.Trim(row, "|"), "|")
	for i := range cells {
		cells[i] = strings.TrimSpace(cells[i])
	}
	return cells
}

package admin_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/audit-milter/audit-milter/internal/admin"
)

// readAll are the rows of an export.
func readAll(t *testing.T, text string) (rows []admin.Row) {
	t.Helper()
	for r, err := range admin.ReadExport(strings.NewReader(text)) {
		if err != nil {
			t.Fatal(err)
		}
		rows = append(rows, r.Row)
	}
	return rows
}

// loadOf is the body of a load.
func loadOf(series string, rows []admin.Row) string {
	body, err := json.Marshal(admin.Load{Series: series, Rows: rows})
	if err != nil {
		panic(err)
	}
	return string(body)
}

// sorted are a text's lines in order.
func sorted(text string) string {
	lines := strings.Split(text, "\n")
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

package history

import (
	"errors"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/audit-milter/audit-milter/internal/short"
	"github.com/audit-milter/audit-milter/series"
)

var someDay = time.Date(2026, 11, 29, 0, 0, 0, 0, time.UTC)

// each yields rows as write takes them.
func each(rows []Row) iter.Seq2[Row, error] {
	return func(yield func(Row, error) bool) {
		for _, r := range rows {
			if !yield(r, nil) {
				return
			}
		}
	}
}

// readAll is the rows of a file.
func readAll(t testing.TB, dir string, name Name) (Meta, []Row) {
	t.Helper()
	f, err := open(dir, name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var rows []Row
	for r, err := range f.rows() {
		if err != nil {
			t.Fatal(err)
		}
		rows = append(rows, r)
	}
	return f.Meta, rows
}

// What a disk has changed in a file is an error, whichever byte it is, or changes no row; it
// ends no daemon.
func TestADamagedFileIsAnError(t *testing.T) {
	dir := t.TempDir()
	meta := Meta{Series: "users", Type: series.String, Interval: time.Minute, Node: "mx1"}
	name := Name{First: someDay, Last: someDay, Through: 7, Node: "mx1"}
	rows := []Row{{"a", 0, 1}, {"b", 60, 2}}
	if err := write(dir, name, meta, each(rows)); err != nil {
		t.Fatal(err)
	}
	dir = seriesDir(dir, "users")
	whole, err := os.ReadFile(filepath.Join(dir, name.String()))
	if err != nil {
		t.Fatal(err)
	}
	read := func() (rows []Row, err error) {
		f, err := open(dir, name)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		for r, err := range f.rows() {
			if err != nil {
				return nil, err
			}
			rows = append(rows, r)
		}
		return rows, nil
	}
	failed := 0
	changes := []byte{
		1, // lengths become negative, among others
		2, // another compression
		4, // no rows
	}
	step, tried := short.Part(1, 10), 0
	for i := 0; i < len(whole); i += step {
		for _, change := range changes {
			tried++
			damaged := slices.Clone(whole)
			damaged[i] ^= change
			if err := os.WriteFile(filepath.Join(dir, name.String()), damaged, 0o600); err != nil {
				t.Fatal(err)
			}
			got, err := read()
			if err != nil {
				failed++
			} else if !slices.Equal(got, rows) {
				t.Errorf("with byte %d changed by %d it has %v", i, change, got)
			}
		}
	}
	if failed < tried/4 {
		t.Errorf("%d of %d damaged files are read with an error", failed, tried)
	}
}

func TestAFileGivesBackWhatWasWritten(t *testing.T) {
	dir := t.TempDir()
	meta := Meta{
		Series: "connections/300", Type: series.IP, Interval: 5 * time.Minute, Distinct: true,
		Node: "mx1", Replaces: []string{"a", "b"},
	}
	name := Name{First: someDay, Last: someDay.Add(time.Hour), Through: 7, Level: 1, Node: "mx1"}
	for what, rows := range map[string][]Row{
		"no rows":   nil,
		"some rows": {{"", 300, -5}, {"", 300, 5}, {"192.0.2.1", 0, 1 << 62}, {"192.0.2.1", 300, -1 << 62}, {"2001:db8::1", 0, 1}},
		"row groups": func() (rows []Row) {
			for i := range int64(short.Part(2, 1)*rowsPerGroup + 10) {
				rows = append(rows, Row{string(rune('a' + i/100_000)), i * 300, i})
			}
			return rows
		}(),
	} {
		t.Run(what, func(t *testing.T) {
			name.Part++
			if err := write(dir, name, meta, each(rows)); err != nil {
				t.Fatal(err)
			}
			gotMeta, gotRows := readAll(t, seriesDir(dir, meta.Series), name)
			if gotMeta.Series != meta.Series || gotMeta.Type != meta.Type || gotMeta.Interval != meta.Interval ||
				gotMeta.Distinct != meta.Distinct || gotMeta.Node != meta.Node || !slices.Equal(gotMeta.Replaces, meta.Replaces) {
				t.Errorf("the file is of %+v, not %+v", gotMeta, meta)
			}
			if !slices.Equal(gotRows, rows) {
				t.Errorf("%d rows came back, not the %d that were written", len(gotRows), len(rows))
			}
		})
	}
}

func TestAFileAppearsWholeOrNotAtAll(t *testing.T) {
	dir := t.TempDir()
	name := Name{First: someDay, Last: someDay, Node: "mx1"}
	meta := Meta{Series: "connections", Interval: time.Minute}
	broken := errors.New("broken")
	for what, rows := range map[string]iter.Seq2[Row, error]{
		"an error among the rows":  func(yield func(Row, error) bool) { _ = yield(Row{Key: "a"}, nil) && yield(Row{}, broken) },
		"rows that are not sorted": each([]Row{{"b", 0, 1}, {"a", 0, 1}}),
	} {
		if err := write(dir, name, meta, rows); err == nil {
			t.Errorf("%s: no error", what)
		}
		entries, err := os.ReadDir(seriesDir(dir, "connections"))
		if err != nil || len(entries) != 0 {
			t.Errorf("%s: %v is left, %v", what, entries, err)
		}
	}
}

func TestNoFileIsOverwritten(t *testing.T) {
	dir := t.TempDir()
	name := Name{First: someDay, Last: someDay, Node: "mx1"}
	meta := Meta{Series: "connections", Interval: time.Minute}
	if err := write(dir, name, meta, each([]Row{{"a", 0, 1}})); err != nil {
		t.Fatal(err)
	}
	if err := write(dir, name, meta, each([]Row{{"a", 0, 2}})); !errors.Is(err, fs.ErrExist) {
		t.Errorf("the second one of the name: %v", err)
	}
	if _, rows := readAll(t, seriesDir(dir, "connections"), name); !slices.Equal(rows, []Row{{"a", 0, 1}}) {
		t.Errorf("the file now has %v", rows)
	}
}

func TestAFileThatIsNoneOfAHistoryIsRefusedByItsPath(t *testing.T) {
	dir := t.TempDir()
	name := Name{First: someDay, Last: someDay, Node: "mx1"}
	meta := Meta{Series: "connections", Interval: time.Minute}
	if err := write(dir, name, meta, each([]Row{{"a", 0, 1}})); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(seriesDir(dir, "connections"), name.String())
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for what, data := range map[string][]byte{"empty": {}, "a text": []byte("PAR1, or so they say"), "cut": whole[:len(whole)-20]} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := open(filepath.Dir(path), name)
		if err == nil {
			f.Close()
		}
		if err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

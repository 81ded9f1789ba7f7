package history

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress/zstd"
	"github.com/parquet-go/parquet-go/format"

	"github.com/audit-milter/audit-milter/series"
)

// Meta is what holds for all rows of a file. It stands in the file's metadata too.
type Meta struct {
	Series   string
	Type     series.Type
	Interval time.Duration // whole seconds
	Distinct bool          // counts are estimates of how many different values there were
	Node     string

	// Replaces names the files whose rows are in this one, and those that these
	// replaced and that may still be there. Readers ignore them.
	Replaces []string
}

// Row is what a key counted in a window, or a part of it: rows of the same key and
// window add up. The empty key stands for all that have no row of their own.
type Row struct {
	Key   string
	Start int64 // when the window begins, in seconds since 1970
	Count int64
}

// Compare is the order of rows in a file: all windows of a key stand together, which
// makes most columns almost vanish, and lets a query look at every key once.
func (r Row) Compare(s Row) int {
	if c := strings.Compare(r.Key, s.Key); c != 0 || r.Start == s.Start {
		return c
	}
	if r.Start < s.Start {
		return -1
	}
	return 1
}

// record is a row as it stands in a file.
type record struct {
	Series   string `parquet:"series,dict"`
	Node     string `parquet:"node,dict"`
	Start    int64  `parquet:"window_start,timestamp(millisecond)"`
	Interval int32  `parquet:"interval_seconds,dict"`
	Key      string `parquet:"key,dict"`
	Count    int64  `parquet:"count"`
	Distinct bool   `parquet:"is_estimate"` // "distinct" would have to be quoted in SQL
}

const (
	rowsPerGroup = 1 << 18  // bounds the memory of writing: at most as many keys
	pageBytes    = 64 << 10 // bounds that of reading: a page for each column
)

// The names of what a file's metadata tells.
const (
	keySeries   = "audit_milter.series"
	keyType     = "audit_milter.type"
	keyInterval = "audit_milter.interval_seconds"
	keyDistinct = "audit_milter.distinct"
	keyNode     = "audit_milter.node"
	keyReplaces = "audit_milter.replaces" // a line for each file
)

// seriesDir is where the files of a series are.
func seriesDir(dir, series string) string { return filepath.Join(dir, escape(series)) }

// makeDir makes a directory that is still there after a loss of power.
func makeDir(dir string) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	give(dir)
	return syncDir(filepath.Dir(dir))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func writeRows(f io.Writer, meta Meta, rows iter.Seq2[Row, error]) error {
	seconds := int64(meta.Interval / time.Second)
	w := parquet.NewGenericWriter[record](f,
		parquet.Compression(&zstd.Codec{}),
		parquet.MaxRowsPerRowGroup(rowsPerGroup),
		parquet.PageBufferSize(pageBytes),
		parquet.SortingWriterConfig(parquet.SortingColumns(parquet.Ascending("key"), parquet.Ascending("window_start"))),
		parquet.KeyValueMetadata(keySeries, meta.Series),
		parquet.KeyValueMetadata(keyType, meta.Type.String()),
		parquet.KeyValueMetadata(keyInterval, strconv.FormatInt(seconds, 10)),
		parquet.KeyValueMetadata(keyDistinct, strconv.FormatBool(meta.Distinct)),
		parquet.KeyValueMetadata(keyNode, meta.Node),
		parquet.KeyValueMetadata(keyReplaces, strings.Join(meta.Replaces, "\n")),
	)
	records := make([]record, 0, 1024)
	var last Row
	for row, err := range rows {
		if err != nil {
			return err
		}
		if row.Compare(last) < 0 {
			return fmt.Errorf("the rows are not sorted: %v comes behind %v", row, last)
		}
		last = row
		records = append(records, record{meta.Series, meta.Node, row.Start * 1000, int32(seconds), row.Key, row.Count, meta.Distinct})
		if len(records) == cap(records) {
			if _, err := w.Write(records); err != nil {
				return err
			}
			records = records[:0]
		}
	}
	if _, err := w.Write(records); err != nil {
		return err
	}
	return w.Close()
}

// file is an open file. What it holds stays readable when somebody deletes it.
type file struct {
	Name
	Meta // once it is read
	file *os.File
	data *parquet.File // nil until it is read

	key, start, count int // the columns
}

// open opens a file of a series' directory, and reads what is not rows.
func open(dir string, name Name) (*file, error) {
	f, err := openUnread(dir, name)
	if err != nil {
		return nil, err
	}
	if err := f.read(); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// openUnread does not yet look into the file.
func openUnread(dir string, name Name) (*file, error) {
	path := filepath.Join(dir, name.String())
	f, err := os.Open(path)
	if err != nil {
		return nil, missing(path, err)
	}
	return &file{Name: name, file: f}, nil
}

// missing tells a link to nowhere from a file that has gone meanwhile.
func missing(path string, err error) error {
	if _, gone := os.Lstat(path); errors.Is(err, fs.ErrNotExist) && gone == nil {
		return &fileError{path, errors.New("it is a link to what is not there")}
	}
	return err
}

// identity is that of what was read.
func (f *file) identity() identity { return identity{f.Series, f.Type, f.Interval, f.Distinct} }

// Close also forgets what was read.
func (f *file) Close() error {
	f.data = nil
	return f.file.Close()
}

// read reads what is not rows, if that has not been done.
func (f *file) read() error {
	if f.data != nil {
		return nil
	}
	if err := f.readData(); err != nil {
		return f.about(err)
	}
	return nil
}

// about says which file an error is about.
func (f *file) about(err error) error { return &fileError{f.file.Name(), err} }

// fileError says that a file is damaged, or none of its series.
type fileError struct {
	path string
	err  error
}

func (e *fileError) Unwrap() error { return e.err }

func (e *fileError) Error() string {
	return fmt.Sprintf("%s: %v; put it back from a backup, or move it to another place, to go on without what it has", e.path, e.err)
}

// damaged makes an error of a panic: the library takes for true what a file says of itself.
func damaged(err *error) {
	if cause := recover(); cause != nil {
		*err = fmt.Errorf("it is damaged: %v", cause)
	}
}

func (f *file) readData() (err error) {
	defer damaged(&err)
	info, err := f.file.Stat()
	if err != nil {
		return err
	}
	f.data, err = parquet.OpenFile(f.file, info.Size(), parquet.SkipPageIndex(true), parquet.SkipBloomFilters(true), parquet.ReadBufferSize(pageBytes))
	if err != nil {
		return fmt.Errorf("it is damaged, or no Parquet: %w", err)
	}
	if !parquet.EqualNodes(f.data.Schema(), parquet.SchemaOf(record{})) {
		return fmt.Errorf("its columns are not those of a history: %v", f.data.Schema())
	}
	for name, column := range map[string]*int{"key": &f.key, "window_start": &f.start, "count": &f.count} {
		leaf, _ := f.data.Schema().Lookup(name)
		*column = leaf.ColumnIndex
	}
	if !isWhole(f.data.Metadata()) {
		return errors.New("it is damaged: its columns are not where a history has them")
	}
	return f.readMeta()
}

// isWhole reports whether columns have all rows, lie behind each other and are compressed as
// [writeRows] does it. The library would leave rows out, or make of what is none of a column
// what no memory holds, of which no recover knows.
func isWhole(m *format.FileMetaData) bool {
	rows, next := int64(0), int64(len("PAR1"))
	for _, g := range m.RowGroups {
		for i := range g.Columns {
			c := &g.Columns[i].MetaData
			begin := cmp.Or(c.DictionaryPageOffset, c.DataPageOffset)
			if begin != next || c.Codec != format.Zstd || c.NumValues != g.NumRows {
				return false
			}
			next += c.TotalCompressedSize
		}
		rows += g.NumRows
	}
	return rows == m.NumRows
}

func (f *file) readMeta() error {
	value := func(key string) string { v, _ := f.data.Lookup(key); return v }
	var ok bool
	if f.Type, ok = series.ParseType(value(keyType)); !ok {
		return fmt.Errorf("its metadata has the %s %q, which is no type of a series", keyType, value(keyType))
	}
	seconds, err := strconv.ParseInt(value(keyInterval), 10, 32)
	if err != nil {
		return fmt.Errorf("its metadata has the %s %q, which is not a number", keyInterval, value(keyInterval))
	}
	f.Interval = time.Duration(seconds) * time.Second
	f.Series, f.Meta.Node = value(keySeries), value(keyNode)
	if dir := filepath.Base(filepath.Dir(f.file.Name())); dir != escape(f.Series) {
		return fmt.Errorf("it is of the series %q and belongs into the directory %s", f.Series, escape(f.Series))
	}
	f.Distinct = value(keyDistinct) == "true"
	if replaces := value(keyReplaces); replaces != "" {
		f.Replaces = strings.Split(replaces, "\n")
	}
	return nil
}

// rows yields the rows in their order. It holds a page of each column and the keys of
// a row group in memory.
func (f *file) rows() iter.Seq2[Row, error] {
	return func(yield func(Row, error) bool) {
		for b, err := range f.batches(true, func([]string) bool { return true }) {
			if err != nil {
				yield(Row{}, err)
				return
			}
			for i, key := range b.key {
				if !yield(Row{b.keys[key], b.start[i] / 1000, b.count[i]}, nil) {
					return
				}
			}
		}
	}
}

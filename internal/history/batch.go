package history

import (
	"errors"
	"io"
	"iter"
	"strings"

	"github.com/parquet-go/parquet-go"
)

// batch is some rows of a file that lie behind each other, as columns.
type batch struct {
	keys  []string // those of the row group, which has several batches; the same slice in all of them
	key   []int32  // places in keys
	start []int64  // in milliseconds since 1970; empty if it was not wanted
	count []int64
}

// batches yields the rows of a file, in their order, a row group after the other. A
// row group none of whose keys are wanted is left out. A batch is good until the next.
func (f *file) batches(starts bool, wanted func(keys []string) bool) iter.Seq2[*batch, error] {
	return func(yield func(*batch, error) bool) {
		for _, group := range f.data.RowGroups() {
			goOn, err := f.group(group, starts, wanted, yield)
			if err != nil {
				yield(nil, f.about(err))
				return
			}
			if !goOn {
				return
			}
		}
	}
}

func (f *file) group(group parquet.RowGroup, starts bool, wanted func([]string) bool, yield func(*batch, error) bool) (goOn bool, err error) {
	columns := group.ColumnChunks()
	key := cursor{pages: columns[f.key].Pages(), texts: true}
	defer key.close()
	start := cursor{pages: columns[f.start].Pages()}
	defer start.close()
	count := cursor{pages: columns[f.count].Pages()}
	defer count.close()

	var b batch
	for left := group.NumRows(); left > 0; left -= int64(len(b.key)) {
		if err := key.fill(); err != nil {
			return false, err
		}
		if b.keys == nil {
			if b.keys = key.dictionary(); !wanted(b.keys) {
				return true, nil
			}
		}
		if err := count.fill(); err != nil {
			return false, err
		}
		n := min(key.left(), count.left())
		if starts {
			if err := start.fill(); err != nil {
				return false, err
			}
			n = min(n, start.left())
			b.start = start.values64[:n]
		}
		b.key, b.count = key.values32[:n], count.values64[:n]
		if !yield(&b, nil) {
			return false, nil
		}
		key.skip(n)
		count.skip(n)
		if starts {
			start.skip(n)
		}
	}
	return true, nil
}

// cursor goes through the values of a column, of which it holds one page.
type cursor struct {
	pages    parquet.Pages
	texts    bool
	page     parquet.Page
	values32 []int32 // what is left of it: the places in the dictionary of a text,
	values64 []int64 // or a number
}

func (c *cursor) left() int { return max(len(c.values32), len(c.values64)) }

func (c *cursor) skip(n int) {
	c.values32, c.values64 = c.values32[min(n, len(c.values32)):], c.values64[min(n, len(c.values64)):]
}

// fill reads the next page if nothing is left of the one before.
func (c *cursor) fill() (err error) {
	defer damaged(&err)
	for c.left() == 0 {
		parquet.Release(c.page)
		if c.page, err = c.pages.ReadPage(); err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
		switch data := c.page.Data(); {
		case c.texts != (c.page.Dictionary() != nil):
			return errors.New("its columns are not encoded as those of a history")
		case c.texts:
			c.values32 = data.Int32()
		default:
			c.values64 = data.Int64()
		}
	}
	return nil
}

// dictionary is the texts of a column's row group, which lie behind each other in
// memory.
func (c *cursor) dictionary() []string {
	d := c.page.Dictionary()
	var all strings.Builder
	ends := make([]int, d.Len())
	for i := range ends {
		all.Write(d.Index(int32(i)).ByteArray())
		ends[i] = all.Len()
	}
	texts, begin := make([]string, len(ends)), 0
	for i, end := range ends {
		texts[i] = all.String()[begin:end]
		begin = end
	}
	return texts
}

func (c *cursor) close() {
	parquet.Release(c.page)
	c.pages.Close()
}

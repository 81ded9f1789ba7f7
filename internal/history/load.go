package history

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/audit-milter/audit-milter/series"
)

// Record is a row that is exported or loaded.
type Record struct {
	Row
	IntervalSeconds int64
}

// Export yields the rows of a series whose windows begin at from or later and before
// to, of a node or, if it is empty, of all of them. Rows of the same key and window
// are to be added up. It is an error if there is no file of that time.
func Export(dir, name string, from, to time.Time, node string) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		q := Query{Series: []string{name}, From: from, To: to, Node: node, Location: time.Local}
		v, err := look(dir, name, overlapping(from, to, node))
		if err == nil {
			defer v.close()
			if len(v.files) == 0 {
				err = q.nothing(dir, name)
			}
		}
		if err != nil {
			yield(Record{}, err)
			return
		}
		for _, f := range v.files {
			if !exportFile(f, q, yield) {
				return
			}
		}
	}
}

func exportFile(f *file, q Query, yield func(Record, error) bool) (goOn bool) {
	if err := f.read(); err != nil {
		yield(Record{}, err)
		return false
	}
	defer f.Close()
	for row, err := range f.rows() {
		if err == nil && (!q.From.IsZero() && row.Start < q.From.Unix() || !q.To.IsZero() && row.Start >= q.To.Unix()) {
			continue
		}
		if !yield(Record{row, int64(f.Interval / time.Second)}, err) || err != nil {
			return false
		}
	}
	return true
}

// Loader puts rows into a history, of which it holds up to a million in memory.
type Loader struct {
	dir     string
	meta    Meta
	most    int // records in memory
	records []Record
	staged  []*staged
}

const (
	mostRecords = 1_000_000
	longest     = int64(series.MaxInterval / time.Second)
	maxKey      = 255 // bytes, as series have them
)

// NewLoader makes a loader of a series that the history in a directory may or may not
// have already. If it does, as what it is known; else as what the meta says.
func NewLoader(dir string, meta Meta, known bool) (*Loader, error) {
	if known {
		s, err := available(dir, meta.Series)
		if err != nil {
			return nil, err
		}
		meta.Type, meta.Distinct = s.Type, s.Distinct
	}
	return &Loader{dir: dir, meta: meta, most: mostRecords}, nil
}

// Check says what is wrong with a record, if anything.
func (l *Loader) Check(r Record) error {
	switch seconds := r.IntervalSeconds; {
	case seconds < 1 || seconds > longest:
		return fmt.Errorf("a window of %d seconds: it has 1 to %d", seconds, longest)
	case r.Start < 0 || r.Start%seconds != 0:
		return fmt.Errorf("no window of %d seconds begins at %s", seconds, time.Unix(r.Start, 0).UTC().Format(time.RFC3339))
	case r.Key == "":
		return nil
	case !l.meta.Type.IsAddress():
		if len(r.Key) > maxKey {
			return fmt.Errorf("the key has %d bytes, and the longest has %d", len(r.Key), maxKey)
		}
		return nil
	}
	a, err := netip.ParseAddr(r.Key)
	if err != nil || series.AddrKey(a).String() != r.Key {
		return fmt.Errorf("the key %q is not an address as an export spells it", r.Key)
	}
	if t := l.meta.Type; t == series.CIDR && !a.Is4() || t == series.CIDR6 && !a.Is6() {
		return fmt.Errorf("the series %s is of type %s and does not take %s", l.meta.Series, t, r.Key)
	}
	return nil
}

// Load puts in records that were checked. After an error nothing of them is there. Until
// all is on the disk nothing counts; only a kill while the names are made, of which there
// is one for each day and interval, leaves some of it.
func (l *Loader) Load(records iter.Seq2[Record, error]) error {
	defer func() {
		for _, s := range l.staged {
			s.forget()
		}
		l.staged, l.records = nil, nil
	}()
	for r, err := range records {
		if err != nil {
			return err
		}
		l.records = append(l.records, r)
		if len(l.records) == l.most {
			if err := l.flush(); err != nil {
				return err
			}
		}
	}
	if err := l.flush(); err != nil {
		return err
	}
	return l.link()
}

// link lets all count, or nothing.
func (l *Loader) link() (err error) {
	for i, s := range l.staged {
		err = s.link()
		for errors.Is(err, fs.ErrExist) {
			s.Part++
			err = s.link()
		}
		if err != nil {
			return errors.Join(err, remove(l.staged[:i]))
		}
	}
	if len(l.staged) == 0 {
		return nil
	}
	if err := syncDir(l.staged[0].dir); err != nil {
		return errors.Join(err, remove(l.staged))
	}
	return nil
}

func remove(linked []*staged) (err error) {
	for _, s := range linked {
		err = errors.Join(err, os.Remove(s.path()))
	}
	return err
}

// flush stages a file for each day, as the windows of others are merged by.
func (l *Loader) flush() error {
	slices.SortFunc(l.records, func(a, b Record) int {
		return cmp.Or(cmp.Compare(a.IntervalSeconds, b.IntervalSeconds), cmp.Compare(a.day(), b.day()), a.Compare(b.Row))
	})
	for left := l.records; len(left) > 0; {
		n := slices.IndexFunc(left, func(r Record) bool { return r.IntervalSeconds != left[0].IntervalSeconds || r.day() != left[0].day() })
		if n < 0 {
			n = len(left)
		}
		if err := l.stage(left[:n]); err != nil {
			return err
		}
		left = left[n:]
	}
	l.records = l.records[:0]
	return nil
}

// day is that of UTC, counted from 1970.
func (r Record) day() int64 { return r.Start / (24 * 60 * 60) }

// stage writes a file that does not count yet.
func (l *Loader) stage(records []Record) error {
	meta := l.meta
	meta.Interval = time.Duration(records[0].IntervalSeconds) * time.Second
	byStart := func(a, b Record) int { return cmp.Compare(a.Start, b.Start) }
	name := Name{
		First: time.Unix(slices.MinFunc(records, byStart).Start, 0),
		Last:  time.Unix(slices.MaxFunc(records, byStart).Start, 0),
		Part:  freshPart(),
		Node:  meta.Node,
	}
	s, err := stage(l.dir, name, meta, func(yield func(Row, error) bool) {
		for _, r := range records {
			if !yield(r.Row, nil) {
				return
			}
		}
	})
	if err == nil {
		l.staged = append(l.staged, s)
	}
	return err
}

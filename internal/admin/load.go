package admin

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/audit-milter/audit-milter/policy"
	"github.com/audit-milter/audit-milter/series"
)

// Row is a line of an export, without its series: a key's count in one window.
type Row struct {
	Key             string    `json:"key"`
	Start           time.Time `json:"window_start"`
	IntervalSeconds int64     `json:"interval_seconds"`
	Count           int64     `json:"count"`
}

// Load is what /api/v1/load takes. Its rows are added to what is counted already,
// all of them or, if one is wrong, none.
type Load struct {
	Series string `json:"series"`
	Rows   Rows   `json:"rows"`
}

// Rows are decoded up to the first one that is too many: of short ones a request has
// room for so many that they would take a hundred times its size.
type Rows []Row

// UnmarshalJSON takes no more than MaxRows+1 of them.
func (r *Rows) UnmarshalJSON(data []byte) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if begin, err := d.Token(); err != nil || begin != json.Delim('[') {
		return json.Unmarshal(data, (*[]Row)(r)) // null, or its error
	}
	*r = (*r)[:0] // as the library does with a name that comes twice
	for d.More() && len(*r) <= MaxRows {
		var row Row
		if err := d.Decode(&row); err != nil {
			return err
		}
		*r = append(*r, row)
	}
	return nil
}

// MaxRows is how many rows one request can have.
const MaxRows = 1000

// Loaded is the answer of /api/v1/load.
type Loaded struct {
	Series string `json:"series"`
	Loaded int    `json:"loaded"`  // how many rows
	TooOld []int  `json:"too_old"` // the rows, from 0, whose windows the series does not cover any more
}

func load(q *question, l Load) (Loaded, error) {
	to, err := q.series(l.Series)
	if err != nil {
		return Loaded{}, err
	}
	c := to.Counter
	s, err := addable(c)
	if err == nil && len(l.Rows) > MaxRows {
		err = fmt.Errorf("a request has at most %d rows", MaxRows)
	}
	if err != nil {
		return Loaded{}, err
	}
	amounts := make([]amount, len(l.Rows))
	for i, row := range l.Rows {
		if amounts[i], err = q.amount(c, row); err != nil {
			return Loaded{}, Error{err.Error(), &i}
		}
	}
	loaded := Loaded{Series: l.Series, TooOld: []int{}}
	for i, a := range amounts {
		if s.AddAt(a.key, a.n, a.age, q.now) {
			loaded.Loaded++
		} else {
			loaded.TooOld = append(loaded.TooOld, i)
		}
	}
	q.Log.Info("loaded by hand", "series", l.Series, "rows", loaded.Loaded, "too_old", len(loaded.TooOld))
	return loaded, nil
}

// amount is what a row adds, and how many windows ago.
type amount struct {
	key series.Key
	n   int64
	age int
}

func (q *question) amount(c policy.Counter, r Row) (amount, error) {
	key, err := policy.ParseKey(c, r.Key)
	d := c.Definition()
	switch {
	case err != nil:
		return amount{}, err
	case r.IntervalSeconds < 1 || seconds(d.Interval)%r.IntervalSeconds != 0:
		return amount{}, fmt.Errorf("its window of %d seconds does not fit into those of the series %s, of %d seconds", r.IntervalSeconds, d.Name, seconds(d.Interval))
	case r.Start.Unix()%r.IntervalSeconds != 0:
		return amount{}, fmt.Errorf("no window of %d seconds begins at %s", r.IntervalSeconds, r.Start.Format(time.RFC3339))
	}
	age := windowAt(d.Interval, q.now) - windowAt(d.Interval, r.Start)
	if age < 0 {
		return amount{}, fmt.Errorf("its window begins at %s, which is to come", r.Start.Format(time.RFC3339))
	}
	return amount{key, r.Count, int(min(age, series.MaxWindows))}, nil
}

// Record is a line of a file that an export wrote.
type Record struct {
	Line   int // from 1
	Series string
	Row
}

// byteOrderMark is what some editors begin a UTF-8 file with.
const byteOrderMark = "\ufeff"

// ReadExport reads an export. The first error ends it and names its line.
func ReadExport(r io.Reader) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		text := bufio.NewReader(r)
		if mark, _ := text.Peek(len(byteOrderMark)); string(mark) == byteOrderMark {
			text.Discard(len(mark))
		}
		lines := csv.NewReader(&quotedEnds{from: text})
		lines.ReuseRecord = true
		head, err := lines.Read()
		if err != nil || !slices.Equal(head, ExportColumns) {
			yield(Record{}, fmt.Errorf("line 1: an export begins with %s", strings.Join(ExportColumns, ",")))
			return
		}
		for {
			fields, err := lines.Read()
			if errors.Is(err, io.EOF) {
				return
			}
			var record Record
			if err == nil {
				record, err = parseRecord(lines, fields)
			}
			if !yield(record, err) || err != nil {
				return
			}
		}
	}
}

func parseRecord(lines *csv.Reader, fields []string) (r Record, err error) {
	r.Line, _ = lines.FieldPos(0)
	r.Series, r.Key = fields[0], fields[1]
	if !utf8.ValidString(r.Key) {
		return r, fmt.Errorf("line %d: the key is not UTF-8: %q", r.Line, r.Key)
	}
	if r.Start, err = time.Parse(time.RFC3339, fields[2]); err != nil {
		return r, fmt.Errorf("line %d: window_start is not a time such as 2026-01-01T12:00:00Z: %q", r.Line, fields[2])
	}
	for i, to := range []*int64{&r.IntervalSeconds, &r.Count} {
		if *to, err = strconv.ParseInt(fields[3+i], 10, 64); err != nil {
			return r, fmt.Errorf("line %d: %s is not a whole number: %q", r.Line, ExportColumns[3+i], fields[3+i])
		}
	}
	return r, nil
}

package history

import (
	"context"
	"errors"
	"io/fs"
	"iter"
	"slices"
	"time"

	"github.com/audit-milter/audit-milter/series"
)

const (
	day = 24 * time.Hour

	// late is how long after a day its files are still left apart.
	late = time.Hour

	// few files of one level are left as they are while their day goes on; the windows
	// of five minutes of an hour are 12.
	few = 11

	// maxInputs is the most files that become one at a time, which bounds memory: of
	// each there are some pages and the keys of up to 262,144 rows.
	maxInputs = 64
)

// condense merges files of the same series, node and day: all of them when the day is
// over, before that those of one level when there are more than a few. What was loaded
// stays apart: of the windows in it there may be more to come, in batches before the
// number that a file with both would have.
func (m *Maintainer) condense(ctx context.Context, files []*stored, now time.Time) (errs []error) {
	type group struct {
		dir, node string
		loaded    bool
		day       time.Time
	}
	groups := make(map[group][]*stored)
	for _, s := range files {
		begin := s.First.Truncate(day)
		oneDay := s.Last.Before(begin.Add(day)) // what somebody loaded may be of many
		if !s.replaced && s.err == nil && oneDay && now.Sub(s.written) >= settled {
			g := group{s.dir, s.Node, s.Through == 0, begin}
			groups[g] = append(groups[g], s)
		}
	}
	for _, g := range groups {
		if len(g) > 1 || m.MinCount > 1 { // which the one may not have been folded by
			errs = append(errs, m.condenseDay(ctx, g, now))
		}
	}
	return errs
}

func (m *Maintainer) condenseDay(ctx context.Context, files []*stored, now time.Time) error {
	same := make(map[identity][]*stored)
	for _, s := range files {
		f, err := open(s.dir, s.Name)
		if err != nil {
			s.err = err
			continue
		}
		f.Close()
		id := f.identity()
		same[id] = append(same[id], s)
	}
	var errs []error
	for id, files := range same {
		rests := restsFrom(files, id.interval)
		over := !now.Before(rests)
		minCount := int64(1)
		if over && len(files) <= maxInputs {
			minCount = m.MinCount
		}
		folds := minCount > 1 && files[0].written.Before(rests) // also if it is the only one
		for _, set := range plan(files, over, folds) {
			err := m.merge(ctx, id, set, minCount)
			if !blame(set, err) {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}

// blame notes of which file an error is, so that the next pass merges the others without it.
func blame(set []*stored, err error) bool {
	e, ok := errors.AsType[*fileError](err)
	if !ok {
		return false
	}
	i := slices.IndexFunc(set, func(s *stored) bool { return s.path() == e.path })
	if i >= 0 {
		set[i].err = err
	}
	return i >= 0
}

// restsFrom is when nothing more is to be expected of the day of some files.
func restsFrom(files []*stored, interval time.Duration) time.Time {
	end := files[0].First.Truncate(day).Add(day)
	for _, s := range files {
		if e := s.Last.Add(interval); e.After(end) {
			end = e
		}
	}
	return end.Add(late)
}

// plan says which files are to become one. Of a day that is over that can be a single
// one, to be folded.
func plan(files []*stored, over, folds bool) (sets [][]*stored) {
	switch {
	case over && folds:
		return chunks(files, 1)
	case over:
		return chunks(files, 2)
	}
	levels := make(map[int][]*stored)
	for _, s := range files {
		levels[s.Level] = append(levels[s.Level], s)
	}
	for _, files := range levels {
		sets = append(sets, chunks(files, few+1)...)
	}
	return sets
}

// chunks are up to maxInputs files each, and at least so many.
func chunks(files []*stored, least int) (sets [][]*stored) {
	for set := range slices.Chunk(files, maxInputs) {
		if len(set) >= least {
			sets = append(sets, set)
		}
	}
	return sets
}

// merge makes one file of several.
func (m *Maintainer) merge(ctx context.Context, id identity, set []*stored, minCount int64) error {
	var files []*file
	defer func() {
		for _, f := range files {
			f.Close()
		}
	}()
	name := Name{First: set[0].First, Last: set[0].Last, Part: freshPart(), Node: set[0].Node}
	meta := Meta{Series: id.name, Type: id.kind, Interval: id.interval, Distinct: id.distinct, Node: name.Node}
	for _, s := range set {
		f, err := open(s.dir, s.Name)
		if err != nil {
			return err
		}
		files = append(files, f)
		if s.First.Before(name.First) {
			name.First = s.First
		}
		if s.Last.After(name.Last) {
			name.Last = s.Last
		}
		name.Through, name.Level = max(name.Through, s.Through), max(name.Level, s.Level+1)
		meta.Replaces = append(meta.Replaces, s.Name.String())
		for _, old := range s.replaces { // so that s can be deleted before them
			meta.Replaces = append(meta.Replaces, old.Name.String())
		}
	}
	rows, err := folded(ctx, files, minCount)
	if err != nil {
		return err
	}
	for err = write(m.Dir, name, meta, rows); errors.Is(err, fs.ErrExist); err = write(m.Dir, name, meta, rows) {
		name.Part++
	}
	if err != nil {
		return err
	}
	m.Log.Debug("history files became one", "series", id.name, "files", len(set), "first", name.First, "last", name.Last)
	m.count(func(s *MaintainerStats) { s.Merged += uint64(len(set)) })
	return nil
}

// folded is the rows of several files, those of a window below minCount as one with the
// empty key. For that the files are read twice, since it comes first.
func folded(ctx context.Context, files []*file, minCount int64) (iter.Seq2[Row, error], error) {
	if minCount <= 1 {
		return mergedFiles(ctx, files), nil
	}
	small := make(map[int64]int64)
	for row, err := range mergedFiles(ctx, files) {
		if err != nil {
			return nil, err
		}
		if row.Key == "" || row.Count < minCount {
			small[row.Start] = series.Plus(small[row.Start], row.Count)
		}
	}
	rest := func(yield func(Row, error) bool) {
		for row, err := range mergedFiles(ctx, files) {
			if (err != nil || row.Key != "" && row.Count >= minCount) && !yield(row, err) {
				return
			}
		}
	}
	return merged([]iter.Seq2[Row, error]{eachOf(rowsWithoutKey(small)), rest}), nil
}

func rowsWithoutKey(counts map[int64]int64) (rows []Row) {
	for start, n := range counts {
		rows = append(rows, Row{Start: start, Count: n})
	}
	slices.SortFunc(rows, Row.Compare)
	return rows
}

// mergedFiles yields the context's error when that ends.
func mergedFiles(ctx context.Context, files []*file) iter.Seq2[Row, error] {
	sources := make([]iter.Seq2[Row, error], len(files))
	for i, f := range files {
		sources[i] = f.rows()
	}
	return func(yield func(Row, error) bool) {
		for row, err := range merged(sources) {
			if err == nil {
				err = ctx.Err()
			}
			if !yield(row, err) || err != nil {
				return
			}
		}
	}
}

package history

import (
	"errors"
	"math"
	"slices"
)

// earlier is the files that a node had of a series at the start, by their last windows.
type earlier struct {
	dir   string
	files []Name
}

// filesOf is the files that a node has written under any of its names, by series. Those
// that were loaded say nothing about what it counted. With an error there are those of
// the series that could be read.
func filesOf(dir string, names []string) (map[string]earlier, error) {
	all, err := seriesIn(dir)
	files := make(map[string]earlier)
	for _, s := range all {
		e, unreadable := earlierOf(dir, s, names)
		err = errors.Join(err, unreadable)
		files[s] = e
	}
	return files, err
}

// earlierOf is those of one series.
func earlierOf(dir, series string, names []string) (earlier, error) {
	e := earlier{dir: seriesDir(dir, series)}
	list, err := list(e.dir)
	for _, n := range list {
		if n.Through > 0 && slices.Contains(names, n.Node) {
			e.files = append(e.files, n)
		}
	}
	slices.SortStableFunc(e.files, func(a, b Name) int { return a.Last.Compare(b.Last) })
	return e, err
}

// lastOf is the number of the last batch in any file.
func lastOf(files map[string]earlier) (number uint64) {
	for _, e := range files {
		for _, n := range e.files {
			number = max(number, n.Through)
		}
	}
	return number
}

// through is the number of the last batch in the files of a window. A merged file has
// all that came for its windows up to its number.
func (e earlier) through(id identity, start int64) (number uint64) {
	for _, n := range e.files {
		if n.First.Unix() <= start && start <= n.Last.Unix() && n.Through > number && e.is(n, id) {
			number = n.Through
		}
	}
	return number
}

// newest is the newest window of which there is something.
func (e earlier) newest(id identity) int64 {
	for _, n := range slices.Backward(e.files) {
		if e.is(n, id) {
			return n.Last.Unix()
		}
	}
	return math.MinInt64
}

// is reports whether a file is of the same series. Of one that cannot be read any more
// that is assumed: what somebody has merged since the start mostly is.
func (e earlier) is(n Name, id identity) bool {
	f, err := open(e.dir, n)
	if err != nil {
		return true
	}
	defer f.Close()
	return f.identity() == id
}

package history

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/audit-milter/audit-milter/policy"
)

// Names are the series that the history in a directory has files of, sorted.
func Names(dir string) (series []string, err error) {
	all, err := seriesIn(dir)
	if err != nil {
		return nil, err
	}
	for _, name := range all {
		files, err := list(seriesDir(dir, name))
		if err != nil {
			return nil, err
		}
		if len(files) > 0 {
			series = append(series, name)
		}
	}
	slices.Sort(series)
	return series, nil
}

// view is the files of a series that count, all open: nothing that happens to them
// changes what is read.
type view struct{ files []*file }

func (v *view) close() {
	for _, f := range v.files {
		f.Close()
	}
}

// attempts is how often a directory may change while it is looked at.
const attempts = 100

// look opens the files of a series that are wanted. There is an error if the series
// has none at all, wanted or not.
//
// While files are merged there is always a set of them that has each row once. It is
// found if no file goes and no merged one comes while the files are opened: else
// what was seen may be half of each.
func look(dir, series string, wanted func(Name) bool) (*view, error) {
	path := seriesDir(dir, series)
	for range attempts {
		names, err := list(path)
		if err != nil {
			return nil, err
		}
		v, err := openAll(path, names, wanted)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		after, err := list(path)
		if err == nil && steady(names, after) && len(names) > 0 {
			return v, nil
		}
		v.close()
		if err == nil && len(names)+len(after) == 0 {
			err = unknownSeries(dir, series)
		}
		if err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("%s changes all the time; try again", path)
}

// WhenThere is since when a history has a series, for who does not find one.
const WhenThere = "a series is there once its first window has ended, and one that replicates only at a manager"

func unknownSeries(dir, series string) error {
	known, err := Names(dir)
	if err != nil {
		return err
	}
	unknown := policy.UnknownError{What: "series", Name: series, Known: known}
	if unknown.Guess() != "" {
		return unknown
	}
	return fmt.Errorf("%w; %s", unknown, WhenThere)
}

// steady reports whether no file went and no merged one came.
func steady(before, after []Name) bool {
	old := make(map[Name]bool, len(before))
	for _, n := range before {
		old[n] = true
	}
	for _, n := range after {
		if n.Level > 0 && !old[n] {
			return false
		}
		delete(old, n)
	}
	return len(old) == 0
}

// openAll opens those that are wanted and not replaced. A file that replaces others
// covers the time that they cover, so that who wants any of them wants it too.
func openAll(dir string, names []Name, wanted func(Name) bool) (*view, error) {
	v := new(view)
	replaced := make(map[string]bool)
	for _, name := range names {
		if !wanted(name) {
			continue
		}
		f, err := openUnread(dir, name)
		if err == nil {
			v.files = append(v.files, f)
			if name.Level > 0 {
				err = f.read()
			}
		}
		if err != nil {
			v.close()
			return nil, err
		}
		for _, r := range f.Replaces {
			replaced[r] = true
		}
	}
	v.files = slices.DeleteFunc(v.files, func(f *file) bool {
		if replaced[f.Name.String()] {
			f.Close()
			return true
		}
		return false
	})
	return v, nil
}

// overlapping wants the files with windows that begin at from or later and before to,
// either of which may be zero, and of the node, unless it is empty.
func overlapping(from, to time.Time, node string) func(Name) bool {
	return func(n Name) bool {
		return (from.IsZero() || !n.Last.Before(from)) && (to.IsZero() || n.First.Before(to)) && (node == "" || n.Node == node)
	}
}

package history

import (
	"errors"
	"slices"
	"time"

	"github.com/audit-milter/audit-milter/series"
)

// Series is what a history has of a series.
type Series struct {
	Name     string
	Type     series.Type
	Distinct bool
	Interval time.Duration
	Nodes    []string  // sorted
	From, To time.Time // when the first window begins, and the last one ends
	Files    int
	Bytes    int64
}

// Available are the series of the history in a directory, by name. Type, Distinct and
// Interval are those of the newest window. With an error there are those that can be read.
func Available(dir string) ([]Series, error) {
	names, err := Names(dir)
	if err != nil {
		return nil, err
	}
	all, errs := make([]Series, 0, len(names)), []error(nil)
	for _, name := range names {
		s, err := available(dir, name)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		all = append(all, s)
	}
	return all, errors.Join(errs...)
}

func available(dir, name string) (Series, error) {
	v, err := look(dir, name, func(Name) bool { return true })
	if err != nil {
		return Series{}, err
	}
	defer v.close()
	newest, err := v.newest()
	if err != nil {
		return Series{}, err
	}
	s := Series{
		Name: name, Type: newest.Type, Distinct: newest.Distinct, Interval: newest.Interval,
		From: newest.First, To: newest.Last.Add(newest.Interval), Files: len(v.files),
	}
	for _, f := range v.files {
		info, err := f.file.Stat()
		if err != nil {
			return Series{}, err
		}
		s.Bytes += info.Size()
		if f.First.Before(s.From) {
			s.From = f.First
		}
		if !slices.Contains(s.Nodes, f.Name.Node) {
			s.Nodes = append(s.Nodes, f.Name.Node)
		}
	}
	slices.Sort(s.Nodes)
	return s, nil
}

// newest is the file with the newest window, which is read.
func (v *view) newest() (*file, error) {
	f := slices.MaxFunc(v.files, func(a, b *file) int { return a.Last.Compare(b.Last) })
	return f, f.read()
}

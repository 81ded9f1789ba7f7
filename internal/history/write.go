package history

import (
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
)

// write writes a file of a history. Its rows come sorted by [Row.Compare]; there may
// be none. It is complete and synced before it appears. After an error it is not
// there; fs.ErrExist says that there is another one of this name.
func write(dir string, name Name, meta Meta, rows iter.Seq2[Row, error]) error {
	s, err := stage(dir, name, meta, rows)
	if err != nil {
		return err
	}
	defer s.forget()
	if err := s.link(); err != nil {
		return err
	}
	if err := syncDir(s.dir); err != nil {
		os.Remove(s.path())
		return err
	}
	return nil
}

// staged is a file that is complete and synced, but does not count until it is linked.
type staged struct {
	Name
	dir, file string
}

func stage(dir string, name Name, meta Meta, rows iter.Seq2[Row, error]) (s *staged, err error) {
	s = &staged{Name: name, dir: seriesDir(dir, meta.Series)}
	if err := makeDir(s.dir); err != nil {
		return nil, err
	}
	s.file = s.path() + temporary + strconv.FormatUint(rand.Uint64(), 10) // two may write a file of the same name
	f, err := os.OpenFile(s.file, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o640)
	if err != nil {
		return nil, err
	}
	give(s.file)
	if err := errors.Join(writeRows(f, meta, rows), f.Sync(), f.Close()); err != nil {
		s.forget()
		return nil, fmt.Errorf("writing %s: %w", s.path(), err)
	}
	return s, nil
}

func (s *staged) path() string { return filepath.Join(s.dir, s.Name.String()) }

// link lets it count, under its name, which unlike a rename overwrites nothing.
func (s *staged) link() error { return os.Link(s.file, s.path()) }

// forget deletes it, or after link its other name.
func (s *staged) forget() { os.Remove(s.file) }

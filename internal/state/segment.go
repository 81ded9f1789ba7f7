package state

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/audit-milter/audit-milter/internal/deltas"
)

const suffix = ".journal"

// segment is a file of the journal.
type segment struct {
	number   uint64 // of its first batch
	size     int64
	complete bool // its snapshot is whole
	ended    bool // its snapshot was whole, and may be damaged
}

func (s segment) path(dir string) string {
	return filepath.Join(dir, fmt.Sprintf("%020d%s", s.number, suffix))
}

// list is the directory's segments, the oldest first. Other files are let alone.
func list(dir string) ([]segment, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var segments []segment
	for _, e := range entries {
		digits, ok := strings.CutSuffix(e.Name(), suffix)
		number, err := strconv.ParseUint(digits, 10, 64)
		s := segment{number: number}
		if !ok || err != nil || filepath.Base(s.path(dir)) != e.Name() {
			continue
		}
		info, err := e.Info()
		if err != nil {
			return nil, err
		}
		s.size = info.Size()
		segments = append(segments, s)
	}
	slices.SortFunc(segments, func(a, b segment) int {
		if a.number < b.number {
			return -1
		}
		return 1
	})
	return segments, nil
}

// survey finds out whether the segment's snapshot is whole.
func (s *segment) survey(dir string) error {
	f, err := os.Open(s.path(dir))
	if err != nil {
		return err
	}
	defer f.Close()
	r := records{file: f, size: s.size}
	whole, err := r.open(f.Name())
	for first := true; err == nil; first = false {
		payload, skipped, e := r.next()
		if payload == nil || e != nil {
			err = e
			break
		}
		head, e := deltas.DecodeHead(payload)
		if e != nil {
			err = unread(f.Name(), e)
			break
		}
		whole = whole && skipped == 0 && (head.Begin || !first)
		if head.End && !s.ended {
			s.ended, s.complete = true, whole
		}
	}
	return err
}

// unread says that a record with the right checksum is not understood, or that it could
// not be read.
func unread(path string, err error) error {
	if errors.Is(err, deltas.ErrPayload) {
		return fmt.Errorf("%s: a batch in it is not understood though its checksum is right: move the file away to begin without what it counted", path)
	}
	return fmt.Errorf("%s: %w", path, err)
}

// fallback is the newest segment with a whole snapshot; negative: there is none.
func fallback(segments []segment) int {
	for i, s := range slices.Backward(segments) {
		if s.complete {
			return i
		}
	}
	return -1
}

// sync lets the segment stand.
func (s segment) sync(dir string) error {
	f, err := os.Open(s.path(dir))
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

// syncDirectory lets what was made, renamed or removed in it stand.
func syncDirectory(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

package config

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// File is a file that a configuration names, and that takes effect by itself when
// it changes: a list's or a table's. It belongs to one goroutine.
type File struct {
	Path  string
	About string // whose it is, such as `list "bulk"`

	use    func(data []byte) Errors // takes what is right as a whole, and of what is wrong nothing
	taken  os.FileInfo              // when it was read; nil when there was none
	seen   os.FileInfo              // at the last look
	failed string                   // why it cannot be read, as far as that was told
}

// readFile reads a file that the node names, now and whenever it changes.
func (d *decoder) readFile(n node, use func(path string, data []byte) Errors) {
	name := n.text("a file's name")
	if name == "" {
		return
	}
	path := d.relative(name)
	f := &File{Path: path, About: n.subject, taken: stat(path)}
	f.use = func(data []byte) Errors { return f.first(use(path, bytes.TrimPrefix(data, byteOrderMark))) }
	f.seen = f.taken
	data, err := d.read(path)
	if err != nil {
		n.errorf("cannot read %s: %s", path, reason(err))
		return
	}
	d.errs = append(d.errs, f.use(data)...)
	d.config.Files = append(d.config.Files, f)
}

// Look reads the file again if it is another one than before, or has another time
// or size, and has been so for two looks: it may still be written at the first. It
// reports whether new content is in force, or what is wrong; what was read before
// then stays. An error is told once.
func (f *File) Look() (changed bool, errs Errors) {
	now := stat(f.Path)
	settled := unchanged(now, f.seen)
	f.seen = now
	switch {
	case unchanged(now, f.taken):
		f.failed = ""
		return false, nil
	case !settled:
		return false, nil
	}
	data, err := readWhole(f.Path)
	if err != nil {
		return false, f.fail(reason(err)) // and is tried again
	}
	f.taken, f.failed = now, ""
	errs = f.use(data)
	return len(errs) == 0, errs
}

// maxMistakes are told of one file: that of another program has one in each line.
const maxMistakes = 20

// first are as many mistakes as are told, then how many more there are.
func (f *File) first(errs Errors) Errors {
	for _, e := range errs[:min(len(errs), maxMistakes)] {
		e.Msg = shortened(e.Msg)
	}
	if len(errs) <= maxMistakes {
		return errs
	}
	more := *errs[maxMistakes]
	more.Msg = fmt.Sprintf("%s: from here on %d more mistakes", f.About, len(errs)-maxMistakes)
	return append(errs[:maxMistakes:maxMistakes], &more)
}

// shortened leaves the middle of a long message out: it may quote all of a file that
// has no line ends, and the log loses a line that its buffer cannot hold.
func shortened(msg string) string {
	const half = 400
	if len(msg) <= 2*half {
		return msg
	}
	return strings.ToValidUTF8(msg[:half], "") + " … " + strings.ToValidUTF8(msg[len(msg)-half:], "")
}

func (f *File) fail(why string) Errors {
	if why == f.failed {
		return nil
	}
	f.failed = why
	return Errors{{File: f.Path, Msg: f.About + ": cannot read the file: " + why}}
}

// readWhole reads a file that a configuration names. A pipe is none: nobody may
// ever write to it, and the daemon would wait.
func readWhole(path string) ([]byte, error) {
	if info := stat(path); info != nil && info.Mode()&fs.ModeNamedPipe != 0 {
		return nil, errors.New("it is a pipe; a file is needed")
	}
	return os.ReadFile(path)
}

// stat follows links, by which some files are replaced; nil when there is nothing.
func stat(path string) os.FileInfo {
	info, err := os.Stat(path)
	if err != nil {
		return nil
	}
	return info
}

func unchanged(a, b os.FileInfo) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size()
}

// contents reads a file that the node names; where that fails, the error is noted.
func (d *decoder) contents(n node) (path string, data []byte, ok bool) {
	name := n.text("a file's name")
	if name == "" {
		return "", nil, false
	}
	path = d.relative(name)
	data, err := d.read(path)
	if err != nil {
		n.errorf("cannot read %s: %s", path, reason(err))
	}
	return path, data, err == nil
}

// relative is a path of the configuration, which is relative to its file.
func (d *decoder) relative(path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(filepath.Dir(d.file), path)
}

// absolute is a path of the configuration as other programs can use it.
func (d *decoder) absolute(path string) string {
	full, err := filepath.Abs(d.relative(path))
	if err != nil {
		return d.relative(path) // the working directory is gone; opening it will tell
	}
	return full
}

// reason says why a file could not be read.
func reason(err error) string {
	var at *fs.PathError
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "there is no such file"
	case errors.Is(err, fs.ErrPermission):
		return "this user may not"
	case errors.As(err, &at):
		return at.Err.Error()
	}
	return err.Error()
}

package history

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

const (
	// namesFile has the names that the node has had, a line each, the newest last. No
	// series' directory is named so, since a . at the begin would be escaped.
	namesFile = ".names"

	// namesKept is how many: some, since a host can have another one at every start,
	// and can be killed before its journal forgets what came under the one before.
	namesKept = 16
)

// ownNames are the names that this node has written under, the last one its name from now
// on, which is noted. With an error there are those that are known.
func ownNames(dir, node string) ([]string, error) {
	path := filepath.Join(dir, namesFile)
	text, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return []string{node}, err
	}
	names := slices.Collect(strings.Lines(string(text)))
	for i, n := range names {
		names[i] = strings.TrimSuffix(n, "\n")
	}
	if len(names) > 0 && names[len(names)-1] == node {
		return names, nil
	}
	names = append(slices.DeleteFunc(names, func(n string) bool { return n == node }), node)
	names = names[max(len(names)-namesKept, 0):]
	return names, replace(path, strings.Join(names, "\n")+"\n")
}

// replace writes a file that is there as a whole, before or after.
func replace(path, text string) error {
	f, err := os.OpenFile(path+temporary, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o640)
	if err != nil {
		return err
	}
	give(f.Name())
	_, err = f.WriteString(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

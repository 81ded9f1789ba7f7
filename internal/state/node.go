package state

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
)

const nodeFile = "node"

// nodeOf is the node's name in a directory, "" where there is none.
func nodeOf(dir string) (string, error) {
	name, err := os.ReadFile(filepath.Join(dir, nodeFile))
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	return strings.TrimSpace(string(name)), err
}

// keepNode keeps the node's name, unless it is there already.
func keepNode(dir, name string) error {
	if had, err := nodeOf(dir); err == nil && had == name {
		return nil
	}
	path := filepath.Join(dir, nodeFile)
	f, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(name + "\n")
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncDirectory(dir)
}

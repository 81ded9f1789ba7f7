package config

import "os"

// directory is one that the node names, made later if it is missing; "" after an
// error.
func (d *decoder) directory(n node) string {
	name := n.text("a directory's name, such as ./state")
	if name == "" {
		return ""
	}
	path := d.relative(name)
	if info := stat(path); info != nil && !info.IsDir() {
		n.errorf("%s needs a directory, and %s is none", n.name, path)
		return ""
	}
	return path
}

// sameDirectory reports whether two paths of directories name one.
func (d *decoder) sameDirectory(a, b string) bool {
	one, other := stat(a), stat(b)
	return d.absolute(a) == d.absolute(b) || one != nil && other != nil && os.SameFile(one, other)
}

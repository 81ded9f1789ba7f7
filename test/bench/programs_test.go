package bench

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

var also = flag.String("also", "", "other audit-milter programs to measure beside it, separated by commas: `name=path`")

// program is one that serves, and how it is told where and what.
type program struct {
	name, path string
	args       func(*testing.B, *server, *dialogue) []string
}

// build makes all programs that can be made here. The first one is the
// yardstick with which the others are compared.
func build(b *testing.B) []program {
	b.Helper()
	dir := b.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	command := exec.Command("go", "build", "-buildvcs=false", "-o", dir, "../../cmd/audit-milter", "../yardstick")
	if out, err := command.CombinedOutput(); err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	programs := []program{
		{"loop", in("yardstick"), loopArgs},
		{"audit-milter", in("audit-milter"), auditMilterArgs},
	}
	for pair := range strings.SplitSeq(*also, ",") {
		if name, path, ok := strings.Cut(pair, "="); ok {
			programs = append(programs, program{name, path, auditMilterArgs})
		}
	}
	if compiled(b, in("echo"), "testdata/echo.c") {
		programs = append(programs, program{"echo", in("echo"), echoArgs})
	}
	if compiled(b, in("libmilter"), "testdata/libmilter.c", "-lmilter", "-lpthread") {
		programs = append(programs, program{"libmilter", in("libmilter"), libmilterArgs})
	}
	return programs
}

// compiled makes a C program, or says that it is left out.
func compiled(b *testing.B, path string, args ...string) bool {
	b.Helper()
	out, err := exec.Command("gcc", append([]string{"-O2", "-o", path}, args...)...).CombinedOutput()
	if err != nil {
		fmt.Fprintf(os.Stderr, "without the yardstick %s, which needs gcc and libmilter-dev: %v\n%s", filepath.Base(path), err, out)
	}
	return err == nil
}

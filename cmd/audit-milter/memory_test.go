package main

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// What the environment says of the daemon's limits is in force, and in the log.
func TestLimitsOfTheEnvironment(t *testing.T) {
	for _, row := range []struct{ environment, want string }{
		{"GOMAXPROCS=1 GOMEMLIMIT=64MiB", "gomaxprocs=1 memory_limit=64MiB"},
		{"GOMAXPROCS=7 GOMEMLIMIT=off", "gomaxprocs=7 memory_limit=none"},
	} {
		t.Run(row.environment, func(t *testing.T) {
			if line := serving(t, row.environment+` exec "$@"`); !strings.Contains(line, row.want) {
				t.Errorf("want %s, got %s", row.want, line)
			}
		})
	}
}

// serving is the daemon's line of that name.
func serving(t *testing.T, shell string) string {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd, _ := serveInto(t, w, shell)
	w.Close()
	log := bufio.NewScanner(r)
	for log.Scan() {
		if strings.Contains(log.Text(), "msg=serving") {
			terminate(t, cmd)
			return log.Text()
		}
	}
	t.Fatal("the log ends without msg=serving")
	return ""
}

// The limits of a control group, which is what a container has, are respected:
// two processors, and nine tenths of its memory before garbage is collected
// harder. What the environment says of memory goes before that.
func TestLimitsOfAControlGroup(t *testing.T) {
	procs := controlGroups(t)
	enter := fmt.Sprintf("unset GOMEMLIMIT GOMAXPROCS; for p in %s; do echo $$ >$p; done; ", strings.Join(procs, " "))
	for shell, memory := range map[string]string{`exec "$@"`: "180MiB", `GOMEMLIMIT=150MiB exec "$@"`: "150MiB"} {
		want := fmt.Sprintf("gomaxprocs=%d memory_limit=%s", min(2, runtime.NumCPU()), memory)
		if line := serving(t, enter+shell); !strings.Contains(line, want) {
			t.Errorf("want %s, got %s", want, line)
		}
	}
}

// set writes a value into a file that must be there.
func set(file, value string) error {
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteString(value)
	return err
}

// controlGroups makes the groups that limit a process to two processors and
// 200 MiB, and returns the files through which it enters them. With version 2
// it is one group, with version 1 one for each controller.
func controlGroups(t *testing.T) (procs []string) {
	t.Helper()
	for _, limits := range []map[string]string{
		{"/sys/fs/cgroup/@/cpu.max": "200000 100000", "/sys/fs/cgroup/@/memory.max": "200M"},
		{"/sys/fs/cgroup/cpu/@/cpu.cfs_quota_us": "200000", "/sys/fs/cgroup/memory/@/memory.limit_in_bytes": "200M"},
	} {
		procs = nil
		for file, limit := range limits {
			file = strings.Replace(file, "@", fmt.Sprintf("audit-milter-test-%d", os.Getpid()), 1)
			group := filepath.Dir(file)
			if os.Mkdir(group, 0o755) == nil {
				t.Cleanup(func() { os.Remove(group) })
			}
			if err := set(file, limit); err == nil {
				procs = append(procs, filepath.Join(group, "cgroup.procs"))
			}
		}
		if len(procs) == len(limits) {
			return procs
		}
	}
	t.Skip("no control group can be made: that needs root, and the controllers cpu and memory")
	return nil
}

package main

import (
	"bytes"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/audit-milter/audit-milter/internal/admin"
)

// onSmallDisk runs the daemon, again and again, with a state_dir of one megabyte.
const onSmallDisk = `mount --make-rprivate / && mkdir state && mount -t tmpfs -o size=1m none state || exit
while :; do audit-milter serve --config policy.yaml; done`

// While state_dir has no room everything is counted and answered, and said to be in
// danger; once there is room it is safe again, all of it.
func TestAFullDiskCostsDurabilityAlone(t *testing.T) {
	m := &mortal{T: t, dir: t.TempDir()}
	m.write(crashing)
	m.cmd = exec.Command("sh", "-c", onSmallDisk)
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Cloneflags: syscall.CLONE_NEWNS}
	if os.Getuid() != 0 {
		m.cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		m.cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
		m.cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	printed := m.run()
	t.Cleanup(func() { syscall.Kill(-m.cmd.Process.Pid, syscall.SIGKILL) })
	m.serves(printed)

	disk := filepath.Join("/proc", strconv.Itoa(m.cmd.Process.Pid), "root", m.dir, "state")
	filler, err := os.Create(filepath.Join(disk, "filler"))
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = filler.Write(make([]byte, 4096))
	}
	filler.Close()
	m.addsUntil("state: writing fails")
	if err := os.Remove(filler.Name()); err != nil {
		t.Fatal(err)
	}
	m.addsUntil("state: writing works again")

	want := m.counts("users")
	time.Sleep(durable)
	lock, err := os.ReadFile(filepath.Join(disk, "lock"))
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(string(bytes.TrimSpace(lock)))
	if err != nil {
		t.Fatal(err)
	}
	syscall.Kill(pid, syscall.SIGKILL)
	m.serves(printed)
	if got := m.counts("users"); !maps.Equal(got, want) {
		t.Errorf("there are %v, and were %v", got, want)
	}
}

// addsUntil adds until the log says something.
func (m *mortal) addsUntil(says string) {
	m.Helper()
	for begun := time.Now(); !bytes.Contains(m.log(), []byte(says)); time.Sleep(10 * time.Millisecond) {
		one, asked := int64(1), time.Now()
		if !m.post("/api/v1/add", admin.Add{Series: "users", Key: "alice", Count: &one}) || time.Since(asked) > time.Second {
			m.Fatalf("an add took %s, or was not answered", time.Since(asked))
		}
		if time.Since(begun) > 30*time.Second {
			m.Fatalf("the log does not say %q:\n%s", says, m.log())
		}
	}
}

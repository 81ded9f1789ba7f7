package history

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/audit-milter/audit-milter/internal/deltas"
	"github.com/audit-milter/audit-milter/series"
)

const nobody = 65534

// needsRoot is for what only root can do.
func needsRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("giving files to another user needs root")
	}
}

// asNobody does something in a thread that has the rights of another user on files.
func asNobody(t *testing.T, do func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // which ends with the goroutine
		if err := unix.Setfsuid(nobody); err != nil {
			t.Error(err)
			return
		}
		do()
	}()
	<-done
}

func TestWhatRootMakesBelongsToTheOwnerOfTheDirectory(t *testing.T) {
	needsRoot(t)
	dir := t.TempDir()
	if err := os.Chown(dir, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		load(t, dir, Meta{Series: "users", Type: series.String, Node: "mx1"}, Record{Row{"a", someDay.Unix(), 1}, 300})
	}
	newTicks(t, Options{Dir: dir}).w.Close()
	age(t, dir, someDay)
	m, _ := maintainer(dir)
	m.must(t, someDay.Add(3*day))
	found := 0
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		found++
		info, err := e.Info()
		if s := info.Sys().(*syscall.Stat_t); s.Uid != nobody || s.Gid != nobody {
			t.Errorf("%s belongs to %d:%d", path, s.Uid, s.Gid)
		}
		return err
	})
	if err != nil || found != 7 { // the directory, the lock, the names, the series, and three files
		t.Errorf("found %d, %v", found, err)
	}
}

func TestASeriesThatCannotBeReadIsSaidAndKeepsNothingElseBack(t *testing.T) {
	needsRoot(t)
	dir := t.TempDir()
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	c := plain("c", time.Hour)
	c.Persist = true
	f := newTicks(t, Options{Dir: dir})
	journal := []*deltas.Batch{f.take(0, c, adds("192.0.2.1", someDay, 3))}
	f.w.Close()
	written(t, dir, "roots", "mx1", someDay, time.Hour, 1, []Row{{Key: "192.0.2.1", Count: 1}})
	if err := os.Chmod(seriesDir(dir, "roots"), 0o700); err != nil {
		t.Fatal(err)
	}
	var log recordedLog
	asNobody(t, func() { replay(t, Options{Dir: dir, Log: log.logger()}, journal) })
	readTotals(t, dir).want(t, totals{`c "192.0.2.1" 1795910400`: 3, `roots "192.0.2.1" 1795910400`: 1})
	if log.count("level=ERROR") != 1 || log.count(seriesDir(dir, "roots")+": permission denied") != 1 {
		t.Errorf("logged %s", log.text.String())
	}
	if err := os.Chmod(dir, 0o777); err != nil { // for the lock
		t.Fatal(err)
	}
	m, _ := maintainer(dir)
	asNobody(t, func() {
		err := m.Once(context.Background(), someDay)
		if err == nil || !strings.Contains(err.Error(), seriesDir(dir, "roots")) || m.Stats().Files != 1 {
			t.Errorf("the error is %v, stats %+v", err, m.Stats())
		}
	})
}

// A history that cannot be read is no reason not to serve; only others are not kept out.
func TestADirectoryThatCannotBeReadIsNotHeld(t *testing.T) {
	needsRoot(t)
	dir := t.TempDir()
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	asNobody(t, func() {
		if f, err := Hold(dir); f != nil || err != nil {
			t.Errorf("%v, %v", f, err)
		}
	})
	f, err := Hold(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := Hold(dir); err == nil {
		t.Error("two hold it")
	}
}

// What cannot be deleted keeps nothing else that is too old, and costs nothing newer its place.
func TestADirectoryThatNothingCanBeDeletedFromKeepsNothingElse(t *testing.T) {
	needsRoot(t)
	dir := t.TempDir()
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	for i, of := range []string{"roots", "s"} {
		for hour := range 3 {
			start := someDay.Add(time.Duration(hour*10+i) * time.Hour)
			written(t, dir, of, "mx1", start, time.Hour, 1, []Row{{Key: "192.0.2.1", Count: 1}})
		}
	}
	for path, mode := range map[string]os.FileMode{dir: 0o777, seriesDir(dir, "s"): 0o777, seriesDir(dir, "roots"): 0o755} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	m, _ := maintainer(dir)
	pass := func(left int) {
		t.Helper()
		asNobody(t, func() {
			err := m.Once(t.Context(), someDay.Add(day))
			if err == nil || strings.Count(err.Error(), "permission denied") != 1 || len(fileNames(t, dir, "s")) != left {
				t.Errorf("there are %v, and the error is %v", fileNames(t, dir, "s"), err)
			}
		})
	}
	m.MaxSize = 1
	pass(3)
	m.MaxSize, m.Retention = 0, 10*time.Hour
	pass(1)
}

package history

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

// smallDisk is a directory with room for so many bytes.
func smallDisk(t *testing.T, size int) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", size)); err != nil {
		t.Skipf("mounting a small disk needs root: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func TestNothingIsLostWhileADiskIsFull(t *testing.T) {
	dir := smallDisk(t, 512<<10)
	filler := filepath.Join(dir, "filler")
	bubble(t, func(t *testing.T) {
		var log recordedLog
		f := newTicks(t, Options{Dir: dir, Log: log.logger()})
		if err := os.WriteFile(filler, make([]byte, 1<<20), 0o600); err == nil {
			t.Fatal("the disk is not full")
		}
		want := make(totals)
		for i := range int64(5) {
			key, window := fmt.Sprintf("192.0.2.%d", i), f.now.Truncate(time.Minute)
			f.take(0, plain("c", time.Minute), adds(key, window, i+1))
			want.add("c", key, window.Unix(), i+1)
			f.take(75*time.Second, plain("c", time.Minute))
		}
		synctest.Wait()
		if !f.w.Stats().Failing || log.count("no space left on device") != 1 {
			t.Errorf("stats are %+v; logged %s", f.w.Stats(), log.text.String())
		}
		if err := f.w.Recover(); err == nil {
			t.Error("no error says that the disk is full")
		}
		readTotals(t, dir).want(t, totals{})
		if err := os.Remove(filler); err != nil {
			t.Fatal(err)
		}
		time.Sleep(retryAfter)
		synctest.Wait()
		f.w.Close()
		readTotals(t, dir).want(t, want)
	})
}

func TestMergingOnAFullDiskLosesNothing(t *testing.T) {
	dir := smallDisk(t, 256<<10)
	want := make(totals)
	for i := range int64(12) {
		start := someDay.Add(time.Duration(i) * time.Hour)
		written(t, dir, "s", "mx1", start, time.Hour, uint64(i), []Row{{Key: "a", Count: i + 1}})
		want.add("s", "a", start.Unix(), i+1)
	}
	age(t, dir, someDay)
	filler := filepath.Join(dir, "filler")
	if err := os.WriteFile(filler, make([]byte, 1<<20), 0o600); err == nil {
		t.Fatal("the disk is not full")
	}
	m, _ := maintainer(dir)
	if err := m.Once(t.Context(), someDay.Add(2*day)); err == nil {
		t.Error("no error says that the disk is full")
	}
	readTotals(t, dir).want(t, want)
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	m.must(t, someDay.Add(2*day))
	readTotals(t, dir).want(t, want)
}

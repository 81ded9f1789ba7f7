package state

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/audit-milter/audit-milter/internal/deltas"
	"github.com/audit-milter/audit-milter/internal/short"
	"github.com/audit-milter/audit-milter/series"
)

// alone runs the test once more, in a process that may mount, and reports whether this
// is that process.
func alone(t *testing.T) bool {
	t.Helper()
	const variable = "STATE_TEST_MOUNTS"
	if os.Getenv(variable) != "" {
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			t.Fatal(err)
		}
		return true
	}
	c := exec.Command(os.Args[0], "-test.v", "-test.run=^"+t.Name()+"$")
	c.Env = append(os.Environ(), variable+"=1")
	c.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWNS | syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
	}
	if os.Getuid() == 0 {
		c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	}
	out, err := c.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("%v\n%s", err, out)
	}
	return false
}

// mounted is a file system in memory of this size.
func mounted(t *testing.T, size string, flags uintptr) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("none", dir, "tmpfs", flags, "size="+size); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

// fill leaves no room on the file system; its end gives the room back.
func fill(t *testing.T, dir string) (end func()) {
	t.Helper()
	path := filepath.Join(dir, "filler")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for block := make([]byte, 4096); err == nil; {
		_, err = f.Write(block)
	}
	return func() {
		if err := os.Remove(path); err != nil {
			t.Error(err)
		}
	}
}

func TestAFullDiskLosesNothingOnceThereIsRoomAgain(t *testing.T) {
	if !alone(t) {
		return
	}
	dir := mounted(t, "1m", 0)
	n := newNode()
	counter := n.kept[1].Counter.(*series.Series)
	count := func(from int) {
		for i := range 100 {
			counter.Add(key(from+i), 1, n.now)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		var log logged
		s, _ := log.mustOpen(t, dir)
		s.Take(n.tick(true, 1000))
		for round := range 3 { // in the last one a snapshot begins, with a file of its own
			synctest.Wait()
			end := fill(t, dir)
			for i := range 30 {
				count(100 * i)
				s.Take(n.tick(round == 2 && i == 5, 1000))
			}
			time.Sleep(time.Second)
			if stats := s.Stats(); !stats.Failing || stats.Waiting == 0 {
				t.Errorf("the disk is full, and the stats say %+v", stats)
			}
			end()
			time.Sleep(time.Second)
			if stats := s.Stats(); stats.Failing || stats.Waiting > 0 || stats.LostBatches > 0 || stats.Synced != n.number {
				t.Errorf("there is room, and the stats say %+v, %d batches were taken", stats, n.number)
			}
		}
		if said := log.String(); strings.Count(said, "writing fails") != 3 || strings.Count(said, "no space left") != 3 || strings.Count(said, "works again") != 3 {
			t.Errorf("logged %s", said)
		}
		mustClose(t, s)
	})
	n.mustBeIn(t, dir)
}

// The disk has room for the header of a file and not for the snapshot's first batch.
func TestASegmentThatCouldNotBeBegunIsBegunAgain(t *testing.T) {
	if !alone(t) {
		return
	}
	dir := mounted(t, "1m", 0)
	n := newNode()
	for i := range 1000 {
		n.kept[1].Counter.(*series.Series).Add(key(i), 1, n.now)
	}
	synctest.Test(t, func(t *testing.T) {
		s, _ := mustOpen(t, dir)
		end := fill(t, dir)
		filler := filepath.Join(dir, "filler")
		info, err := os.Stat(filler)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(filler, info.Size()-4096); err != nil {
			t.Fatal(err)
		}
		s.Take(n.tick(true, 10_000))
		time.Sleep(2 * time.Second)
		if segments, _ := list(dir); len(segments) != 1 || !s.Stats().Failing {
			t.Errorf("segments %v; failing: %v", segments, s.Stats().Failing)
		}
		end()
		time.Sleep(time.Second)
		if s.Stats().Failing || s.Stats().Synced != n.number {
			t.Errorf("there is room, and the stats say %+v", s.Stats())
		}
		mustClose(t, s)
	})
	n.mustBeIn(t, dir)
}

// While nothing can be written, no more than 64 MiB wait. What is lost then, a
// snapshot brings back as soon as there is room.
func TestASnapshotMakesUpForWhatHadNoRoom(t *testing.T) {
	if !alone(t) {
		return
	}
	dir := mounted(t, "200m", 0)
	n := newNode()
	counter := n.kept[1].Counter.(*series.Series)
	synctest.Test(t, func(t *testing.T) {
		var log logged
		s, _ := log.mustOpen(t, dir)
		if !s.WantsSnapshot() {
			t.Error("wants no snapshot to begin with")
		}
		s.Take(n.tick(true, 1000))
		if s.WantsSnapshot() {
			t.Error("wants another snapshot at once")
		}
		synctest.Wait()
		end := fill(t, dir)
		large := series.Delta{Key: series.TextKey(strings.Repeat("x", 250)), Start: n.now.Unix(), Amount: 1}
		other := large
		other.Key = series.TextKey(strings.Repeat("y", 250))
		for range 80 {
			b := &deltas.Batch{Number: n.number + 1, Now: n.now, Series: []deltas.Series{{Kept: n.kept[1]}}}
			for range 2000 { // a MiB
				b.Series[0].Deltas = append(b.Series[0].Deltas, large, other)
			}
			n.number++
			counter.Add(large.Key, 2000, n.now)
			counter.Add(other.Key, 2000, n.now)
			counter.Deltas(func(series.Delta) {}) // they are in b
			s.Take(b)
		}
		time.Sleep(2 * time.Second)
		stats := s.Stats()
		if stats.Waiting > maxWaiting || stats.Waiting < maxWaiting*9/10 || stats.LostBatches < 10 || stats.LostDeltas != 4000*stats.LostBatches {
			t.Errorf("the disk is full, and the stats say %+v", stats)
		}
		if s.WantsSnapshot() {
			t.Error("wants a snapshot while the disk is full")
		}
		end()
		time.Sleep(time.Second)
		if !s.WantsSnapshot() {
			t.Error("wants no snapshot after batches were lost")
		}
		s.Take(n.tick(true, 1000))
		s.Take(n.tick(false, 0))
		if s.WantsSnapshot() {
			t.Error("wants another snapshot at once")
		}
		if said := log.String(); strings.Count(said, "lost_deltas") != 1 {
			t.Errorf("logged %s", said)
		}
		mustClose(t, s)
	})
	n.mustBeIn(t, dir)
}

// /dev/null stands for the file: it cannot be synced.
func TestAfterASyncThatFailedASnapshotIsWanted(t *testing.T) {
	dir := t.TempDir()
	n := newNode()
	synctest.Test(t, func(t *testing.T) {
		var log logged
		s, _ := log.mustOpen(t, dir)
		null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer null.Close()
		s.Take(n.tick(true, 1000))
		synctest.Wait()
		file := s.writer.file
		use := func(f *os.File) {
			s.mu.Lock() // before it looks at the file, the goroutine that writes locks it too
			s.writer.file = f
			s.mu.Unlock()
		}
		use(null)
		time.Sleep(time.Second)
		if !s.Stats().Failing || s.Stats().Synced != 0 {
			t.Errorf("the sync failed, and the stats say %+v", s.Stats())
		}
		s.Take(n.tick(false, 0))
		synctest.Wait()
		if strings.Contains(log.String(), "works again") {
			t.Errorf("what is written cannot be synced, and it was logged that %s", log.String())
		}
		use(file)
		time.Sleep(time.Second)
		if s.Stats().Failing || !s.WantsSnapshot() {
			t.Errorf("syncs work again; wants a snapshot: %v", s.WantsSnapshot())
		}
		if !s.Stats().SnapshotAt.IsZero() {
			t.Error("the snapshot counts as whole, though a sync of it failed")
		}
		s.Take(n.tick(true, 1000))
		time.Sleep(time.Second)
		if s.WantsSnapshot() || s.Stats().SnapshotAt.IsZero() {
			t.Errorf("a snapshot is there; wants another: %v", s.WantsSnapshot())
		}
		mustClose(t, s)
	})
}

func TestALongJournalWantsASnapshotButNotAtOnceAgain(t *testing.T) {
	short.Skip(t)
	dir := t.TempDir()
	n := newNode()
	synctest.Test(t, func(t *testing.T) {
		s, _ := mustOpen(t, dir)
		take := func(begin bool, bytes int) {
			b := n.tick(begin, 1000)
			for range bytes / 250 {
				d := series.Delta{Key: series.TextKey(strings.Repeat("x", 243) + fmt.Sprint(len(b.Series[1].Deltas)%10)), Start: n.now.Unix(), Amount: 1}
				b.Series[1].Deltas = append(b.Series[1].Deltas, d)
			}
			s.Take(b)
			time.Sleep(time.Second)
		}
		take(true, 1<<20)
		take(false, 1<<20)
		time.Sleep(time.Minute)
		if s.WantsSnapshot() {
			t.Error("wants a snapshot behind 1 MiB")
		}
		take(false, 2<<20)
		if !s.WantsSnapshot() {
			t.Error("wants no snapshot behind 3 MiB")
		}
		take(true, 40<<20)
		take(false, 4<<20)
		time.Sleep(time.Minute)
		if s.WantsSnapshot() {
			t.Error("wants a snapshot behind 4 MiB, when one has 40")
		}
		take(true, 0)
		take(false, 20<<20)
		if s.WantsSnapshot() {
			t.Error("wants a snapshot within 20 seconds")
		}
		time.Sleep(20 * time.Second)
		if !s.WantsSnapshot() {
			t.Error("wants no snapshot after 20 seconds")
		}
		mustClose(t, s)
	})
}

// What is there is restored from a disk that takes nothing, and what was counted
// meanwhile is kept once it does.
func TestAReadOnlyDiskCostsOnlyDurability(t *testing.T) {
	if !alone(t) {
		return
	}
	dir := mounted(t, "4m", 0)
	remount := func(flags uintptr) {
		if err := unix.Mount("none", dir, "tmpfs", unix.MS_REMOUNT|flags, ""); err != nil {
			t.Fatal(err)
		}
	}
	n := newNode()
	s, _ := mustOpen(t, dir)
	n.kept[1].Counter.(*series.Series).Add(key(1), 7, n.now)
	s.Take(n.tick(true, 1000))
	mustClose(t, s)
	synctest.Test(t, func(t *testing.T) {
		remount(unix.MS_RDONLY)
		var log logged
		s, restored, err := Open(dir, log.options())
		if err != nil {
			t.Fatal(err)
		}
		if got, want := told(restored.Series, restored.Penalties, n.now), n.told(); got != want {
			t.Errorf("restored\n%s\nwant\n%s", got, want)
		}
		n.kept[1].Counter.(*series.Series).Add(key(2), 7, n.now)
		s.Take(n.tick(true, 1000))
		time.Sleep(2 * time.Second)
		if said := log.String(); !s.Stats().Failing || strings.Count(said, "read-only file system") != 1 {
			t.Errorf("failing: %v, logged %s", s.Stats().Failing, said)
		}
		remount(0)
		time.Sleep(2 * time.Second)
		mustClose(t, s)
	})
	n.mustBeIn(t, dir)
}

func TestADirectoryThatCannotBeMadeIsRefused(t *testing.T) {
	if !alone(t) {
		return
	}
	dir := mounted(t, "1m", unix.MS_RDONLY)
	_, _, err := Open(filepath.Join(dir, "state"), new(logged).options())
	if err == nil || !strings.Contains(err.Error(), "read-only file system") || !strings.Contains(err.Error(), "state directory") {
		t.Errorf("error %v", err)
	}
}

// A first start on a disk that takes nothing has no file to lock.
func TestTwoProcessesAfterADiskIsWritableAgain(t *testing.T) {
	if !alone(t) {
		return
	}
	dir := mounted(t, "1m", unix.MS_RDONLY)
	n := newNode()
	synctest.Test(t, func(t *testing.T) {
		s, _, err := Open(dir, new(logged).options())
		if err != nil {
			t.Fatal(err)
		}
		defer mustClose(t, s)
		s.Take(n.tick(true, 1000))
		if err := unix.Mount("none", dir, "tmpfs", unix.MS_REMOUNT, ""); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if _, _, err := Open(dir, new(logged).options()); err == nil || !strings.Contains(err.Error(), "is in use by process") {
			t.Errorf("a second one: %v", err)
		}
	})
}

// Where no lock can be made, as in a directory of another user, that is what is told: not
// that somebody else has the directory, which is this process itself.
func TestALockThatCannotBeMade(t *testing.T) {
	dir := t.TempDir()
	if err := os.Symlink("lock", filepath.Join(dir, "lock")); err != nil { // which not even root can open
		t.Fatal(err)
	}
	n := newNode()
	synctest.Test(t, func(t *testing.T) {
		var log logged
		s, _ := log.mustOpen(t, dir)
		s.Take(n.tick(true, 1000))
		time.Sleep(time.Second)
		if said := log.String(); !strings.Contains(said, unix.ELOOP.Error()) || strings.Contains(said, "in use") {
			t.Errorf("logged %s", said)
		}
		if err := os.Remove(filepath.Join(dir, "lock")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if _, _, err := Open(dir, new(logged).options()); err == nil || !strings.Contains(err.Error(), "is in use by process") {
			t.Errorf("a second one: %v", err)
		}
		mustClose(t, s)
	})
	n.mustBeIn(t, dir)
}

// A directory that was removed is made again, with all that there is.
func TestADirectoryThatVanishesIsMadeAgain(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	n := newNode()
	synctest.Test(t, func(t *testing.T) {
		var log logged
		s, _ := log.mustOpen(t, dir)
		n.kept[1].Counter.(*series.Series).Add(key(1), 7, n.now)
		s.Take(n.tick(true, 1000))
		time.Sleep(time.Second)
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		n.kept[1].Counter.(*series.Series).Add(key(2), 7, n.now)
		s.Take(n.tick(false, 1000))
		time.Sleep(time.Second)
		if said := log.String(); !strings.Contains(said, "has gone") || !s.Stats().Failing && !s.WantsSnapshot() {
			t.Errorf("%+v, logged %s", s.Stats(), said)
		}
		time.Sleep(time.Second)
		if !s.WantsSnapshot() {
			t.Error("nothing makes up for what was lost")
		}
		s.Take(n.tick(true, 1000))
		time.Sleep(time.Second)
		if _, _, err := Open(dir, log.options()); err == nil || !strings.Contains(err.Error(), "is in use by process") {
			t.Errorf("a second one: %v", err)
		}
		mustClose(t, s)
	})
	n.mustBeIn(t, dir)
}

// Whoever closes is told that something is missing.
func TestCloseSaysWhatIsLost(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	n := newNode()
	synctest.Test(t, func(t *testing.T) {
		s, _ := mustOpen(t, dir)
		s.Take(n.tick(true, 1000))
		time.Sleep(time.Second)
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if err := s.Close(); err == nil || !strings.Contains(err.Error(), "no snapshot has been completed since") {
			t.Errorf("error %v", err)
		}
	})
}

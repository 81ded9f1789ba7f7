package history

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

// damages are what may happen to a file, by what it does.
var damages = map[string]func(path string, whole []byte) error{
	"empty":     func(path string, _ []byte) error { return os.WriteFile(path, nil, 0o600) },
	"truncated": func(path string, whole []byte) error { return os.WriteFile(path, whole[:len(whole)/2], 0o600) },
	"no rows": func(path string, whole []byte) error { // but what stands behind them
		footer := len(whole) - 8 - int(binary.LittleEndian.Uint32(whole[len(whole)-8:]))
		return os.WriteFile(path, append(append([]byte("PAR1"), make([]byte, footer-4)...), whole[footer:]...), 0o600)
	},
	"a link to nowhere": func(path string, _ []byte) error {
		if err := os.Remove(path); err != nil {
			return err
		}
		return os.Symlink("nowhere", path)
	},
}

// hours writes some windows of a day, one file each, which age lets be old.
func hours(t *testing.T, dir, of string, begin time.Time, n int, want totals) {
	t.Helper()
	for i := range n {
		start := begin.Add(time.Duration(i) * time.Hour)
		written(t, dir, of, "mx1", start, time.Hour, uint64(i+1), []Row{{Key: "192.0.2.1", Count: 1}})
		want.add(of, "192.0.2.1", start.Unix(), 1)
	}
}

// damage damages a file, and returns what it was.
func damage(t *testing.T, path string, how func(string, []byte) error) (whole []byte) {
	t.Helper()
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := how(path, whole); err != nil {
		t.Fatal(err)
	}
	os.Chtimes(path, someDay, someDay) // a link has no place for it
	return whole
}

// A file that is damaged, merged or not, is left as it is, and everything else is merged
// and deleted. Questions over it say so; what it had counts again when it is put back.
func TestADamagedFileKeepsNothingElseBack(t *testing.T) {
	for what, how := range damages {
		for _, merged := range []bool{false, true} {
			if merged && what == "no rows" {
				continue // which nobody reads, unless it is merged again
			}
			t.Run(fmt.Sprintf("%s, merged: %v", what, merged), func(t *testing.T) {
				dir, want := t.TempDir(), make(totals)
				m, _ := maintainer(dir)
				hours(t, dir, "s", someDay, 4, want)
				age(t, dir, someDay)
				if merged {
					m.must(t, someDay.Add(2*day)) // beside it those that it replaced are left
				}
				names := fileNames(t, dir, "s")
				path := filepath.Join(seriesDir(dir, "s"), names[0].String())
				for _, n := range names {
					if n.Level > 0 {
						path = filepath.Join(seriesDir(dir, "s"), n.String())
					}
				}
				whole := damage(t, path, how)
				hours(t, dir, "s", someDay.Add(3*day), 4, want)
				age(t, dir, someDay)

				for i := range 3 {
					err := m.Once(t.Context(), someDay.Add(5*day+time.Duration(i)*time.Hour))
					if err == nil || !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "\n") || !m.Stats().Failing {
						t.Errorf("the error is %v, stats %+v", err, m.Stats())
					}
					age(t, dir, someDay)
				}
				days := make(map[string]int)
				for _, n := range fileNames(t, dir, "s") {
					days[n.First.Format("02")]++
				}
				wantDays := "map[02:1 29:2]" // the damaged one, and what became of the others
				if merged {
					wantDays = "map[02:1 29:5]" // what it replaced is left, since it may have to stand for it
				}
				if fmt.Sprint(days) != wantDays {
					t.Errorf("there are files of the days %v, want %v", days, wantDays)
				}
				_, err := Query{Series: []string{"s"}}.Run(dir)
				if err == nil || !strings.Contains(err.Error(), path+": ") || !strings.Contains(err.Error(), "move it to another place") {
					t.Errorf("a question over it says %v", err)
				}
				if _, err := (Query{Series: []string{"s"}, From: someDay.Add(3 * day)}).Run(dir); err != nil {
					t.Errorf("a question that does not need it says %v", err)
				}

				if err := os.Remove(path); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, whole, 0o600); err != nil {
					t.Fatal(err)
				}
				age(t, dir, someDay)
				for range 2 {
					m.must(t, someDay.Add(6*day))
					readTotals(t, dir).want(t, want)
					age(t, dir, someDay)
				}
				if n := len(fileNames(t, dir, "s")); n != 2 || m.Stats().Failing {
					t.Errorf("there are %d files, want one for each day; stats %+v", n, m.Stats())
				}
			})
		}
	}
}

// Once a damaged merged file has been moved away, what it replaced counts, as far as it is
// still there.
func TestWhatADamagedFileReplacedCountsInItsPlace(t *testing.T) {
	dir, want := t.TempDir(), make(totals)
	m, _ := maintainer(dir)
	hours(t, dir, "s", someDay, 4, want)
	age(t, dir, someDay)
	m.must(t, someDay.Add(2*day))
	for _, n := range fileNames(t, dir, "s") {
		if path := filepath.Join(seriesDir(dir, "s"), n.String()); n.Level > 0 {
			damage(t, path, damages["truncated"])
			age(t, dir, someDay)
			m.Once(t.Context(), someDay.Add(3*day))
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		}
	}
	readTotals(t, dir).want(t, want)
	m.must(t, someDay.Add(3*day))
	readTotals(t, dir).want(t, want)
}

func TestADamagedFileGoesWithTheRetention(t *testing.T) {
	for what, how := range damages {
		dir, want := t.TempDir(), make(totals)
		m, _ := maintainer(dir)
		hours(t, dir, "s", someDay, 4, want)
		age(t, dir, someDay)
		m.must(t, someDay.Add(2*day))
		for _, n := range fileNames(t, dir, "s") {
			if n.Level > 0 {
				damage(t, filepath.Join(seriesDir(dir, "s"), n.String()), how)
			}
		}
		age(t, dir, someDay)
		m.Retention = day
		if err := m.Once(t.Context(), someDay.Add(3*day)); err != nil || len(fileNames(t, dir, "s")) > 0 {
			t.Errorf("%s: %v is left, and the error is %v", what, fileNames(t, dir, "s"), err)
		}
	}
}

// maintained lets a history be maintained, pass after pass, long after whatever the host's
// clock writes at files.
func maintained(t *testing.T, dir string) (log *recordedLog, end func()) {
	ctx, cancel := context.WithCancel(t.Context())
	m, log := maintainer(dir)
	m.Now = func() time.Time { return someDay.AddDate(100, 0, 0) }
	ended := make(chan struct{})
	go func() { m.Run(ctx); close(ended) }()
	return log, func() {
		cancel()
		<-ended
	}
}

func TestTheLogTellsOnceOfAFileThatCannotBeRead(t *testing.T) {
	dir := t.TempDir()
	hours(t, dir, "s", someDay, 4, make(totals))
	path := filepath.Join(seriesDir(dir, "s"), fileNames(t, dir, "s")[0].String())
	whole := damage(t, path, damages["truncated"])
	age(t, dir, someDay)
	bubble(t, func(t *testing.T) {
		log, end := maintained(t, dir)
		defer end()
		told := func(want int) {
			t.Helper()
			time.Sleep(3 * pass)
			synctest.Wait()
			if log.count("level=ERROR") != want || log.count(path) != want {
				t.Errorf("logged %s", log.text.String())
			}
		}
		told(1)
		if err := os.WriteFile(path, whole, 0o600); err != nil {
			t.Fatal(err)
		}
		told(1)
		log.text.Reset()
		path = filepath.Join(seriesDir(dir, "s"), fileNames(t, dir, "s")[0].String()) // that it became
		damage(t, path, damages["empty"])
		told(1)
	})
}

func TestOfManyFilesThatCannotBeReadTheLogNamesSome(t *testing.T) {
	dir := t.TempDir()
	hours(t, dir, "a", someDay, mostTold+3, make(totals))
	if err := os.Rename(seriesDir(dir, "a"), seriesDir(dir, "b")); err != nil {
		t.Fatal(err)
	}
	age(t, dir, someDay)
	bubble(t, func(t *testing.T) {
		log, end := maintained(t, dir)
		defer end()
		time.Sleep(3 * pass)
		synctest.Wait()
		if log.count(".parquet") != mostTold || log.count("level=ERROR") != mostTold+1 || log.count(" files=3\n") != 1 {
			t.Errorf("logged %s", log.text.String())
		}
	})
}

// What is in the directory of another series, as after it was renamed, is merged into none.
func TestFilesOfAnotherSeriesAreLeftAlone(t *testing.T) {
	dir, want := t.TempDir(), make(totals)
	hours(t, dir, "a", someDay, 4, want)
	if err := os.Rename(seriesDir(dir, "a"), seriesDir(dir, "b")); err != nil {
		t.Fatal(err)
	}
	age(t, dir, someDay)
	m, _ := maintainer(dir)
	err := m.Once(t.Context(), someDay.Add(2*day))
	if text := `it is of the series "a" and belongs into the directory a`; err == nil || strings.Count(err.Error(), text) != 4 {
		t.Errorf("the error is %v", err)
	}
	if all, err := seriesIn(dir); fmt.Sprint(all) != "[b]" || err != nil || len(fileNames(t, dir, "b")) != 4 {
		t.Errorf("there are %v, %v, and of b %v", all, err, fileNames(t, dir, "b"))
	}
	if _, err := (Query{Series: []string{"b"}}).Run(dir); err == nil || !strings.Contains(err.Error(), `it is of the series "a"`) {
		t.Errorf("a question says %v", err)
	}
	if err := os.Rename(seriesDir(dir, "b"), seriesDir(dir, "a")); err != nil {
		t.Fatal(err)
	}
	m.must(t, someDay.Add(2*day))
	readTotals(t, dir).want(t, want)
}

// A series' directory may be on another disk.
func TestALinkToASeriesDirectoryIsFollowed(t *testing.T) {
	dir, want := t.TempDir(), make(totals)
	hours(t, dir, "s", someDay, 4, want)
	age(t, dir, someDay)
	elsewhere := filepath.Join(t.TempDir(), "elsewhere")
	if err := os.Rename(seriesDir(dir, "s"), elsewhere); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(elsewhere, seriesDir(dir, "s")); err != nil {
		t.Fatal(err)
	}
	if all, err := Available(dir); err != nil || len(all) != 1 || all[0].Files != 4 {
		t.Errorf("there are %v, %v", all, err)
	}
	m, _ := maintainer(dir)
	m.must(t, someDay.Add(2*day))
	if m.Stats().Merged != 4 {
		t.Errorf("stats are %+v", m.Stats())
	}
	readTotals(t, dir).want(t, want)
}

// Nobody waits for what a pipe might say.
func TestWhatIsNoFileIsPassedOver(t *testing.T) {
	dir, want := t.TempDir(), make(totals)
	hours(t, dir, "s", someDay, 4, want)
	name := func(level int) string { return Name{First: someDay, Last: someDay, Level: level, Node: "mx1"}.String() }
	if err := unix.Mkfifo(filepath.Join(seriesDir(dir, "s"), name(1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(seriesDir(dir, "s"), name(2)), 0o700); err != nil {
		t.Fatal(err)
	}
	age(t, dir, someDay)
	m, _ := maintainer(dir)
	m.must(t, someDay.Add(2*day))
	readTotals(t, dir).want(t, want)
	if a, err := (Query{Series: []string{"s"}}).Run(dir); err != nil || a.Total[0] != 4 {
		t.Errorf("the answer is %+v, %v", a, err)
	}
}

func TestOtherSeriesAreListedBesideADamagedOne(t *testing.T) {
	dir := t.TempDir()
	for _, of := range []string{"a", "b", "c"} {
		hours(t, dir, of, someDay, 1, make(totals))
	}
	path := filepath.Join(seriesDir(dir, "b"), fileNames(t, dir, "b")[0].String())
	damage(t, path, damages["empty"])
	all, err := Available(dir)
	if len(all) != 2 || err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("there are %v, %v", all, err)
	}
}

package state

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/audit-milter/audit-milter/series"
)

// journal is a directory's content and what it was made of: two segments with whole
// snapshots and a few batches behind each. Each batch counts one key of its own, so
// that a restart shows which batches it has found.
type journal struct {
	segments []segment
	content  [][]byte // of the segments
	batches  []written
	now      time.Time
}

// written is a batch in a journal.
type written struct {
	segment  int
	from, to int64 // where its record stands
	told     string
}

const perSegment = 12

func key(batch int) series.Key { return series.TextKey(fmt.Sprintf("batch %d", batch)) }

// makeJournal writes batches until the second snapshot is whole and some more stand
// behind it.
func makeJournal(t testing.TB) *journal {
	n, j, e := newNode(), new(journal), new(encoder)
	dir := t.TempDir()
	s, _ := mustOpen(t, dir)
	counter := n.kept[1].Counter.(*series.Series)
	for i := range 2 * perSegment {
		n.now = n.now.Add(time.Second)
		counter.Add(key(i), 1, n.now)
		begin := i%perSegment == 0
		b := n.tick(begin, 4)
		w := written{segment: i / perSegment, told: n.told()}
		if begin {
			w.from = headerLen
		} else {
			w.from = j.batches[i-1].to
		}
		w.to = w.from + int64(len(e.encode(b).bytes))
		j.batches = append(j.batches, w)
		s.Take(b)
	}
	mustClose(t, s)
	var err error
	if j.segments, err = list(dir); err != nil || len(j.segments) != 2 {
		t.Fatal(j.segments, err)
	}
	for i, segment := range j.segments {
		if err := segment.survey(dir); err != nil || !segment.complete {
			t.Fatal("a snapshot is not whole: ", i, err)
		}
		content, err := os.ReadFile(segment.path(dir))
		if err != nil {
			t.Fatal(err)
		}
		j.content = append(j.content, content)
	}
	j.now = n.now
	return j
}

// open restores the journal after something was done to the content of one segment.
func (j *journal) open(t testing.TB, damaged int, content []byte) (Restored, string) {
	t.Helper()
	dir := t.TempDir()
	for i, segment := range j.segments {
		c := j.content[i]
		if i == damaged {
			c = content
		}
		if err := os.WriteFile(segment.path(dir), c, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var log logged
	s, restored, err := Open(dir, log.options())
	if err != nil {
		t.Fatal(err)
	}
	mustClose(t, s)
	return restored, log.String()
}

// counts are those of each batch's key.
func (j *journal) counts(r Restored) []int64 {
	counts := make([]int64, len(j.batches))
	for _, l := range r.Series {
		if l.Definition.Name == byText.Name {
			for i := range counts {
				counts[i] = l.Counter.Count(key(i), series.Host, 0, 2, j.now)
			}
		}
	}
	return counts
}

func TestAJournalThatIsCutAnywhereGivesTheStateOfItsLastWholeBatch(t *testing.T) {
	j := makeJournal(t)
	last := j.content[1]
	for size := range len(last) {
		want := perSegment - 1 // the first segment's last one
		for i := perSegment; i < len(j.batches) && j.batches[i].to <= int64(size); i++ {
			want = i
		}
		restored, log := j.open(t, 1, last[:size])
		if got := told(restored.Series, restored.Penalties, restored.Until); got != j.batches[want].told {
			t.Fatalf("cut to %d bytes: restored\n%s\nwant batch %d:\n%s", size, got, want, j.batches[want].told)
		}
		empty := size == 0 || size == headerLen
		if warned := strings.Contains(log, "has no batch"); warned != empty {
			t.Fatalf("cut to %d bytes: logged %q", size, log)
		}
		whole := empty || int64(size) == j.batches[want].to
		if warned := strings.Contains(log, "left out"); warned == whole {
			t.Fatalf("cut to %d bytes: logged %q", size, log)
		}
	}
}

// What stands in a damaged snapshot, the one before and the batches since then tell
// too. Only what was counted in the very batch is lost.
func TestAFlippedByteLosesNoMoreThanItsBatch(t *testing.T) {
	j := makeJournal(t)
	for at := range len(j.content[1]) {
		content := bytes.Clone(j.content[1])
		content[at] ^= 0x10
		restored, log := j.open(t, 1, content)
		for i, n := range j.counts(restored) {
			b := j.batches[i]
			want := int64(1)
			if b.segment == 1 && b.from <= int64(at) && int64(at) < b.to {
				want = 0
			}
			if n != want {
				t.Fatalf("byte %d flipped: batch %d counts %d, want %d", at, i, n, want)
			}
		}
		if !strings.Contains(log, "left out") {
			t.Fatalf("byte %d flipped: logged %q", at, log)
		}
	}
}

// Whatever is cut off and flipped: what was restored was counted, and once; batches
// that are whole are there, as long as one snapshot is.
func FuzzDamage(f *testing.F) {
	j := makeJournal(f)
	f.Add(uint8(1), uint16(20), uint16(3), uint8(0xff), uint16(5))
	f.Add(uint8(0), uint16(2000), uint16(40), uint8(1), uint16(0))
	f.Fuzz(func(t *testing.T, which uint8, at, length uint16, flip uint8, cut uint16) {
		segment := int(which % 2)
		content := bytes.Clone(j.content[segment])
		from := int(at) % len(content)
		to := min(from+int(length), len(content))
		for i := range content[from:to] {
			content[from+i] ^= flip
		}
		content = content[:len(content)-int(cut)%len(content)]
		restored, _ := j.open(t, segment, content)
		for i, n := range j.counts(restored) {
			b := j.batches[i]
			whole := b.segment != segment || b.to <= int64(len(content)) &&
				bytes.Equal(content[b.from:b.to], j.content[segment][b.from:b.to])
			if n < 0 || n > 1 || whole && n == 0 {
				t.Errorf("batch %d counts %d; its record is whole: %v", i, n, whole)
			}
		}
	})
}

func TestASegmentOfAnotherFormatIsRefused(t *testing.T) {
	dir := t.TempDir()
	s, _ := mustOpen(t, dir)
	s.Take(newNode().tick(true, 1000))
	mustClose(t, s)
	h := headerOf(7)
	path := segment{number: 1}.path(dir)
	content, _ := os.ReadFile(path)
	if err := os.WriteFile(path, append(h, content[headerLen:]...), 0o600); err != nil {
		t.Fatal(err)
	}
	_, _, err := Open(dir, new(logged).options())
	if want := (FormatError{path, 7}); !errors.Is(err, want) {
		t.Errorf("error %v, want %v", err, want)
	}
	if after, _ := os.ReadFile(path); len(after) != len(content) {
		t.Error("the file was changed")
	}
}

func TestOtherFilesAreLetAlone(t *testing.T) {
	dir := t.TempDir()
	names := []string{"notes.txt", "1.journal", "00000000000000000001.journal.damaged", "journal"}
	for _, name := range names {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("mine"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s, restored := mustOpen(t, dir)
	n := newNode()
	for range 3 {
		s.Take(n.tick(true, 1000))
	}
	mustClose(t, s)
	for _, name := range names {
		if content, _ := os.ReadFile(filepath.Join(dir, name)); string(content) != "mine" {
			t.Errorf("%s has %q", name, content)
		}
	}
	if restored.Number != 0 || restored.Series != nil {
		t.Errorf("restored %+v", restored)
	}
}

// Segments go when two whole snapshots stand behind them; a damaged one is kept by
// another name.
func TestADamagedSegmentIsKept(t *testing.T) {
	n := newNode()
	dir := t.TempDir()
	s, _ := mustOpen(t, dir)
	s.Take(n.tick(true, 1000))
	n.kept[1].Counter.(*series.Series).Add(key(1), 1, n.now)
	s.Take(n.tick(false, 0))
	n.kept[1].Counter.(*series.Series).Add(key(2), 1, n.now)
	s.Take(n.tick(false, 0))
	mustClose(t, s)
	first := segment{number: 1}.path(dir)
	damaged, _ := os.ReadFile(first)
	damaged[bytes.Index(damaged, []byte("batch 1"))] ^= 1
	if err := os.WriteFile(first, damaged, 0o600); err != nil {
		t.Fatal(err)
	}

	s, _ = mustOpen(t, dir)
	for range 2 { // a sync apart, as snapshots are
		s.Take(n.tick(true, 1000))
		mustClose(t, s)
		s, _ = mustOpen(t, dir)
	}
	defer mustClose(t, s)
	if kept, err := os.ReadFile(first + ".damaged"); err != nil || !bytes.Equal(kept, damaged) {
		t.Errorf("the damaged segment: %v", err)
	}
	if left, _ := list(dir); len(left) != 2 {
		t.Errorf("segments %v are left, want two", left)
	}
}

package state

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/audit-milter/audit-milter/internal/short"
	"github.com/audit-milter/audit-milter/series"
)

// stateVariable names the directory in the environment of a process that counts there.
const stateVariable = "STATE_TEST_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(stateVariable); dir != "" {
		countForever(dir)
	}
	os.Exit(m.Run())
}

// countForever counts one more in each batch, and says how many it has counted once
// that is written.
func countForever(dir string) {
	s, restored, err := Open(dir, new(logged).options())
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	r := rand.New(rand.NewPCG(restored.Number, 1))
	n, counted := newNode(), total(restored)
	if restored.Number > 0 {
		n.restart(restored)
	}
	for begin := true; ; begin = r.IntN(40) == 0 {
		for range 10 {
			n.act(r)
		}
		n.kept[1].Counter.(*series.Series).Add(key(0), 1, n.now)
		s.Take(n.tick(begin, 10))
		for s.Stats().Waiting > 0 {
			time.Sleep(50 * time.Microsecond)
		}
		counted++
		fmt.Println(counted)
	}
}

// total is how much countForever has counted.
func total(r Restored) int64 {
	if len(r.Series) == 0 {
		return 0
	}
	return r.Series[1].Counter.Count(key(0), series.Host, 0, 0, r.Until)
}

func counting(t *testing.T, dir string) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), stateVariable+"="+dir)
	c.Stderr = os.Stderr
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Process.Kill() })
	return c, bufio.NewScanner(out)
}

// A process is killed again and again in the middle of its work. What it has said that
// it counted is there, and nothing is there twice.
func TestAKilledProcessLosesNothingThatWasWritten(t *testing.T) {
	dir := t.TempDir()
	for range short.Part(100, 10) {
		c, lines := counting(t, dir)
		said := int64(0)
		for after := rand.IntN(120); lines.Scan(); after-- {
			if _, err := fmt.Sscan(lines.Text(), &said); err != nil {
				t.Fatal(lines.Text())
			}
			if after == 0 {
				time.AfterFunc(time.Duration(rand.IntN(2000))*time.Microsecond, func() { c.Process.Kill() })
			}
		}
		c.Wait()
		if said == 0 {
			t.Fatal("the process has done nothing")
		}
		s, restored := mustOpen(t, dir)
		mustClose(t, s)
		if counted := total(restored); counted != said && counted != said+1 { // of the last one it may not have come to say so
			t.Fatalf("%d batches were said to be written; %d are there", said, counted)
		}
	}
}

func TestASecondProcessIsRefused(t *testing.T) {
	dir := t.TempDir()
	c, lines := counting(t, dir)
	lines.Scan()
	_, _, err := Open(dir, new(logged).options())
	if want := fmt.Sprintf("is in use by process %d", c.Process.Pid); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("error %v, want %q", err, want)
	}
	_, other := counting(t, dir)
	if other.Scan(); !strings.HasPrefix(other.Text(), "error") {
		t.Errorf("the second process says %q", other.Text())
	}
	c.Process.Kill()
	c.Wait()
	s, _ := mustOpen(t, dir)
	mustClose(t, s)
}

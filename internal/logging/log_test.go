package logging

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/audit-milter/audit-milter/policy"
)

const kibi = 1 << 10

// A pipe that nobody reads holds up nobody who logs; when it is read again,
// each line is there, in its order, or counted at the place of the gap.
func TestAPipeThatNobodyReads(t *testing.T) {
	const lines = 50_000 // some megabytes
	for _, json := range []bool{false, true} {
		t.Run(fmt.Sprintf("json %v", json), func(t *testing.T) {
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			log := Open(w, Options{JSON: json, Buffer: 256 * kibi})
			for i := range lines {
				log.Info("line", "n", i)
			}
			go func() {
				log.Close(time.Hour)
				w.Close()
			}()
			if seen, lost := count(t, r); lost == 0 || seen+lost != lines {
				t.Errorf("%d lines are there and %d lost, of %d", seen, lost, lines)
			} else if n, _ := log.Lost(); n != uint64(lost) {
				t.Errorf("the log knows of %d lost lines, and told %d", n, lost)
			}
		})
	}
}

// count reads a log to its end: how many lines are there, and how many are
// told to be lost where their numbers have a gap.
func count(t *testing.T, r io.Reader) (seen, lost int) {
	t.Helper()
	next := 0
	for s := bufio.NewScanner(r); s.Scan(); {
		switch line := s.Text(); {
		case strings.Contains(line, "log lines were lost"):
			n := number(t, line, "lines")
			lost, next = lost+n, next+n
		case number(t, line, "n") == next:
			seen, next = seen+1, next+1
		default:
			t.Fatalf("number %d should stand here: %s", next, line)
		}
	}
	return seen, lost
}

// number is an attribute of a line in either format.
func number(t *testing.T, line, name string) int {
	t.Helper()
	m := regexp.MustCompile(` ` + name + `=(\d+)|"` + name + `":(\d+)`).FindStringSubmatch(line)
	if m == nil {
		t.Fatalf("no %s in %s", name, line)
	}
	n, err := strconv.Atoi(m[1] + m[2])
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// What is told of a stall is how many lines it took, for how long, and why.
func TestWhatIsLostIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, w := io.Pipe()
		log := Open(w, Options{JSON: true, Buffer: 2 * kibi})
		log.Info("held") // by the pipe
		synctest.Wait()
		fill := strings.Repeat("x", 900)
		log.Info(fill) // waits
		log.Info(fill) // is lost
		time.Sleep(10 * time.Second)
		log.Info("short") // there would be room, but it would stand in front of the gap
		time.Sleep(2345 * time.Millisecond)

		lines := bufio.NewScanner(r)
		for _, want := range []string{"held", fill, "log lines were lost"} {
			if !lines.Scan() || !strings.Contains(lines.Text(), `"msg":"`+want) {
				t.Fatalf("got %s, want %s", lines.Text(), want)
			}
		}
		var told map[string]any
		if err := json.Unmarshal(lines.Bytes(), &told); err != nil {
			t.Fatal(err)
		}
		delete(told, "time")
		want := map[string]any{"level": "WARN", "msg": "log lines were lost", "lines": 2.0, "for": "12.345s", "error": "the log's buffer is full"}
		if fmt.Sprint(told) != fmt.Sprint(want) {
			t.Errorf("got %v, want %v", told, want)
		}
		go func() {
			log.Info("last")
			log.Close(time.Hour)
			w.Close()
		}()
		if !lines.Scan() || !strings.Contains(lines.Text(), `"msg":"last"`) || lines.Scan() {
			t.Errorf("got %s, want the last line alone", lines.Text())
		}
	})
}

func TestALineThatNeverFits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		log := Open(&out, Options{Level: slog.LevelError, Buffer: kibi})
		log.Error(strings.Repeat("x", kibi))
		synctest.Wait() // told at once, also where warnings are not logged
		if got := out.String(); !strings.Contains(got, `msg="log lines were lost" lines=1 for=0s`) {
			t.Errorf("got %s", got)
		}
		log.Close(time.Hour)
	})
}

// Flushing a log that nobody reads takes as long as it may, and no longer.
func TestFlushGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, w := io.Pipe()
		log := Open(w, Options{Buffer: kibi})
		log.Info("held")
		for what, wait := range map[string]func(time.Duration){"flush": log.Flush, "close": log.Close} {
			began := time.Now()
			wait(time.Second)
			if took := time.Since(began); took != time.Second {
				t.Errorf("%s took %s", what, took)
			}
		}
		r.Close() // lets the goroutine go
	})
}

// crowded is where writing takes a second and ends no sooner than others have
// logged again.
type crowded struct {
	bytes.Buffer
	log   *Log
	until time.Time
}

func (c *crowded) Write(p []byte) (int, error) {
	time.Sleep(time.Second)
	if time.Now().Before(c.until) {
		c.log.Info("another")
	}
	return c.Buffer.Write(p)
}

// Neither waits for the lines that others go on to log: no longer than for a
// batch that is being written and the one behind it.
func TestFlushAndCloseWhileOthersLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &crowded{until: time.Now().Add(3 * time.Hour)}
		log := Open(out, Options{Buffer: kibi})
		out.log = log
		log.Info("mine")
		for _, row := range []struct {
			name string
			wait func(time.Duration)
		}{{"flush", log.Flush}, {"close", log.Close}} {
			began := time.Now()
			row.wait(time.Hour)
			if took := time.Since(began); took > 2*time.Second {
				t.Errorf("%s took %s", row.name, took)
			}
		}
		synctest.Wait() // nothing is written behind the close
		closed := out.Len()
		time.Sleep(time.Minute)
		if got := out.String(); !strings.Contains(got, "msg=mine") || len(got) != closed {
			t.Errorf("closed at %d bytes, the log is\n%s", closed, got)
		}
	})
}

// What was logged before a flush is there after it.
func TestFlush(t *testing.T) {
	var out bytes.Buffer
	log := Open(&out, Options{Buffer: 64 * kibi})
	for i := range 100 {
		log.Info("line", "n", i)
		log.Flush(time.Hour)
		if seen, _ := count(t, bytes.NewReader(out.Bytes())); seen != i+1 {
			t.Fatalf("%d lines are there, want %d", seen, i+1)
		}
	}
	log.Close(time.Hour)
}

// A panic that ends the process has its goroutine's lines out first. With one
// processor nothing else would write them in time.
func TestTheLastLineBeforeAPanic(t *testing.T) {
	if os.Getenv("TEST_PANIC") != "" {
		log := Open(os.Stderr, Options{Buffer: 64 * kibi})
		go func() {
			defer log.FlushOnPanic(time.Hour)
			log.Info("last words")
			panic("a bug")
		}()
		select {}
	}
	cmd := exec.Command(os.Args[0], "-test.run", "^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), "TEST_PANIC=1", "GOMAXPROCS=1")
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), `msg="last words"`) || !strings.Contains(string(out), "panic: a bug") {
		t.Errorf("it ended with %v:\n%s", err, out)
	}
}

// disk is a file whose disk fills and is emptied again.
type disk struct {
	bytes.Buffer
	room int
}

func (d *disk) Write(p []byte) (int, error) {
	if len(p) > d.room {
		n, _ := d.Buffer.Write(p[:d.room])
		d.room = 0
		return n, syscall.ENOSPC
	}
	d.room -= len(p)
	return d.Buffer.Write(p)
}

// While writing fails, lines are lost; those behind the gap begin on a line of
// their own.
func TestADiskThatIsFullForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &disk{room: 100}
		log := Open(out, Options{Buffer: 4 * kibi})
		for i := range 5 {
			log.Info("line", "n", i)
			synctest.Wait()
			time.Sleep(time.Minute)
		}
		out.room = kibi
		log.Info("line", "n", 5)
		synctest.Wait()
		log.Close(time.Hour)
		const stamp = `time=\S+ level=`
		want := regexp.MustCompile(`^` + stamp + `INFO msg=line n=0
` + stamp + `INFO msg=l\S*
` + stamp + `WARN msg="log lines were lost" lines=4 for=4m0s error="no space left on device"
` + stamp + `INFO msg=line n=5
$`)
		if !want.MatchString(out.String()) {
			t.Errorf("the log is\n%s", out.String())
		}
		each := strings.Index(out.String(), "\n") + 1
		if lines, bytes := log.Lost(); lines != 4 || bytes != uint64(5*each-100) {
			t.Errorf("%d lines and %d bytes are lost; 5 lines of %d bytes came to 100 bytes of room", lines, bytes, each)
		}
	})
}

func TestNoAllocationPerLine(t *testing.T) {
	b := newBuffer(io.Discard, 64*kibi)
	b.own = slog.DiscardHandler
	go b.run()
	line := []byte(strings.Repeat("x", 200) + "\n")
	if n := testing.AllocsPerRun(10_000, func() { b.Write(line) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
	<-b.flush(true)
}

// What a value says of itself is the same in both formats: JSON of its own accord
// would have an address as an object, and a set of stages as a number.
func TestAValueIsToldAlikeInBothFormats(t *testing.T) {
	from := &net.TCPAddr{IP: net.IPv4(192, 0, 2, 7), Port: 4242}
	for _, row := range []struct {
		json bool
		want string
	}{
		{false, `level=WARN msg=closing stages="mail, data" from=192.0.2.7:4242 to=<nil> error="it failed"`},
		{true, `"level":"WARN","msg":"closing","stages":"mail, data","from":"192.0.2.7:4242","to":"<nil>","error":"it failed"`},
	} {
		var out bytes.Buffer
		slog.New(handler(&out, slog.LevelInfo, row.json)).Warn("closing",
			"stages", policy.Stages(policy.Mail, policy.Data), "from", from, "to", (*url.URL)(nil), "error", errors.New("it failed"))
		if !strings.Contains(out.String(), row.want) {
			t.Errorf("%s has not %s", out.String(), row.want)
		}
	}
}

package integration

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/audit-milter/audit-milter/internal/wiretrace"
)

// recordings is where the milter room keeps what was recorded.
const recordings = "../../milter/testdata/wire"

// tap stands between a mail server and audit-milter and takes down, frame by
// frame, what they say to each other.
type tap struct {
	listener net.Listener
	open     sync.WaitGroup

	mu     sync.Mutex // owns the rest
	frames []wiretrace.Frame
	conns  int
}

// tappedSocket is where audit-milter listens when a tap has its place.
const tappedSocket = "inet:127.0.0.1:9910"

func openTap(inet string) (*tap, error) {
	l, err := net.Listen("tcp", strings.TrimPrefix(inet, "inet:"))
	if err != nil {
		return nil, err
	}
	t := &tap{listener: l}
	go t.serve()
	return t, nil
}

func (t *tap) serve() {
	for {
		server, err := t.listener.Accept()
		if err != nil {
			return
		}
		milter, err := net.Dial("tcp", strings.TrimPrefix(tappedSocket, "inet:"))
		if err != nil {
			server.Close()
			continue
		}
		t.mu.Lock()
		t.conns++
		t.mu.Unlock()
		t.open.Go(func() { t.pass(milter, server, true) })
		t.open.Go(func() { t.pass(server, milter, false) })
	}
}

// pass takes each frame down before the other side can answer it, so that the
// order of the frames is the real one. Why a connection ends is not the tap's
// affair: when it should not have, the dialogue fails.
func (t *tap) pass(to, from net.Conn, fromMTA bool) {
	defer to.Close()
	for {
		frame, err := wiretrace.ReadFrame(from)
		if err != nil {
			return
		}
		frame.FromMTA = fromMTA
		t.mu.Lock()
		t.frames = append(t.frames, frame)
		t.mu.Unlock()
		if _, err := to.Write(frame.Bytes()); err != nil {
			return
		}
	}
}

// close waits for the ends of what was open.
func (t *tap) close() {
	t.listener.Close()
	t.open.Wait()
}

// record writes the dialogue for the milter room to replay, if it can be
// replayed: one connection, one policy, nothing in it that tells the time, and
// no more than a person can read.
func (p *play) record() error {
	p.tap.close()
	if p.tap.conns != 1 || !p.dialogue.replayable() {
		return nil
	}
	text, err := p.recording()
	if err != nil || len(text) > maxRecording {
		return err
	}
	dir := filepath.Join(recordings, p.dialogue.name)
	policy := []byte(p.dialogue.files["policy.yaml"])
	return errors.Join(
		os.MkdirAll(dir, 0o755),
		os.WriteFile(filepath.Join(dir, "policy.yaml"), policy, 0o644),
		os.WriteFile(filepath.Join(dir, p.mta.name+".txt"), text, 0o644),
	)
}

const maxRecording = 64 << 10

// recording is the dialogue as the tap saw it, with what was counted.
func (p *play) recording() ([]byte, error) {
	counts, err := p.counts()
	if err != nil {
		return nil, err
	}
	var text bytes.Buffer
	fmt.Fprintf(&text, "# %s: the dialogue %s of the integration tests.\n", p.mta.version(), p.dialogue.name)
	for _, f := range p.tap.frames {
		fmt.Fprintln(&text, f)
	}
	for _, c := range counts {
		fmt.Fprintf(&text, "= %s %d\n", c.Series, c.N)
	}
	return text.Bytes(), nil
}

// tellsTime matches what makes a dialogue depend on the clock.
var tellsTime = regexp.MustCompile(`retry_after|\n(clock|milter|slow) `)

func (d *dialogue) replayable() bool {
	return len(d.files) == 1 && !tellsTime.MatchString(d.text)
}

// counts are the sums of the series, all keys taken together.
func (p *play) counts() ([]wiretrace.Count, error) {
	all, err := sums(p.milter.log.all())
	if err != nil {
		return nil, err
	}
	bySeries := make(map[string]int64)
	for c, n := range all {
		bySeries[c.series] += n
	}
	var counts []wiretrace.Count
	for series, n := range bySeries {
		counts = append(counts, wiretrace.Count{Series: series, N: n})
	}
	slices.SortFunc(counts, func(a, b wiretrace.Count) int { return strings.Compare(a.Series, b.Series) })
	return counts, nil
}

// versions is in the line with which either server begins.
var versions = regexp.MustCompile(`daemon started -- version ([\d.]+)|starting daemon \(([\d.]+)\)`)

// version is the server's name and version.
func (m *mta) version() string {
	for _, line := range m.log.all() {
		if found := versions.FindStringSubmatch(line); found != nil {
			return m.name + " " + found[1] + found[2]
		}
	}
	return m.name
}

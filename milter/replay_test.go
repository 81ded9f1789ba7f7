package milter_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/audit-milter/audit-milter/internal/wiretrace"
)

// TestReplay plays what MTAs were recorded to send, and compares every answer
// and, at the end, the counts.
func TestReplay(t *testing.T) {
	files, err := filepath.Glob("testdata/wire/*/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no recordings: %v", err)
	}
	for _, file := range files {
		folder, name := filepath.Split(file)
		folder = filepath.Base(folder)
		t.Run(folder+"/"+strings.TrimSuffix(name, ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			trace, err := wiretrace.Parse(text)
			if err != nil {
				t.Fatal(err)
			}
			inPlace(t, readPolicy(folder), func(p *place) { replay(p, trace) })
		})
	}
}

func replay(p *place, trace *wiretrace.Trace) {
	m := p.dial()
	for frames := trace.Frames; len(frames) > 0; {
		sent := until(&frames, true)
		answers := until(&frames, false)
		m.hears(strings.Join(answers, ", "), sent...)
	}
	m.hangUp()
	if len(trace.Counts) == 0 {
		return
	}
	var want []string
	for _, c := range trace.Counts {
		want = append(want, fmt.Sprintf("%s %d", c.Series, c.N))
	}
	slices.Sort(want)
	if got := p.counts(); got != strings.Join(want, ", ") {
		p.t.Errorf("counted\n%s, want\n%s", got, strings.Join(want, ", "))
	}
}

// until takes the frames of one side from the beginning.
func until(frames *[]wiretrace.Frame, fromMTA bool) (lines []string) {
	for len(*frames) > 0 && (*frames)[0].FromMTA == fromMTA {
		lines = append(lines, (*frames)[0].String()[2:])
		*frames = (*frames)[1:]
	}
	return lines
}

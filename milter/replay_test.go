package milter_test

import (
	"fmt"
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
			trace, err := wiretrace.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			inPlace(t, readPolicy(folder), func(p *place) { replay(p, trace) })
		})
	}
}

func replay(p *place, trace *wiretrace.Trace) {
	m := p.dial()
	for _, turn := range trace.Turns() {
		m.hears(strings.Join(texts(turn.Answers), ", "), texts(turn.Sent)...)
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

// texts are the frames as the harness spells them, without > or <.
func texts(frames []wiretrace.Frame) (told []string) {
	for _, f := range frames {
		told = append(told, f.String()[2:])
	}
	return told
}

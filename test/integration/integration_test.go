package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The bed, nil outside of the namespaces, and then the reason why there is
// none.
var (
	theBed *bed
	noBed  error
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(envBed); dir != "" {
		var err error
		if theBed, err = openBed(dir); err != nil {
			fail(err)
		}
		os.Exit(m.Run())
	}
	if noBed = unavailable(); noBed != nil {
		os.Exit(m.Run())
	}
	code, err := enter()
	if err != nil {
		fail(err)
	}
	os.Exit(code)
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "making the bed of the integration tests:", err)
	os.Exit(1)
}

// needBed skips the test where there is no bed, but never on CI.
func needBed(t testing.TB) *bed {
	t.Helper()
	switch {
	case theBed != nil:
	case os.Getenv("CI") == "true":
		t.Fatal(noBed)
	default:
		t.Skip(noBed)
	}
	return theBed
}

// TestDialogues plays every file of testdata/dialogues on both mail servers.
func TestDialogues(t *testing.T) {
	b := needBed(t)
	paths, err := filepath.Glob("testdata/dialogues/*.txt")
	if err != nil || len(paths) == 0 {
		t.Fatal("no dialogues", err)
	}
	for _, path := range paths {
		d, err := readDialogue(path)
		if err != nil {
			t.Error(err)
			continue
		}
		for _, m := range b.mtas {
			if d.only == "" || d.only == m.name {
				t.Run(d.name+"/"+m.name, func(t *testing.T) { perform(t, b, m, d) })
			}
		}
	}
}

// perform plays one dialogue; when that fails, it shows what all programs
// logged.
func perform(t *testing.T, b *bed, m *mta, d *dialogue) {
	before := len(m.log.all())
	p, err := b.newPlay(m, d)
	if err == nil {
		err = p.perform()
	}
	if err == nil {
		return
	}
	p.abandon()
	t.Error(err)
	lines, _ := m.log.since(before)
	t.Logf("%s logged:\n%s", m.name, strings.Join(lines, "\n"))
	for _, daemon := range p.daemons() {
		t.Logf("audit-milter with %s logged:%v", daemon.config, daemon.said(0))
	}
}

package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// maintain runs the command.
func maintain(args ...string) (out string, err error) {
	var b bytes.Buffer
	cmd := historyMaintainCommand()
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetOut(&b)
	cmd.SetErr(&b)
	cmd.SetArgs(args)
	err = cmd.ExecuteContext(context.Background())
	return b.String(), err
}

func TestHistoryMaintainSaysWhatItDid(t *testing.T) {
	dir := t.TempDir()
	out, err := maintain("--dir", dir, "--retention", "90d", "--max-size", "1GiB")
	if want := "0 files were merged, 0 were too old, 0 too much\n"; err != nil || out != want {
		t.Errorf("said %q, %v, want %q", out, err, want)
	}
}

func TestHistoryMaintainTellsWhatIsWrong(t *testing.T) {
	dir := t.TempDir()
	missing := filepath.Join(dir, "missing")
	for what, wrong := range map[string]struct {
		args  string
		usage bool
		want  string
	}{
		"no directory":     {"", true, "--dir DIR is needed"},
		"a missing one":    {"--dir " + missing, false, "there is no history: open " + missing},
		"a retention":      {"--dir D --retention 1w", true, `--retention: "1w" is not a length of time; write seconds, such as 300`},
		"a short one":      {"--dir D --retention 5m", true, "--retention: must be 1h or more, not 5m"},
		"a size":           {"--dir D --max-size 1GB", true, `--max-size: "1GB" is not a size; write bytes`},
		"a small one":      {"--dir D --max-size 1KiB", true, "--max-size: must be 1MiB or more, not 1KiB"},
		"a count":          {"--dir D --min-count 0", true, "--min-count 0: must be 1 or more"},
		"another argument": {"--dir D more", true, "write audit-milter history maintain --dir DIR"},
	} {
		_, err := maintain(strings.Fields(wrong.args)...)
		if err == nil || !strings.Contains(err.Error(), wrong.want) {
			t.Errorf("%s: the error is %v, want %q", what, err, wrong.want)
		}
		if _, usage := errors.AsType[usageError](err); usage != wrong.usage {
			t.Errorf("%s: a usage error: %v, want %v", what, usage, wrong.usage)
		}
	}
	if _, err := os.Stat(missing); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the directory was made: %v", err)
	}
}

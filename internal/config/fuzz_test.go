package config

import (
	"log/slog"
	"os"
	"strings"
	"testing"

	"github.com/audit-milter/audit-milter/policy"
)

// FuzzParse: no file panics, every error has a place in a file, and what loads
// passes the policy's own check and makes an engine.
func FuzzParse(f *testing.F) {
	for _, pattern := range []string{"testdata/bad/*.yaml", "testdata/good/*.yaml"} {
		for _, path := range glob(f, pattern) {
			data, err := os.ReadFile(path)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(data)
		}
	}
	read := readMap(map[string]string{"lists/networks.txt": "192.0.2.0/24\nmx\n"})
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := parse("audit.yaml", data, read)
		if err == nil {
			checkLoaded(t, c)
			return
		}
		for _, e := range err.(Errors) {
			if e.Line < 1 || e.Column < 1 || e.File == "" || e.Msg == "" || strings.ContainsAny(e.Msg, "\r\n") {
				t.Errorf("no error to show: %+v", e)
			}
		}
	})
}

func checkLoaded(t *testing.T, c *Config) {
	t.Helper()
	if errs := c.Policy.Check(); len(errs) > 0 {
		t.Errorf("loaded in spite of %v", errs[0])
	}
	if len(c.Listen) == 0 {
		t.Error("loaded without a socket")
	}
	engine, err := policy.NewEngine(c.Policy, policy.Options{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatalf("loaded, but has no engine: %v", err)
	}
	engine.Close()
}

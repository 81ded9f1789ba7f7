package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Who answers a command may be of another version, or nobody's daemon.
func TestAnAnswerThatNoDaemonGives(t *testing.T) {
	token, export := filepath.Join(t.TempDir(), "token"), filepath.Join(t.TempDir(), "export.csv")
	for file, text := range map[string]string{
		token:  "0123456789abcdef\n",
		export: "series,key,window_start,interval_seconds,count\ns,192.0.2.7,2026-01-01T12:00:00Z,300,8\n",
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, row := range []struct {
		command string
		status  int
		answer  string
		want    string
	}{
		{"show series", 200, `{"series":[{"name":"a\u001b[31m","type":"\u009b2J"}]}`, "a�[31m  �2J"},
		{"show penalties", 200, `{"penalties":[{"rule":"r\u001b[31m"}]}`, "r�[31m"},
		{"count s k", 200, `{"key":"k","series":"s\u001b[31m"}`, "k in s�[31m: 0"},
		{"explain --session x", 200, `{"decisions":[{"helo_name":"\u001b[31m"}]}`, "�[31m"},
		{"explain x", 200, `{"rules":[{"if":[{"holds":"yes"}]}]}`, "depends on the"},
		{"show limits", 200, `{"limits":[{"rule":"r"}]}`, "PERCENT"},
		{"show ip 192.0.2.7", 200, `{"series":[{"series":"/300","counts":[1]}]}`, "/300"},
		{"load s " + export, 200, `{"loaded":1,"too_old":[1]}`, "is not that of this version: row 1 of 1 is too old"},
		{"load s " + export, 200, `{"loaded":1,"too_old":[-1]}`, "is not that of this version: row -1 of 1 is too old"},
		{"load s " + export, 400, `{"error":"no","row":-1}`, "audit-milter load: no"},
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(row.status)
			io.WriteString(w, row.answer)
		}))
		args := append(strings.Fields(row.command), "--admin", server.URL, "--token-file", token)
		out, _ := exec.Command("audit-milter", args...).CombinedOutput()
		server.Close()
		if text := string(out); !strings.Contains(text, row.want) || strings.Contains(text, "panic") || strings.ContainsAny(text, "\x1b\u009b") {
			t.Errorf("%s shows %q, want %q in it", row.command, text, row.want)
		}
	}
}

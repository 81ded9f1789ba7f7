package admin_test

import (
	"encoding/csv"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/audit-milter/audit-milter/internal/admin"
)

// A key comes back from a file as it was, whatever line ends are in it.
func TestAKeyComesBackFromAFile(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var text strings.Builder
	w := csv.NewWriter(&text)
	w.Write(admin.ExportColumns)
	keys := make([]string, 10_000)
	for i := range keys {
		key := make([]byte, 1+random.IntN(6))
		for j := range key {
			key[j] = "a\",\r\n"[random.IntN(5)]
		}
		keys[i] = string(key)
		w.Write([]string{"s", keys[i], "2026-01-01T12:00:00Z", "300", "8"})
	}
	w.Flush()
	rows := readAll(t, text.String())
	if len(rows) != len(keys) {
		t.Fatalf("%d of %d came back", len(rows), len(keys))
	}
	for i, row := range rows {
		if row.Key != keys[i] {
			t.Fatalf("%q came back as %q", keys[i], row.Key)
		}
	}
}

// An editor may have ended the lines otherwise, and put a byte-order mark in front.
func TestAFileThatAnEditorWrote(t *testing.T) {
	text := "\ufeffseries,key,window_start,interval_seconds,count\r\ns,\"a\r\nb\",2026-01-01T12:00:00Z,300,8\r\ns,c,2026-01-01T12:00:00Z,300,9\r\n"
	rows := readAll(t, text)
	if len(rows) != 2 || rows[0].Key != "a\r\nb" || rows[0].Count != 8 || rows[1].Count != 9 {
		t.Errorf("it is read as %+v", rows)
	}
}

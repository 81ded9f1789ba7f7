package logging

import (
	"context"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// BenchmarkVerdict is a verdict's line, written into a file at once and by way
// of the buffer. The line that is thrown away costs what slog itself does.
// What the buffer cannot hold is lost, which costs no less than copying it.
func BenchmarkVerdict(b *testing.B) {
	file := func(b *testing.B) io.Writer {
		f, err := os.Create(filepath.Join(b.TempDir(), "log"))
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { f.Close() })
		return f
	}
	b.Run("thrown away", func(b *testing.B) { logVerdicts(b, slog.New(handler(io.Discard, slog.LevelInfo, false))) })
	b.Run("at once", func(b *testing.B) { logVerdicts(b, slog.New(handler(file(b), slog.LevelInfo, false))) })
	b.Run("buffered", func(b *testing.B) {
		log := Open(file(b), Options{Buffer: 1 << 20})
		defer log.Close(time.Hour)
		logVerdicts(b, log.Logger)
	})
}

func logVerdicts(b *testing.B, log *slog.Logger) {
	b.ReportAllocs()
	for b.Loop() {
		log.LogAttrs(context.Background(), slog.LevelInfo, "verdict",
			slog.String("stage", "rcpt"),
			slog.String("verdict", "tempfail"),
			slog.String("rule", "user-quota"),
			slog.String("series", "recipients_by_user"),
			slog.String("key", "alice"),
			slog.String("windows", "0-5"),
			slog.Int64("count", 201),
			slog.Int64("threshold", 200),
			slog.String("session", "d86n45bbj043r"),
			slog.String("client_address", "198.51.100.7"),
			slog.String("sender", "alice@example.com"),
			slog.String("recipient", "bob@example.org"))
	}
}

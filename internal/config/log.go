package config

import (
	"log/slog"
	"slices"

	"github.com/audit-milter/audit-milter/internal/logging"
)

// levels and formats are what log may say.
var (
	levels  = []string{"debug", "info", "warn", "error"}
	formats = []string{"text", "json"}
)

func parseLevel(name string) (level slog.Level, ok bool) {
	return level, slices.Contains(levels, name) && level.UnmarshalText([]byte(name)) == nil
}

func parseFormat(name string) (json, ok bool) {
	return name == "json", name == "json" || name == "text"
}

func decodeLog(log *logging.Options) func(node) {
	return func(n node) {
		n.mapping("a mapping such as {level: info, format: text}",
			optional("level", set(&log.Level, choice("level", levels, parseLevel))),
			optional("format", set(&log.JSON, choice("format", formats, parseFormat))),
			optional("buffer", set(&log.Buffer, size(64*kibibyte, 64*mebibyte))),
		)
	}
}

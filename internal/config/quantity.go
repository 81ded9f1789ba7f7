package config

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// units are how a duration may end, the longest first. A bare number is
// seconds.
var units = []struct {
	suffix string
	length time.Duration
}{
	{"d", 24 * time.Hour},
	{"h", time.Hour},
	{"m", time.Minute},
	{"s", time.Second},
}

// duration is the decode function of a length of time from lo to hi.
func duration(lo, hi time.Duration) func(node) time.Duration {
	return func(n node) time.Duration {
		text := n.text("a length of time, such as 5m")
		if text == "" {
			return lo
		}
		d, ok := parseDuration(text)
		switch {
		case !ok:
			n.errorf("%s is not a length of time: %q; write seconds, such as 300, or one whole number with a unit: 30s, 5m, 1h, 2d", n.name, text)
		case d < lo || d > hi:
			n.errorf("%s must be %s to %s, not %s", n.name, spell(lo), spell(hi), text)
		default:
			return d
		}
		return lo
	}
}

// parseDuration reads 300, 30s, 5m, 1h and 2d. What would overflow becomes
// the longest there is, which no range contains.
func parseDuration(text string) (time.Duration, bool) {
	length := time.Second
	for _, u := range units {
		if number, ok := strings.CutSuffix(text, u.suffix); ok {
			text, length = number, u.length
			break
		}
	}
	if text == "" || strings.Trim(text, "0123456789") != "" {
		return 0, false
	}
	i, err := strconv.ParseInt(text, 10, 64)
	if err != nil || i > int64(1<<63-1)/int64(length) {
		return 1<<63 - 1, true
	}
	return time.Duration(i) * length, true
}

// spell writes whole seconds as parseDuration reads them.
func spell(d time.Duration) string {
	for _, u := range units {
		if d%u.length == 0 {
			return fmt.Sprintf("%d%s", d/u.length, u.suffix)
		}
	}
	return d.String()
}

package policy

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/audit-milter/audit-milter/series"
)

// ParseWindows reads a window's number, or a range from the newest to the oldest
// one, such as 0-5; both are in it. 0, 0 comes with an error.
func ParseWindows(text string) (from, to int, err error) {
	first, last, isRange := strings.Cut(text, "-")
	if !isRange {
		last = first
	}
	from, ok1 := windowNumber(first)
	to, ok2 := windowNumber(last)
	switch {
	case !ok1 || !ok2:
		return 0, 0, fmt.Errorf("windows needs a window, such as 0, or a range, such as 0-5, not %q; window 0 is the current one, %d the oldest there can be", text, series.MaxWindows-1)
	case from > to:
		return 0, 0, fmt.Errorf("windows begins with the newest one; write %d-%d", to, from)
	}
	return from, to, nil
}

func windowNumber(text string) (int, bool) {
	i, err := strconv.ParseUint(text, 10, 16)
	return int(i), err == nil && i < series.MaxWindows
}

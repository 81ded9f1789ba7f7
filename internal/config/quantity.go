package config

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// quantity is what a number with a unit can be.
type quantity struct {
	what, example, write string // for messages
	units                []unit // the longest suffix that ends a text is its unit; a bare number has the last one
}

type unit struct {
	suffix string
	amount int64
}

var lengthOfTime = quantity{
	"a length of time", "5m", "write seconds, such as 300, or one whole number with a unit: 30s, 5m, 1h, 2d",
	[]unit{{"d", int64(24 * time.Hour)}, {"h", int64(time.Hour)}, {"m", int64(time.Minute)}, {"s", int64(time.Second)}, {"", int64(time.Second)}},
}

var sizeInBytes = quantity{
	"a size", "1MiB", "write bytes, such as 100000, or one whole number with a unit: 64KiB, 1MiB, 1GiB",
	[]unit{{"GiB", gibibyte}, {"MiB", mebibyte}, {"KiB", kibibyte}, {"", 1}},
}

const (
	kibibyte = 1 << 10
	mebibyte = 1 << 20
	gibibyte = 1 << 30
)

// duration is the decode function of a length of time from lo to hi.
func duration(lo, hi time.Duration) func(node) time.Duration {
	return func(n node) time.Duration { return time.Duration(lengthOfTime.decode(n, int64(lo), int64(hi))) }
}

// size is the decode function of a number of bytes from lo to hi.
func size(lo, hi int) func(node) int {
	return func(n node) int { return int(sizeInBytes.decode(n, int64(lo), int64(hi))) }
}

// decode reads what is from lo to hi; lo after an error.
func (q *quantity) decode(n node, lo, hi int64) int64 {
	text := n.text(q.what + ", such as " + q.example)
	if text == "" {
		return lo
	}
	amount, ok := q.parse(text)
	switch {
	case !ok:
		n.errorf("%s is not %s: %q; %s", n.name, q.what, text, q.write)
	case amount < lo || amount > hi:
		n.errorf("%s must be %s to %s, not %s", n.name, q.spell(lo), q.spell(hi), text)
	default:
		return amount
	}
	return lo
}

// parse reads one whole number with or without a unit. What would overflow
// becomes the largest there is, which no range contains.
func (q *quantity) parse(text string) (amount int64, ok bool) {
	var of unit
	for _, of = range q.units {
		if number, ends := strings.CutSuffix(text, of.suffix); ends {
			text = number
			break
		}
	}
	if text == "" || strings.Trim(text, "0123456789") != "" {
		return 0, false
	}
	i, err := strconv.ParseInt(text, 10, 64)
	if err != nil || i > (1<<63-1)/of.amount {
		return 1<<63 - 1, true
	}
	return i * of.amount, true
}

// spell writes a bound, which is a whole number of some unit.
func (q *quantity) spell(bound int64) string {
	whole := slices.IndexFunc(q.units, func(u unit) bool { return bound%u.amount == 0 })
	return fmt.Sprintf("%d%s", bound/q.units[whole].amount, q.units[whole].suffix)
}

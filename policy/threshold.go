package policy

import (
	"cmp"
	"fmt"
	"math/bits"
	"strconv"
	"strings"
)

// Threshold is what a count is compared with: a whole number, a share of
// another count, or a multiple of a mean.
type Threshold struct {
	N        int64 // in units of 10^-Decimals
	Decimals uint8 // 0 to MaxDecimals; 0 for a Plain one
	Unit     Unit
}

// Unit is what a threshold's number means.
type Unit uint8

// The units.
const (
	Plain   Unit = iota // the number itself
	Percent             // a share: 12.5%
	Times               // a multiple: 2.5x
)

var unitNames = [...]string{"", "%", "x"}

func (u Unit) String() string { return unitNames[u] }

// The bounds of a share or a multiple.
const (
	MaxDecimals = 3
	maxWhole    = 1_000_000_000
)

// ParseThreshold understands a share or a multiple, such as 12.5% and 2.5x; ok
// is false for a text that ends in neither % nor x.
func ParseThreshold(text string) (t Threshold, ok bool, err error) {
	number := strings.TrimRight(text, "%x")
	switch text[len(number):] {
	case "%":
		t.Unit = Percent
	case "x":
		t.Unit = Times
	default:
		return t, false, nil
	}
	whole, decimals, hasDecimals := strings.Cut(number, ".")
	n, err := strconv.ParseUint(whole+decimals, 10, 63)
	if err != nil || whole == "" || hasDecimals == (decimals == "") || len(decimals) > MaxDecimals || n > maxWhole*powerOfTen(len(decimals)) {
		return t, true, fmt.Errorf("%q is not a number from 0 to %d with at most %d decimals and %s behind it, such as 50%s or 2.5%s",
			text, maxWhole, MaxDecimals, t.Unit, t.Unit, t.Unit)
	}
	t.N, t.Decimals = int64(n), uint8(len(decimals))
	return t, true, nil
}

// String is the threshold as the configuration spells it.
func (t Threshold) String() string {
	digits := strconv.FormatInt(t.N, 10)
	if t.Decimals > 0 {
		digits = fmt.Sprintf("%0*d", t.Decimals+1, t.N)
		point := len(digits) - int(t.Decimals)
		digits = digits[:point] + "." + digits[point:]
	}
	return digits + t.Unit.String()
}

// MarshalJSON makes a number of a threshold that is one, and of all others the
// text.
func (t Threshold) MarshalJSON() ([]byte, error) {
	if t.Unit == Plain {
		return strconv.AppendInt(nil, t.N, 10), nil
	}
	return strconv.AppendQuote(nil, t.String()), nil
}

// UnmarshalJSON reads what MarshalJSON makes.
func (t *Threshold) UnmarshalJSON(data []byte) error {
	text, err := strconv.Unquote(string(data))
	if err != nil {
		*t = Threshold{}
		t.N, err = strconv.ParseInt(string(data), 10, 64)
		return err
	}
	var ok bool
	if *t, ok, err = ParseThreshold(text); !ok {
		return fmt.Errorf("%q is no threshold", text)
	}
	return err
}

// scale is what count is multiplied with where N is multiplied with what the
// share or the multiple is of: the sum over so many windows, for a multiple.
func (t Threshold) scale(windows int) int64 {
	scale := int64(powerOfTen(int(t.Decimals)))
	switch t.Unit {
	case Percent:
		return scale * 100
	case Times:
		return scale * int64(windows)
	}
	return scale
}

func powerOfTen(n int) uint64 {
	p := uint64(1)
	for range n {
		p *= 10
	}
	return p
}

// compareProducts compares a × b with c × d, exactly.
func compareProducts(a, b, c, d int64) int {
	hi1, lo1 := bits.Mul64(magnitude(a), magnitude(b))
	hi2, lo2 := bits.Mul64(magnitude(c), magnitude(d))
	sign1, sign2 := sign(a)*sign(b), sign(c)*sign(d)
	if sign1 != sign2 {
		return cmp.Compare(sign1, sign2)
	}
	return sign1 * cmp.Or(cmp.Compare(hi1, hi2), cmp.Compare(lo1, lo2))
}

func sign(n int64) int { return cmp.Compare(n, 0) }

func magnitude(n int64) uint64 {
	if n < 0 {
		return uint64(-n)
	}
	return uint64(n)
}

// meets reports whether a comparison with this result is what op asks for.
func (o Op) meets(comparison int) bool {
	switch o {
	case Above:
		return comparison > 0
	case AtLeast:
		return comparison >= 0
	case Below:
		return comparison < 0
	default:
		return comparison <= 0
	}
}

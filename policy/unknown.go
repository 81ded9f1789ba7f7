package policy

import (
	"fmt"
	"strings"
)

// UnknownError says that a name is not one of those that are known, and guesses
// which was meant.
type UnknownError struct {
	What, Name string
	Known      []string
}

func (e UnknownError) Error() string {
	if guess := e.Guess(); guess != "" {
		return fmt.Sprintf("unknown %s %q; did you mean %s?", e.What, e.Name, guess)
	}
	known := "there is none"
	switch len(e.Known) {
	case 0:
	case 1:
		known = "there is " + e.Known[0]
	default:
		known = "there are " + strings.Join(e.Known, ", ")
	}
	return fmt.Sprintf("unknown %s %q; %s", e.What, e.Name, known)
}

// Guess is the nearest known name, if it is near: within a third of its length.
func (e UnknownError) Guess() string {
	best, bestAt := "", 1<<30
	name := strings.ToLower(strings.ReplaceAll(e.Name, "-", "_"))
	for _, k := range e.Known {
		if d := distance(name, k); d < bestAt && d <= max(1, len(k)/3) {
			best, bestAt = k, d
		}
	}
	return best
}

// distance is the number of letters to insert, delete, replace or swap with
// their neighbour that makes a into b (optimal string alignment).
func distance(a, b string) int {
	prev2, prev, cur := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		cur[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			cur[j] = min(prev[j]+1, cur[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				cur[j] = min(cur[j], prev2[j-2]+1)
			}
		}
		prev2, prev, cur = prev, cur, prev2
	}
	return prev[len(b)]
}

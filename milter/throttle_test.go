package milter

import (
	"fmt"
	"testing"
	"time"
)

func TestThrottle(t *testing.T) {
	var said throttle
	at := func(seconds int) time.Time { return time.Unix(1e9+int64(seconds), 0) }
	for _, row := range []struct {
		text    string
		second  int
		ok      bool
		leftOut int
	}{
		{"a", 0, true, 0},
		{"a", 1, false, 0},
		{"b", 1, true, 0},
		{"a", 59, false, 0},
		{"a", 60, true, 2},
		{"a", 61, false, 0},
		{"a", 300, true, 1},
	} {
		if leftOut, ok := said.ask(row.text, at(row.second)); ok != row.ok || leftOut != row.leftOut {
			t.Errorf("%s after %d s: got %v, %d left out; want %v, %d", row.text, row.second, ok, leftOut, row.ok, row.leftOut)
		}
	}
}

func TestAThrottleIsBounded(t *testing.T) {
	var said throttle
	now := time.Unix(1e9, 0)
	ok := 0
	for i := range 10 * maxTexts {
		if _, may := said.ask(fmt.Sprint(i), now); may {
			ok++
		}
	}
	if ok != maxTexts+1 || len(said.texts) != maxTexts+1 {
		t.Errorf("%d texts were said and %d are kept, want %d", ok, len(said.texts), maxTexts+1)
	}
	if _, may := said.ask("later", now.Add(sayEvery)); !may || len(said.texts) != 1 {
		t.Errorf("a minute later: %v, with %d texts kept", may, len(said.texts))
	}
}

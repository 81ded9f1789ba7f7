//go:build testclock

package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// clock is the test's: the file that AUDIT_MILTER_TEST_CLOCK names says what
// time it is, in nanoseconds of Unix time. Time stands still until the test
// replaces the file, so that no test needs to wait for a window to pass.
func clock() (now func() time.Time, err error) {
	path := os.Getenv("AUDIT_MILTER_TEST_CLOCK")
	if path == "" {
		return nil, errors.New("this binary was built with -tags testclock and needs AUDIT_MILTER_TEST_CLOCK=FILE")
	}
	if _, err := readClock(path); err != nil {
		return nil, err
	}
	return func() time.Time {
		t, err := readClock(path)
		if err != nil {
			panic(err)
		}
		return t
	}, nil
}

func readClock(path string) (time.Time, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return time.Time{}, fmt.Errorf("reading the test's clock: %w", err)
	}
	ns, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("reading the test's clock: %w", err)
	}
	return time.Unix(0, ns), nil
}

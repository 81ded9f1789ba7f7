//go:build !testclock

package main

import "time"

// clock is what the daemon counts by; nil for the time itself.
func clock() (now func() time.Time, err error) { return nil, nil }

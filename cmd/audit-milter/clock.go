//go:build !testclock

package main

import "time"

// clock is what the daemon counts by.
func clock() (now func() time.Time, err error) { return time.Now, nil }

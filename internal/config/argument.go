package config

import (
	"fmt"
	"time"
)

// ParseDuration reads a length of time as it stands in a configuration, such as 300, 5m
// or 2d.
func ParseDuration(text string) (time.Duration, error) {
	n, err := lengthOfTime.argument(text)
	return time.Duration(n), err
}

// ParseSize reads a number of bytes as it stands in a configuration, such as 10GiB.
func ParseSize(text string) (int64, error) { return sizeInBytes.argument(text) }

func (q *quantity) argument(text string) (int64, error) {
	n, ok := q.parse(text)
	if !ok {
		return 0, fmt.Errorf("%q is not %s; %s", text, q.what, q.write)
	}
	return n, nil
}

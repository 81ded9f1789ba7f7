package config

import (
	"strings"
	"testing"
	"time"
)

func TestArgumentsAreSpeltAsInAConfiguration(t *testing.T) {
	if d, err := ParseDuration("30d"); err != nil || d != 30*24*time.Hour {
		t.Errorf("30d is %v, %v", d, err)
	}
	if n, err := ParseSize("10GiB"); err != nil || n != 10<<30 {
		t.Errorf("10GiB is %d, %v", n, err)
	}
	if _, err := ParseDuration("1w"); err == nil || !strings.Contains(err.Error(), "write seconds, such as 300") {
		t.Errorf("1w: %v", err)
	}
	if _, err := ParseSize("10GB"); err == nil || !strings.Contains(err.Error(), "write bytes, such as 100000") {
		t.Errorf("10GB: %v", err)
	}
}

package main

import (
	"fmt"
	"log/slog"
	"math"
	"runtime/debug"

	"github.com/KimMachineGun/automemlimit/memlimit"
)

// limitMemory takes nine tenths of the control group's limit as GOMEMLIMIT,
// unless that is set. The runtime does the like for GOMAXPROCS by itself.
func limitMemory(log *slog.Logger) {
	if _, err := memlimit.Set(); err != nil {
		log.Warn("the memory limit of the control group cannot be read; GOMEMLIMIT sets one", "error", err)
	}
}

// memoryLimit is the limit in force, which the runtime collects garbage to keep.
func memoryLimit() string {
	bytes := debug.SetMemoryLimit(-1)
	if bytes == math.MaxInt64 {
		return "none"
	}
	return fmt.Sprintf("%dMiB", bytes>>20)
}

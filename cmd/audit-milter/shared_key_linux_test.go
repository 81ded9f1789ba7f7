package main

import (
	"io"
	"slices"
	"syscall"
	"testing"

	"github.com/audit-milter/audit-milter/internal/logging"
)

// A reload when there are no file descriptors left, which it takes to ask for the
// host's addresses, does not turn them into keys that rules may hold against clients.
func TestOwnAddressesOutlastAShortageOfDescriptors(t *testing.T) {
	log := logging.Open(io.Discard, logging.Options{Buffer: 1 << 16})
	defer log.Close(flushTime)
	r := &reloader{log: log}
	before := r.ownAddresses()
	if len(before) == 0 {
		t.Skip("this host has no address")
	}

	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: 0, Max: limit.Max}); err != nil {
		t.Fatal(err)
	}
	during := r.ownAddresses()
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(during, before) {
		t.Errorf("the host's addresses are %v, and were %v", during, before)
	}
}

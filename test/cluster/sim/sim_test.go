package main

import (
	"os"
	"os/exec"
	"testing"
)

// A node that counted anything else than what the others added is an error of play.
func TestANodeOfASimulationCountsWhatTheOthersAdded(t *testing.T) {
	program, err := exec.LookPath("redis-server")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip("this needs Debian's package redis-server: ", err)
	}
	c, err := play(load{nodes: 5, series: 2, adds: 95, keys: 1000, ticks: 20}, program)
	if err != nil {
		t.Fatal(err)
	}
	if most := 4 * 2 * 95.0 * 1.1; c.applies == 0 || c.applies > most {
		t.Errorf("a node takes %.0f deltas a second of 4 others with 2 series; at most %.0f were added", c.applies, most)
	}
	if c.taken < 4*c.sent/2 {
		t.Errorf("a node takes %.0f bytes a second of 4 others that send %.0f each", c.taken, c.sent)
	}
}

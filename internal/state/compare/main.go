// Compare keeps the same counts by the journal and in embedded stores, and prints what
// that costs. It is a module of its own, so that nothing else needs the stores.
//
//	go run . [-for 60s] [-dir directory] journal|bbolt|pebble
//
// A million addresses are there from the beginning. Then 20,000 of them a second count
// one more, told in ticks of 100 ms, and once a second all is synced. A store is given
// what counts are now, and needs no reading for that. At the end all is read again into
// an empty series.
package main

import (
	"cmp"
	"encoding/binary"
	"flag"
	"fmt"
	"log"
	"net/netip"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/audit-milter/audit-milter/series"
)

const (
	keys    = 1_000_000
	tick    = 100 * time.Millisecond
	perTick = 2000
	perSync = 10 // ticks
)

// way keeps counts.
type way interface {
	fill()                 // keeps that each key counts one
	tick(changed []uint32) // keeps that these count one more
	sync()                 // lets all that stand
	close()                // the files stay
	read() int             // opens the files again, counts them into a series, and returns the number of its keys
}

var ways = map[string]func(dir string) way{"journal": newJournal, "bbolt": newBolt, "pebble": newPebble}

func main() {
	length := flag.Duration("for", time.Minute, "how long the load lasts")
	dir := flag.String("dir", os.TempDir(), "where the files are made and removed; on the disk that is meant")
	flag.Parse()
	make := ways[flag.Arg(0)]
	if make == nil {
		log.Fatal("which way is missing: journal, bbolt or pebble")
	}
	own, err := os.MkdirTemp(*dir, "compare")
	check(err)
	defer os.RemoveAll(own)

	w := make(own)
	w.fill()
	w.sync()
	cpu, written := used(), writtenBytes()
	load(w, *length)
	w.sync()
	cpu, written = used()-cpu, writtenBytes()-written
	w.close()

	begun := time.Now()
	n := w.read()
	start := time.Since(begun)
	if n != keys {
		log.Fatalf("%d keys were read", n)
	}
	fmt.Printf("%s: %.1f %% of a core, %.2f MB/s written, %.1f MB on the disk, start %v\n", flag.Arg(0),
		100*cpu.Seconds()/length.Seconds(), float64(written)/length.Seconds()/1e6, float64(size(own))/1e6, start.Round(time.Millisecond))
}

func load(w way, length time.Duration) {
	ticks := time.NewTicker(tick)
	defer ticks.Stop()
	next := uint64(0)
	for n := 1; n <= int(length/tick); n++ {
		<-ticks.C
		changed := make([]uint32, perTick)
		for i := range changed {
			changed[i] = uint32(next * 7919 % keys)
			next++
		}
		w.tick(changed)
		if n%perSync == 0 {
			w.sync()
		}
	}
}

const scatter = 0x9e3779b1 // odd, so that keys stay different

// address is that of a key, scattered over all of IPv4.
func address(key uint32) [4]byte {
	return [4]byte(binary.BigEndian.AppendUint32(nil, key*scatter))
}

func everyKey() []uint32 {
	list := make([]uint32, keys)
	for i := range list {
		list[i] = uint32(i)
	}
	return list
}

// inOrder sorts keys by their addresses.
func inOrder(list []uint32) []uint32 {
	slices.SortFunc(list, func(a, b uint32) int { return cmp.Compare(a*scatter, b*scatter) })
	return list
}

func seriesKey(key uint32) series.Key { return series.AddrKey(netip.AddrFrom4(address(key))) }

var definition = series.Definition{Name: "connections", Type: series.CIDR, Interval: time.Hour, Windows: 6, MaxKeys: keys + 1}

// used is the CPU time of this process, the kernel's part in it.
func used() time.Duration {
	var u syscall.Rusage
	check(syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// writtenBytes are those that this process has made the kernel write to disks.
func writtenBytes() (n int64) {
	text, err := os.ReadFile("/proc/self/io")
	check(err)
	var of [7]int64
	_, err = fmt.Sscanf(string(text), "rchar: %d\nwchar: %d\nsyscr: %d\nsyscw: %d\nread_bytes: %d\nwrite_bytes: %d\n",
		&of[0], &of[1], &of[2], &of[3], &of[4], &of[5])
	check(err)
	return of[5]
}

func size(dir string) (n int64) {
	entries, err := os.ReadDir(dir)
	check(err)
	for _, e := range entries {
		info, err := e.Info()
		check(err)
		n += info.Size()
	}
	return n
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

// Command sim says what a cluster of so many nodes costs: the bytes and deltas that
// each node sends and takes a second, what that takes of its processor, and what it
// takes of the server's, which is where one server stops being enough.
//
//	go run ./test/cluster/sim -nodes 3,50,200
//
// Series, codec and server are the real ones; the time is not: ticks follow one another
// as fast as this machine goes, so that it needs no 200 machines. All else is counted: one
// second has so many ticks, and the server itself says what it used of a processor.
package main

import (
	"flag"
	"fmt"
	"log"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/audit-milter/audit-milter/internal/deltas"
)

// load is what one cluster does.
type load struct {
	nodes  int
	series int // that replicate, each with the same traffic
	adds   int // to each of them, on each node, a second
	keys   int // that all nodes draw from, few of them often and most rarely
	ticks  int
}

func (l load) seconds() float64 { return (time.Duration(l.ticks) * deltas.Interval).Seconds() }

func main() {
	log.SetFlags(0)
	nodes := flag.String("nodes", "3,50,200", "sizes of the cluster")
	l := load{}
	flag.IntVar(&l.series, "series", 3, "series that replicate")
	flag.IntVar(&l.adds, "adds", 100, "adds a second to each series on each node")
	flag.IntVar(&l.keys, "keys", 100_000, "keys of all nodes")
	flag.IntVar(&l.ticks, "ticks", 50, "ticks of 100 ms to play")
	server := flag.String("server", "redis-server", "the program of the server")
	flag.Parse()

	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "nodes\tout B/s\tin B/s\tapplies/s\tnode CPU\tserver out B/s\tserver CPU\tserver MB\t")
	for _, size := range strings.Split(*nodes, ",") {
		var err error
		if l.nodes, err = strconv.Atoi(size); err != nil || l.nodes < 2 {
			log.Fatalf("-nodes: %q is no size of a cluster; write numbers from 2 on, such as 3,50,200", size)
		}
		c, err := play(l, *server)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Fprintf(w, "%d\t%.0f\t%.0f\t%.0f\t%.1f %%\t%.0f\t%.1f %%\t%.1f\t\n", l.nodes,
			c.sent, c.taken, c.applies, 100*c.node, c.serverOut, 100*c.server, c.memory/1e6)
	}
	w.Flush()
}

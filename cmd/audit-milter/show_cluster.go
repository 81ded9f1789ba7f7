package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/audit-milter/audit-milter/internal/admin"
	"github.com/audit-milter/audit-milter/internal/cluster"
)

func showClusterCommand() *cobra.Command {
	var c console
	return c.answersJSON(&cobra.Command{
		Use:   "cluster",
		Short: "Show the nodes of the cluster, and how old their counts are",
		Long: `Shows the cluster as the running daemon sees it: whether its server answers, and of
every other node when it was last seen, how old its counts are here (AGE), how long its
last batch took (LAG), by how much its clock is ahead, how many bytes were read of it,
and what is wrong.`,
		Args: exactly(0, "write audit-milter show cluster"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return query(cmd, &c, "/api/v1/cluster", nil, printCluster)
		},
	})
}

func printCluster(out io.Writer, a admin.Cluster) {
	table(out, func(w io.Writer) {
		fmt.Fprintf(w, "cluster\t%s: %s\n", a.Name, a.Remote)
		fmt.Fprintf(w, "server\t%s: %s\n", strings.Join(a.Server.Addresses, ", "), serverText(a.Server))
		fmt.Fprintf(w, "to tell\t%d bytes\n", a.WaitingBytes)
	})
	fmt.Fprintln(out)
	table(out, func(w io.Writer) {
		fmt.Fprintln(w, "NODE\tROLE\tVERSION\tSEEN\tAGE\tLAG\tCLOCK\tBYTES\tSTATE")
		fmt.Fprintf(w, "%s\t%s\t%s\t-\t-\t-\t-\t%d sent\tthis node\n", a.Node, a.Role, a.Version, a.SentBytes)
		for _, n := range a.Nodes {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%.1f s\t%+.1f s\t%d read\t%s\n", n.Name, n.Role, n.Version, local(n.LastSeen), age(n.AgeSeconds), n.LagSeconds, n.SkewSeconds, n.ReceivedBytes, n.State)
		}
	})
}

// serverText says whether the server answers.
func serverText(s admin.ClusterServer) string {
	switch {
	case s.Reachable:
		return "answers"
	case s.Error == "":
		return "not asked yet"
	case s.Contact == nil:
		return "has never answered: " + s.Error
	}
	return fmt.Sprintf("has not answered since %s: %s", local(*s.Contact), s.Error)
}

// age is how old the counts of a node are; those that are current are told to a tenth
// of a second.
func age(seconds *float64) string {
	switch {
	case seconds == nil:
		return "not all"
	case *seconds < 10:
		return fmt.Sprintf("%.1f s", *seconds)
	}
	return cluster.AgeText(time.Duration(*seconds * float64(time.Second)))
}

package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/audit-milter/audit-milter/internal/config"
	"github.com/audit-milter/audit-milter/policy"
	"github.com/audit-milter/audit-milter/series"
)

func checkCommand() *cobra.Command {
	var path string
	var online bool
	cmd := &cobra.Command{
		Use:   "check --config FILE",
		Short: "Say what is wrong with a configuration, or what was understood",
		Long: `Reads a configuration as serve would. All mistakes are told at once, each as
file:line:column: what is wrong, and what would be right; the exit status is
then 1. Otherwise what was understood is printed, with notes on what a policy
costs and where it may surprise. With --online the cluster's server is tried too,
for 5 seconds at most; if it cannot be used, the exit status is 1.`,
		Args: exactly(0, "write audit-milter check --config FILE"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			conf, err := config.Load(path)
			if err != nil {
				return configError{err}
			}
			describe(cmd.OutOrStdout(), conf)
			if online {
				return checkOnline(cmd.Context(), cmd.OutOrStdout(), conf)
			}
			return nil
		},
	}
	configFlag(cmd, &path)
	cmd.Flags().BoolVar(&online, "online", false, "try the cluster's server too")
	return cmd
}

// describe prints what was understood.
func describe(out io.Writer, conf *config.Config) {
	p := conf.Policy
	fmt.Fprintf(out, "%s is good.\n\n", conf.Path)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, l := range conf.Listen {
		fmt.Fprintf(w, "listen\t%s\n", l)
	}
	if conf.Admin.Socket.Network != "" {
		fmt.Fprintf(w, "admin\t%s (mode %#o)\n", conf.Admin.Socket, uint32(conf.Admin.Socket.Mode))
	}
	if conf.Admin.HTTP != "" {
		fmt.Fprintf(w, "admin\t%s\n", conf.Admin)
	}
	if conf.StateDir != "" {
		fmt.Fprintf(w, "state_dir\t%s\n", conf.StateDir)
	}
	if conf.History != nil {
		fmt.Fprintf(w, "history\t%s\n", conf.History)
	}
	fmt.Fprintf(w, "mode\t%s\n", mode(p))
	fmt.Fprintf(w, "on_error\t%s\n", p.OnError)
	fmt.Fprintf(w, "max_sessions\t%d\n", conf.MaxSessions)
	if conf.Cluster != nil {
		fmt.Fprintf(w, "cluster\t%s\n", conf.Cluster)
	}
	for _, name := range slices.Sorted(maps.Keys(conf.Lists)) {
		fmt.Fprintf(w, "list %s\t%s\n", name, conf.Lists[name])
	}
	for _, name := range slices.Sorted(maps.Keys(conf.Tables)) {
		fmt.Fprintf(w, "table %s\t%s\n", name, conf.Tables[name])
	}
	for _, t := range conf.Notify {
		fmt.Fprintf(w, "notify %s\t%s\n", t.Name, t)
	}
	w.Flush()
	describeSeries(out, p)
	describeRules(out, p)
	fmt.Fprintln(out, "\nNotes")
	for _, note := range notes(conf) {
		fmt.Fprintf(out, "  - %s\n", note)
	}
}

func describeSeries(out io.Writer, p *policy.Policy) {
	if len(p.Series) == 0 {
		return
	}
	fmt.Fprintln(out, "\nSeries")
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, s := range p.Series {
		for i, a := range s.Adds {
			name, kind, windows := s.Name, s.Type.String(), fmt.Sprintf("%d x %s", s.Windows, policy.DurationText(s.Interval))
			if s.Distinct != nil {
				windows += fmt.Sprintf(", %s, %d keys", s.Distinct, s.MaxKeys)
			} else if s.MaxKeys != series.DefaultMaxKeys {
				windows += fmt.Sprintf(", %d keys", s.MaxKeys)
			}
			if s.Persist {
				windows += ", persist"
			}
			if s.Serialize {
				windows += ", serialize"
			}
			if s.Replicate != policy.None {
				windows += fmt.Sprintf(", replicate %s", s.Replicate)
			}
			if i > 0 {
				name, kind, windows = "", "", ""
			}
			fmt.Fprintf(w, "  %s\t%s\t%s\t%s\n", name, kind, windows, a)
		}
	}
	w.Flush()
}

func describeRules(out io.Writer, p *policy.Policy) {
	if len(p.Rules) == 0 {
		return
	}
	fmt.Fprintln(out, "\nRules, in the order in which they are asked")
	for _, r := range p.Rules {
		fmt.Fprintf(out, "  %s\n", strings.ReplaceAll(r.String(), "\n", "\n    "))
	}
}

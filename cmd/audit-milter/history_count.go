package main

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/audit-milter/audit-milter/internal/history"
	"github.com/audit-milter/audit-milter/policy"
)

// historyQuestion is what history count was asked, as it was written.
type historyQuestion struct {
	historyPlace
	history.Query
	span                    history.Span
	sizes, aggregate, order string
	threshold               int64
	csv, asJSON             bool
}

func historyCountCommand() *cobra.Command {
	var h historyQuestion
	cmd := h.uses(&cobra.Command{
		Use:   "count SERIES... [BLOCK]",
		Short: "Tell what series counted, by block or key and time",
		Long: `Tells what series counted, a column each. Of series that are keyed by addresses: the
sum over a block, or over all addresses, or with --cidrsize a line for each block of a
size. Of series that are keyed by texts: a line for each key, of all, or of one, or of
those that begin with a prefix.

Keys that counted less than min_count in a window have no rows of their own. Together
they are the line "(smaller)", and in the sum over all addresses.

Of a series that counts different values, the estimates of single windows and keys are
added up: a value that came in two windows counts twice.

` + aTime,
		Example: `  audit-milter history count connections rejections 192.0.2.0/24 --since 2d
  audit-milter history count connections --on 2026-11-29 --cidrsize 24 --order count --limit 10
  audit-milter history count recipients_by_user --prefix alice@ --aggregate daily`,
		Args:              between(1, 1000, "history count takes one or more series, and perhaps a block such as 192.0.2.0/24"),
		ValidArgsFunction: h.completeSeries,
		RunE: func(cmd *cobra.Command, args []string) error {
			return h.run(cmd, args)
		},
	})
	h.flags(cmd)
	return cmd
}

func (h *historyQuestion) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	spanFlags(cmd, &h.span)
	f.StringVar(&h.Node, "node", "", "only what this `node` counted")
	f.StringVar(&h.sizes, "cidrsize", "", "a line for each block of so many `bits`: 24, a range 8-32, or 24,48 for IPv4 and IPv6; with one number IPv6 is by /64")
	f.StringVar(&h.Key, "key", "", "only this `key`, a text as history export spells it")
	f.StringVar(&h.Prefix, "prefix", "", "only keys that begin with this `text`")
	f.BoolVar(&h.Union, "union", false, "one column, the sum of all series")
	f.StringVar(&h.aggregate, "aggregate", "all", "what a line counts over: all, daily or windows")
	f.StringVar(&h.order, "order", "cidr", "cidr: by address or key; count: the largest first, by the first column")
	f.IntVar(&h.Limit, "limit", 0, "only the first so many `lines`, of each day or window")
	f.Int64Var(&h.threshold, "threshold", 0, "only lines with a count that is not below this `number`")
	f.BoolVar(&h.csv, "csv", false, "print CSV")
	f.BoolVar(&h.asJSON, "json", false, "print JSON, for programs")
}

func (h *historyQuestion) run(cmd *cobra.Command, args []string) error {
	if err := h.parse(cmd, args); err != nil {
		return usageError{err}
	}
	dir, err := h.find()
	if err != nil {
		return err
	}
	a, err := h.Run(dir)
	if err != nil {
		return err
	}
	if a.Distinct && !h.asJSON {
		fmt.Fprintln(os.Stderr, "These are sums of estimates of single windows and keys: a value that came in two of them counts twice.")
	}
	out := historyAnswer{a, h}
	switch {
	case h.asJSON:
		return out.json(cmd.OutOrStdout())
	case h.csv:
		return out.csv(cmd.OutOrStdout())
	}
	out.print(cmd.OutOrStdout())
	return nil
}

// parse makes a question of what was written.
func (h *historyQuestion) parse(cmd *cobra.Command, args []string) (err error) {
	for _, arg := range args {
		if !isBlock(arg) {
			h.Series = append(h.Series, arg)
			continue
		}
		if h.Block.IsValid() {
			return fmt.Errorf("there is one block in a question, not %s and %s", h.Block, arg)
		}
		if h.Block, err = parseBlock(arg); err != nil {
			return err
		}
	}
	if len(h.Series) == 0 {
		return errors.New("a series is missing; history available lists them")
	}
	if h.From, h.To, err = h.span.Times(time.Now(), time.Local); err != nil {
		return err
	}
	if cmd.Flags().Changed("cidrsize") {
		if h.Sizes, err = history.ParseSizes(h.sizes); err != nil {
			return fmt.Errorf("--cidrsize: %w", err)
		}
	}
	return errors.Join(h.parseForm(cmd), h.parseAggregate())
}

// parseForm reads what the lines are like.
func (h *historyQuestion) parseForm(cmd *cobra.Command) error {
	h.Key, h.Prefix = keyInUTF8(h.Key), keyInUTF8(h.Prefix)
	for _, text := range []string{h.Key, h.Prefix} {
		if lower := strings.ToLower(text); lower != text {
			return fmt.Errorf("%q: keys are in lower case; write %q", text, lower)
		}
	}
	switch {
	case h.csv && h.asJSON:
		return errors.New("an answer is --csv or --json, not both")
	case h.Key != "" && h.Prefix != "":
		return errors.New("--key names one key and --prefix many; write one of them")
	case cmd.Flags().Changed("limit") && h.Limit < 1:
		return fmt.Errorf("--limit %d: must be 1 or more", h.Limit)
	}
	if cmd.Flags().Changed("threshold") {
		h.Threshold = &h.threshold
	}
	switch h.order {
	case "cidr":
	case "count":
		h.ByCount = true
	default:
		return fmt.Errorf("--order %s: must be cidr or count", h.order)
	}
	return nil
}

func (h *historyQuestion) parseAggregate() error {
	h.Location = time.Local
	switch h.aggregate {
	case "all":
	case "daily":
		h.By = history.Days
	case "windows":
		h.By = history.Windows
	default:
		return fmt.Errorf("--aggregate %s: must be all, daily or windows", h.aggregate)
	}
	return nil
}

// isBlock reports whether an argument is meant as a block, right or wrong, which the
// name of a series such as connections/300 is not.
func isBlock(arg string) bool {
	address, _, _ := strings.Cut(arg, "/")
	_, err := netip.ParseAddr(address)
	return err == nil
}

func parseBlock(arg string) (netip.Prefix, error) {
	t, err := policy.ParseBlock(arg)
	if err != nil {
		return netip.Prefix{}, err
	}
	return t.Mask.Of(t.Key.Addr()), nil
}

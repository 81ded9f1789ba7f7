package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/audit-milter/audit-milter/internal/admin"
	"github.com/audit-milter/audit-milter/policy"
)

func explainCommand() *cobra.Command {
	var c console
	var id, session string
	var all bool
	cmd := c.answersJSON(&cobra.Command{
		Use:   "explain KEY",
		Short: "Tell why a key or a message is judged as it is",
		Long: `Tells which series hold a key, window by window, and what each rule that reads it
makes of it now: value against threshold, whether it fires, and until when if nothing
more arrives. Of a rule's when nobody knows without an event.
KEY is an address, a block (192.0.2.0/24) or a text; the parts of a composite key are
written with | between them.
With --queue-id or --session it tells the decisions about a message or a session, as
they were taken.
The exit status is 1 when no series holds the key, or no decision is found.`,
		Example: `  audit-milter explain 192.0.2.7
  audit-milter explain alice@example.com --all
  audit-milter explain --queue-id 4ZqXyz1234`,
		Args: between(0, 1, "explain takes one key, such as 192.0.2.7"),
		RunE: func(cmd *cobra.Command, args []string) error {
			key := strings.Join(args, "")
			switch {
			case !only(key, id, session):
				return usageError{errors.New("explain takes a key, such as 192.0.2.7, or --queue-id ID, or --session ID")}
			case all && key == "":
				return usageError{errors.New("--all is for a key: it shows every rule that could read it")}
			case key == "":
				return query(cmd, &c, "/api/v1/explain", params("queue_id", id, "session", session), printDecisions)
			}
			return query(cmd, &c, "/api/v1/explain", params("key", key, "all", trueText(all)), printExplained)
		},
		ValidArgsFunction: cobra.NoFileCompletions,
	})
	cmd.Flags().StringVar(&id, "queue-id", "", "tell the decisions about the message with this `id`")
	cmd.Flags().StringVar(&session, "session", "", "tell the decisions about the session with this `id`")
	cmd.Flags().BoolVar(&all, "all", false, "show every rule that could read the key")
	return cmd
}

// only reports whether one of the texts is there and no other.
func only(texts ...string) bool {
	there := 0
	for _, text := range texts {
		there += min(len(text), 1)
	}
	return there == 1
}

func trueText(set bool) string {
	if set {
		return "true"
	}
	return ""
}

func printExplained(out io.Writer, x admin.Explained) {
	fmt.Fprintf(out, "%s, %s\n", policy.Printable(x.Key), local(x.At))
	if x.Remote != "" {
		fmt.Fprintf(out, "counts of the cluster: %s\n", x.Remote)
	}
	if len(x.Series) > 0 {
		fmt.Fprintln(out)
		table(out, func(w io.Writer) {
			fmt.Fprintln(w, "SERIES\tKEY\tTOTAL\tWINDOW\tCOUNTS, THE CURRENT WINDOW FIRST")
			for _, h := range x.Series {
				fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%s\n", h.Series, policy.Printable(h.Key), h.Total, window(h), numbers(h.Counts))
			}
		})
	}
	if len(x.Rules) == 0 {
		fmt.Fprintln(out, "\nNo rule reads it.")
	}
	for _, r := range x.Rules {
		printRuleState(out, r, x.At)
	}
}

// window is how long a window is.
func window(h admin.Held) string {
	if h.IntervalSeconds == 0 {
		return "at present"
	}
	return duration(h.IntervalSeconds)
}

func numbers(counts []int64) string {
	return strings.Trim(fmt.Sprint(counts), "[]")
}

func printRuleState(out io.Writer, r admin.RuleState, at time.Time) {
	shadow := ""
	if r.Shadow {
		shadow = " (shadow)"
	}
	fmt.Fprintf(out, "\n%s at %s: %s%s\n  %s%s\n", r.Rule, r.At, r.Does, shadow, fires(r), until(r.FiresUntil, at))
	if r.When != "" {
		fmt.Fprintf(out, "  when %s\n", r.When)
	}
	for _, c := range r.If {
		printConditionState(out, "if", c, at)
	}
	for _, c := range r.Any {
		printConditionState(out, "any", c, at)
	}
	if r.PenaltyUntil != nil {
		fmt.Fprintf(out, "  penalty%s\n", until(r.PenaltyUntil, at))
	}
}

// fires says whether a rule does.
func fires(r admin.RuleState) string {
	where := ""
	if r.When != "" {
		where = " where its when holds"
	}
	switch {
	case r.Fires == "yes" && r.FiresUntil == nil:
		return "FIRES" + where + "; until when cannot be known"
	case r.Fires == "yes":
		return "FIRES" + where
	case r.Fires == "no":
		return "does not fire"
	}
	return "depends on what else an event has"
}

func printConditionState(out io.Writer, word string, c admin.ConditionState, at time.Time) {
	fmt.Fprintf(out, "  %s %s\n    ", word, c.Condition)
	if c.Holds == "depends" || c.Reading == nil {
		fmt.Fprintf(out, "depends on the %s of an event\n", c.DependsOn)
		return
	}
	fmt.Fprintf(out, "%s: %s: %s%s\n", policy.Printable(c.Reading.Key), compared(c.Reading), conditionHolds(c), until(c.HoldsUntil, at))
}

func conditionHolds(c admin.ConditionState) string {
	switch {
	case c.Shared:
		return "not held against a key that many share"
	case c.Holds == "yes":
		return "holds"
	}
	return "does not hold"
}

// compared is a count against its threshold.
func compared(r *admin.Reading) string {
	text := fmt.Sprintf("%d against %s", r.Count, thresholdText(r))
	if r.Percent != nil {
		text += fmt.Sprintf(", %d %%", *r.Percent)
	}
	return text
}

// thresholdText is a threshold, and what it is a share or a multiple of.
func thresholdText(r *admin.Reading) string {
	switch {
	case r.Of != nil:
		return fmt.Sprintf("%s of %d", r.Threshold, *r.Of)
	case r.Mean != nil:
		return fmt.Sprintf("%s the mean %g", r.Threshold, *r.Mean)
	}
	return r.Threshold.String()
}

// until is a moment and how far it is from now.
func until(end *time.Time, now time.Time) string {
	if end == nil {
		return ""
	}
	return fmt.Sprintf(" until %s (in %s)", local(*end), duration(int64(end.Sub(now)/time.Second)))
}

func printDecisions(out io.Writer, a admin.Decisions) {
	for i, d := range a.Decisions {
		if i > 0 {
			fmt.Fprintln(out)
		}
		printDecision(out, d)
	}
}

func printDecision(out io.Writer, d admin.Decision) {
	shadow := ""
	if d.Shadow {
		shadow = " (shadow)"
	}
	fmt.Fprintf(out, "%s  %s at %s by %s%s\n", local(d.Time), d.Verdict, d.Stage, d.Rule, shadow)
	table(out, func(w io.Writer) {
		for _, row := range [][2]string{
			{"session", d.Session}, {"queue_id", d.QueueID}, {"client_address", d.ClientAddress}, {"helo_name", d.HeloName},
			{"sasl_username", d.SASLUsername}, {"sender", d.Sender}, {"recipient", d.Recipient},
			{"count", counted(d)}, {"reply", d.Reply},
		} {
			if row[1] != "" {
				fmt.Fprintf(w, "  %s\t%s\n", row[0], row[1])
			}
		}
	})
}

// counted is what the decision was taken on.
func counted(d admin.Decision) string {
	if d.Reading == nil {
		return ""
	}
	text := fmt.Sprintf("%s in %s: %s", d.Reading.Key, d.Reading.Series, compared(d.Reading)) + ", windows " + windowsOf(d.Reading)
	if d.PenaltySeconds > 0 {
		text += fmt.Sprintf("; by its penalty, for %s more", duration(d.PenaltySeconds))
	}
	return text
}

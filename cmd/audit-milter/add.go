package main

import (
	"fmt"
	"io"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/audit-milter/audit-milter/internal/admin"
	"github.com/audit-milter/audit-milter/policy"
)

func addCommand() *cobra.Command {
	var c console
	return c.answersJSON(&cobra.Command{
		Use:   "add SERIES KEY [N]",
		Short: "Add to a count by hand",
		Long: `Adds N, 1 where it is not given, to the count of a key in the current window. A
negative N takes away.
` + aKey + ` Nothing can be added to a block.`,
		Example: `  audit-milter add connections 192.0.2.7 100
  audit-milter add recipients_by_user alice -50`,
		Args:              between(2, 3, "add takes a series, a key and a number, such as connections 192.0.2.7 10"),
		ValidArgsFunction: c.completeSeries,
		RunE: func(cmd *cobra.Command, args []string) error {
			n := int64(1)
			if len(args) == 3 {
				var err error
				if n, err = strconv.ParseInt(args[2], 10, 64); err != nil {
					return usageError{fmt.Errorf("%q is not a whole number", args[2])}
				}
			}
			return alter(cmd, &c, "/api/v1/add", admin.Add{Series: args[0], Key: keyInUTF8(args[1]), Count: &n}, printAdded)
		},
	})
}

func printAdded(out io.Writer, a admin.Added) {
	fmt.Fprintf(out, "%s in %s: %d in the current window\n", policy.Printable(a.Key), a.Series, a.Count)
}

// withNegative lets a negative number stand among the arguments of add, where it
// would be taken for a flag: it goes behind what ends the flags.
func withNegative(args []string) []string {
	at := slices.IndexFunc(args, func(arg string) bool {
		_, err := strconv.Atoi(arg)
		return err == nil && arg[0] == '-'
	})
	if len(args) == 0 || args[0] != "add" || at < 0 || slices.Contains(args, "--") {
		return args
	}
	return slices.Concat(args[:at], args[at+1:], []string{"--", args[at]})
}

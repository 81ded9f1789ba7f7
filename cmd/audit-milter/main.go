// Audit-milter counts what happens on a mail server in rolling windows and
// refuses abuse on what it counted. It stands beside Postfix or Sendmail as a
// milter.
//
//	audit-milter serve --config FILE    run the milter
//	audit-milter check --config FILE    say what is wrong with a configuration, or what was understood
//	audit-milter probe ADDR ...         play one SMTP dialogue against a running milter
//
// And of a running daemon, whose counts they ask for or change:
//
//	audit-milter show series            which series there are
//	audit-milter show ip IP[/MASK]      every count of an address or a block
//	audit-milter show all               every count there is, as CSV
//	audit-milter show limits            the keys nearest to a rule's threshold
//	audit-milter show penalties         the keys for which a rule goes on to fire
//	audit-milter show cluster           the nodes that count as one, and how old their counts are
//	audit-milter explain ...            what the rules make of a client, a login or another key
//	audit-milter count SERIES KEY       one count, by window
//	audit-milter add SERIES KEY [N]     add to a count
//	audit-milter remove SERIES KEY      forget a key, or all of a block; remove --penalty RULE KEY
//	audit-milter top SERIES             the largest counts, by key or network
//	audit-milter export SERIES          a series as CSV
//	audit-milter load SERIES FILE       that CSV back into a series
//	audit-milter reload                 read the configuration again
//
// And of the history that a daemon writes, whether it runs or not:
//
//	audit-milter history available      which series there are, and of what time
//	audit-milter history count SERIES   what they counted, by block or key and time
//	audit-milter history export SERIES  windows as CSV
//	audit-milter history load SERIES FILE    that CSV back into a history
//	audit-milter history maintain       make few files of many, and delete the oldest
//
// audit-milter --version says which one it is.
//
// The exit status is 0 when all is well, 1 when the answer is no (a bad
// configuration, a refused dialogue, a daemon that cannot start or be reached) and
// 2 when the command was used wrongly.
package main

import (
	"errors"
	"fmt"
	"os"
	"runtime/debug"

	"github.com/spf13/cobra"
)

func main() {
	os.Exit(run(os.Args[1:]))
}

// run executes a command line and returns its exit status.
func run(args []string) int {
	root := &cobra.Command{
		Use:           "audit-milter",
		Short:         "Counts mail in rolling windows and refuses abuse on what it counted",
		Version:       programVersion(),
		Args:          noSuchCommand,
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return usageError{errors.New("a command is needed, such as serve, check or show series; audit-milter help lists them")}
		},
	}
	root.AddCommand(serveCommand(), checkCommand(), probeCommand(),
		showCommand(), countCommand(), addCommand(), removeCommand(), topCommand(), explainCommand(),
		exportCommand(), loadCommand(), reloadCommand(), historyCommand())
	out := &output{file: os.Stdout}
	root.SetOut(out) // before the library's own commands are made, which keep it
	refuseUnknown(root)
	root.SetFlagErrorFunc(wrongFlag)
	root.SetArgs(withNegative(args))
	cmd, err := root.ExecuteC()
	if err == nil && out.err != nil {
		err = fmt.Errorf("what was written is not all: %w", out.err)
	}
	if err == nil {
		return 0
	}
	if _, ok := errors.AsType[refusal](err); ok {
		return 1 // the answer is printed already
	}
	fmt.Fprintln(os.Stderr, message(cmd, err))
	if errors.Is(err, errInterrupted) {
		return endInterrupted()
	}
	if _, ok := errors.AsType[usageError](err); ok {
		return 2
	}
	return 1
}

// output is standard output, and remembers that something could not be written:
// on a full disk an answer that lacks its end would look like a whole one.
type output struct {
	file *os.File
	err  error
}

func (o *output) Write(p []byte) (n int, err error) {
	n, err = o.file.Write(p)
	if err != nil {
		o.err = err
	}
	return n, err
}

// programVersion is what the Go tool noted when it built the program.
func programVersion() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "unknown"
}

// message is how an error is told; a configuration's errors stand for
// themselves, a line each. Some quote what a server has said, or a file.
func message(cmd *cobra.Command, err error) string {
	text := err.Error()
	if _, ok := errors.AsType[configError](err); !ok {
		text = cmd.CommandPath() + ": " + text
	}
	return printable(text)
}

// usageError is a command used wrongly.
type usageError struct{ error }

// configError is a configuration that cannot be used.
type configError struct{ error }

// refusal is an answer of no that was printed already.
type refusal struct{}

func (refusal) Error() string { return "refused" }

// exactly makes a wrong number of arguments a usage error, which says what is
// right.
func exactly(n int, right string) cobra.PositionalArgs { return between(n, n, right) }

func between(least, most int, right string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if least <= len(args) && len(args) <= most {
			return nil
		}
		return usageError{errors.New(right)}
	}
}

// configFlag adds --config, which serve and check need.
func configFlag(cmd *cobra.Command, path *string) {
	cmd.Flags().StringVar(path, "config", "", "the configuration `file`")
	if err := cmd.MarkFlagFilename("config", "yaml", "yml"); err != nil {
		panic(err)
	}
	cmd.PreRunE = func(*cobra.Command, []string) error {
		if *path == "" {
			return usageError{errors.New("--config FILE is needed")}
		}
		return nil
	}
}

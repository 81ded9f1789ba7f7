package main

import (
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/audit-milter/audit-milter/policy"
)

// wrongFlag says what would be right, where the library quotes Go's functions.
func wrongFlag(_ *cobra.Command, err error) error {
	if wrong, ok := errors.AsType[*pflag.InvalidValueError](err); ok {
		what := "a whole number, such as 10"
		switch wrong.GetFlag().Value.Type() {
		case "bool":
			what = "true or false, or nothing for true"
		case "string", "stringArray":
			return usageError{err} // takes anything
		}
		err = fmt.Errorf("--%s takes %s, not %q", wrong.GetFlag().Name, what, wrong.GetValue())
	}
	if unknown, ok := errors.AsType[*pflag.NotExistError](err); ok && unknown.GetSpecifiedShortnames() != "" {
		err = fmt.Errorf("%w; an argument that begins with - stands behind --", err)
	}
	return usageError{err}
}

// noEmptyFlag refuses a text that is given and empty, perhaps since a variable is: an
// address would be the default's, and a filter none.
func noEmptyFlag(cmd *cobra.Command, _ []string) (err error) {
	cmd.Flags().Visit(func(f *pflag.Flag) {
		if f.Value.Type() == "string" && f.Value.String() == "" {
			err = usageError{fmt.Errorf("--%s is empty", f.Name)}
		}
	})
	return err
}

// noSuchCommand refuses the name of a command that there is not, and guesses.
func noSuchCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if cmd.ArgsLenAtDash() == 0 {
		return usageError{fmt.Errorf("a command stands in front of --, so %q is none", args[0])}
	}
	unknown := policy.UnknownError{What: "command", Name: args[0]}
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			unknown.Known = append(unknown.Known, c.Name())
		}
	}
	return usageError{unknown}
}

// refuseUnknown makes the library's own commands refuse what there is not: their
// answer to a name that is misspelt is a help that was not asked for, and status 0.
func refuseUnknown(root *cobra.Command) {
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	own := func(name string) *cobra.Command {
		return root.Commands()[slices.IndexFunc(root.Commands(), func(c *cobra.Command) bool { return c.Name() == name })]
	}
	own("help").Args = func(_ *cobra.Command, args []string) error {
		of, rest, err := root.Find(args)
		if err != nil {
			return usageError{err}
		}
		return noSuchCommand(of, rest)
	}
	completion := own("completion")
	completion.Args = noSuchCommand
	completion.RunE = func(*cobra.Command, []string) error {
		return usageError{errors.New("write audit-milter completion bash, zsh, fish or powershell")}
	}
	for _, shell := range completion.Commands() {
		shell.Args = exactly(0, "write "+shell.CommandPath())
	}
}

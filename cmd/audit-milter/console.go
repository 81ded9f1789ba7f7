package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"
	"text/tabwriter"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/audit-milter/audit-milter/internal/admin"
	"github.com/audit-milter/audit-milter/internal/config"
	"github.com/audit-milter/audit-milter/policy"
)

// defaultAdmin is where the packaged service listens.
const defaultAdmin = "/run/audit-milter/admin.sock"

// adminEnv is the environment's name for the daemon's address.
const adminEnv = "AUDIT_MILTER_ADMIN"

// console is what all commands that speak to the running daemon share.
type console struct {
	address   string
	tokenFile string
	config    string
	json      bool
}

const findDaemon = `

The running daemon is found by --admin, else by admin.listen of the configuration
that --config names, else by ` + adminEnv + `, else at ` + defaultAdmin + `.`

// speaks makes a command one that speaks to the running daemon.
func (c *console) speaks(cmd *cobra.Command) *cobra.Command {
	cmd.Long += findDaemon
	cmd.PreRunE = noEmptyFlag
	f := cmd.Flags()
	f.StringVar(&c.address, "admin", "", "the daemon's `address`: unix:/path, http://host:port or https://host:port")
	f.StringVar(&c.tokenFile, "token-file", "", "the `file` with the token that http needs")
	f.StringVar(&c.config, "config", "", "the daemon's configuration `file`, which says where it listens")
	return cmd
}

// answersJSON adds --json to a command that answers for people.
func (c *console) answersJSON(cmd *cobra.Command) *cobra.Command {
	cmd.Flags().BoolVar(&c.json, "json", false, "print the daemon's answer as JSON, for programs")
	return c.speaks(cmd)
}

// find is the daemon's address, and where that comes from.
func (c *console) find() (address, from string, err error) {
	switch env := os.Getenv(adminEnv); {
	case c.address != "":
		return c.address, "--admin", nil
	case c.config != "":
		conf, err := config.Load(c.config)
		if err != nil {
			return "", "", configError{fmt.Errorf("%w\n%s cannot say where the daemon listens; one that runs goes on with what it read before, and --admin ADDRESS asks it", err, c.config)}
		}
		if conf.Admin.Socket.Network == "" {
			return "", "", fmt.Errorf("%s has no admin.listen, so its daemon cannot be asked", c.config)
		}
		return conf.Admin.Socket.String(), c.config, nil
	case env != "":
		return env, adminEnv, nil
	}
	return defaultAdmin, "the default; --admin, --config or " + adminEnv + " say otherwise", nil
}

// running is the daemon, which is not yet connected to.
type running struct {
	*admin.Client
	from string // where its address comes from
}

func (c *console) daemon() (*running, error) {
	address, from, err := c.find()
	if err != nil {
		return nil, err
	}
	token := ""
	if c.tokenFile != "" {
		text, err := os.ReadFile(c.tokenFile)
		if err != nil {
			return nil, fmt.Errorf("reading the token: %w", err)
		}
		if token, err = config.ParseToken(c.tokenFile, text); err != nil {
			return nil, err
		}
	}
	client, err := admin.NewClient(address, token)
	if err != nil {
		return nil, usageError{fmt.Errorf("%w (from %s)", err, from)}
	}
	return &running{client, from}, nil
}

// told adds to an error what helps to find the daemon.
func (d *running) told(err error) error {
	if errors.Is(err, admin.ErrUnreachable) {
		return fmt.Errorf("%w (from %s)", err, d.from)
	}
	return err
}

// params are parameters of a question, those that are empty left out.
func params(pairs ...string) url.Values {
	v := make(url.Values)
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			v.Set(pairs[i], pairs[i+1])
		}
	}
	return v
}

// query puts a question and tells its answer: as it came with --json, else by show.
func query[A any](cmd *cobra.Command, c *console, path string, params url.Values, show func(io.Writer, A)) error {
	return tell(cmd, c, show, func(d *running) ([]byte, error) { return d.Get(cmd.Context(), path, params) })
}

// alter asks for a change and tells what became of it.
func alter[A any](cmd *cobra.Command, c *console, path string, change any, show func(io.Writer, A)) error {
	return tell(cmd, c, show, func(d *running) ([]byte, error) { return d.Post(cmd.Context(), path, change) })
}

// keyInUTF8 is a key as JSON can have it: one with other bytes is spelt as the log would.
func keyInUTF8(key string) string {
	if utf8.ValidString(key) {
		return key
	}
	return policy.Spell(key)
}

func tell[A any](cmd *cobra.Command, c *console, show func(io.Writer, A), request func(*running) ([]byte, error)) error {
	d, err := c.daemon()
	if err != nil {
		return err
	}
	data, err := request(d)
	if err != nil {
		return d.told(err)
	}
	if c.json {
		_, err := cmd.OutOrStdout().Write(data)
		return err
	}
	var answer A
	if err := json.Unmarshal(data, &answer); err != nil {
		return fmt.Errorf("the answer of %s is not that of this version: %w", d.Address(), err)
	}
	show(legible{cmd.OutOrStdout()}, answer)
	return nil
}

// legible lets a terminal obey nothing of an answer: who gave it may be anybody.
type legible struct{ io.Writer }

func (l legible) Write(p []byte) (int, error) {
	if _, err := io.WriteString(l.Writer, printable(string(p))); err != nil {
		return 0, err
	}
	return len(p), nil
}

// printable makes several lines safe to show.
func printable(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		lines[i] = policy.Printable(line)
	}
	return strings.Join(lines, "\n")
}

// table writes aligned columns.
func table(out io.Writer, write func(w io.Writer)) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	write(w)
	w.Flush()
}

// completeSeries offers the running daemon's series for a command's first
// argument.
func (c *console) completeSeries(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	list, err := c.series(cmd.Context())
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	var names []string
	for _, s := range list {
		names = append(names, cobra.CompletionWithDesc(s.Name, s.Type))
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// completeFlag offers some of the running daemon's rules for a flag.
func (c *console) completeFlag(cmd *cobra.Command, flag string, offer func(admin.Rule) bool) {
	err := cmd.RegisterFlagCompletionFunc(flag, func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		list, err := fetch[admin.RuleList](cmd.Context(), c, "/api/v1/rules")
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		var names []string
		for _, r := range list.Rules {
			if offer(r) {
				names = append(names, cobra.CompletionWithDesc(r.Name, r.Does))
			}
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	})
	if err != nil {
		panic(err)
	}
}

// series are the running daemon's.
func (c *console) series(ctx context.Context) ([]admin.Series, error) {
	list, err := fetch[admin.SeriesList](ctx, c, "/api/v1/series")
	return list.Series, err
}

// fetch puts a question without parameters.
func fetch[A any](ctx context.Context, c *console, path string) (answer A, err error) {
	d, err := c.daemon()
	if err != nil {
		return answer, err
	}
	data, err := d.Get(ctx, path, nil)
	if err != nil {
		return answer, d.told(err)
	}
	return answer, json.Unmarshal(data, &answer)
}

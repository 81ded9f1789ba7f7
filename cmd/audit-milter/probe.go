package main

import (
	"cmp"
	"fmt"
	"io"
	"net/netip"
	"strings"

	"github.com/spf13/cobra"

	"github.com/audit-milter/audit-milter/milter"
	"github.com/audit-milter/audit-milter/policy"
)

// dialogue is what probe plays.
type dialogue struct {
	client    netip.Addr
	name      string
	heloName  string
	user      string
	from      string
	to        []string
	refusedTo []refusedRecipient // refused by the MTA, not by the milter
	headers   []headerField
	size      int64
	macros    []string // NAME, VALUE, …
}

type refusedRecipient struct{ address, status string }

type headerField struct{ name, value string }

func probeCommand() *cobra.Command {
	var d dialogue
	var client string
	var refusedTo, headers, macros []string
	cmd := &cobra.Command{
		Use:   "probe ADDR --client IP",
		Short: "Play one SMTP dialogue against a running milter and print each stage's answer",
		Long: `Plays the MTA's side of one SMTP dialogue against the milter that listens at
ADDR (inet:127.0.0.1:9900, unix:/path) and prints what each stage is answered.
Its events are counted like any client's. The exit status is 1 when anything
is refused.`,
		Example: `  audit-milter probe inet:127.0.0.1:9900 --client 192.0.2.7 --from a@example.com --to b@example.org
  audit-milter probe unix:/run/audit-milter/milter.sock --client 2001:db8::7 --user alice --to b@example.org --refused-to c@example.org=5.1.1`,
		Args: exactly(1, "probe takes the milter's address, such as inet:127.0.0.1:9900"),
		RunE: func(cmd *cobra.Command, args []string) error {
			addr, err := milter.ParseAddress(args[0])
			if err != nil {
				return usageError{err}
			}
			if err := d.parse(client, refusedTo, headers, macros); err != nil {
				return usageError{err}
			}
			return probe(cmd.OutOrStdout(), addr, d)
		},
	}
	f := cmd.Flags()
	f.StringVar(&client, "client", "", "the client's `IP` address (needed)")
	f.StringVar(&d.name, "name", "", "the client's host `name`; without it the MTA knows none")
	f.StringVar(&d.heloName, "helo", "probe.invalid", "the argument of EHLO, a host `name`")
	f.StringVar(&d.user, "user", "", "the SASL `login` name")
	f.StringVar(&d.from, "from", "", "the sender's `address`; empty is the null sender")
	f.StringArrayVar(&d.to, "to", nil, "a recipient's `address`; may be repeated")
	f.StringArrayVar(&refusedTo, "refused-to", nil, "a recipient that the MTA refuses, as `address=status`, such as x@example.org=5.1.1; may be repeated")
	f.StringArrayVar(&headers, "header", nil, "a header `field`, as \"Name: value\"; may be repeated")
	f.Int64Var(&d.size, "size", 0, "the SIZE that the client declares, in `bytes`; 0 declares none")
	f.StringArrayVar(&macros, "macro", nil, "a macro that the MTA sends at every stage, as `name=value`, such as daemon_name=smtps; a name of more than one letter may stand in braces; may be repeated")
	return cmd
}

// parse reads the flags that have a form of their own.
func (d *dialogue) parse(client string, refusedTo, headers, macros []string) (err error) {
	if client == "" {
		return fmt.Errorf("--client IP is needed")
	}
	if d.client, err = netip.ParseAddr(client); err != nil || d.client.Zone() != "" {
		return fmt.Errorf("--client %s is not an IP address", client)
	}
	d.client = d.client.Unmap()
	if d.size < 0 {
		return fmt.Errorf("--size %d is negative", d.size)
	}
	for _, r := range refusedTo {
		at := strings.LastIndexByte(r, '@')
		address, status := r, ""
		if i := strings.LastIndexByte(r, '='); i > at { // in front of the @ it is a part of the address
			address, status = r[:i], r[i+1:]
		}
		if address == "" || !policy.IsStatus(status) {
			return fmt.Errorf("--refused-to %s lacks its status; write %s=5.1.1", r, cmp.Or(address, "x@example.org"))
		}
		d.refusedTo = append(d.refusedTo, refusedRecipient{address, status})
	}
	for _, h := range headers {
		name, value, ok := strings.Cut(h, ":")
		if !ok || name == "" {
			return fmt.Errorf("--header %q is not a header field; write \"Name: value\"", h)
		}
		d.headers = append(d.headers, headerField{name, strings.TrimPrefix(value, " ")})
	}
	for _, m := range macros {
		name, value, ok := strings.Cut(m, "=")
		if !ok || name == "" {
			return fmt.Errorf("--macro %s is not NAME=VALUE, such as daemon_name=smtps", m)
		}
		d.macros = append(d.macros, macroName(name), value)
	}
	return nil
}

// macroName is a macro's name as the protocol has it: in braces, unless it is
// one letter.
func macroName(name string) string {
	if len(name) == 1 || strings.HasPrefix(name, "{") {
		return name
	}
	return "{" + name + "}"
}

// probe plays the dialogue and prints it.
func probe(out io.Writer, addr milter.Listen, d dialogue) error {
	p, err := dialMilter(out, addr, d)
	if err != nil {
		return err
	}
	defer p.close()
	fmt.Fprintln(out, "The events of this dialogue are counted like any client's.")
	if err := p.play(); err != nil {
		return err
	}
	if p.refused {
		return refusal{}
	}
	return nil
}

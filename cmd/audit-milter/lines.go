package main

import (
	"fmt"
	"io"

	"github.com/audit-milter/audit-milter/internal/config"
	"github.com/audit-milter/audit-milter/policy"
)

// printLines prints what to paste into the MTAs' configurations. The time-outs
// leave room for the longest delay; the default action is on_error's, so that
// a daemon that is down means the same as one that fails.
func printLines(out io.Writer, conf *config.Config) {
	action, flag := "accept", ""
	if conf.Policy.OnError == policy.Tempfail {
		action, flag = "tempfail", "F=T, "
	}
	for _, l := range conf.Listen {
		fmt.Fprintf(out, `# Postfix, main.cf (per service: -o smtpd_milters=... in master.cf):
smtpd_milters = { %s, connect_timeout=2s, command_timeout=15s, content_timeout=30s, default_action=%s }
# Sendmail, sendmail.mc:
INPUT_MAIL_FILTER(%s, %s)dnl
`, l.Postfix(), action, "`audit-milter'", fmt.Sprintf("`S=%s, %sT=C:2s;S:10s;R:15s;E:30s'", l.Sendmail(), flag))
	}
}

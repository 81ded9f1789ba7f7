package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/audit-milter/audit-milter/internal/admin"
	"github.com/audit-milter/audit-milter/internal/config"
	"github.com/audit-milter/audit-milter/internal/logging"
	"github.com/audit-milter/audit-milter/internal/metrics"
	"github.com/audit-milter/audit-milter/internal/notify"
	"github.com/audit-milter/audit-milter/milter"
	"github.com/audit-milter/audit-milter/policy"
)

// The bounds of the end: how long sessions may go on after SIGTERM, then
// notifications, if their targets are slow, and then the log, if its reader is.
const (
	drainTime  = 10 * time.Second
	notifyTime = 3 * time.Second
	flushTime  = time.Second
)

func serveCommand() *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:   "serve --config FILE",
		Short: "Run the milter",
		Long: `Runs the milter in the foreground and logs to standard error. It prints the
lines to paste into Postfix's main.cf and Sendmail's sendmail.mc.

SIGHUP reloads: the new configuration replaces the old one as a whole, or, when
anything is wrong with it, not at all. Counts stay.

SIGTERM and SIGINT end it: no new sessions are taken, and those with a message
in progress may finish it, all within 10 seconds.`,
		Args: exactly(0, "write audit-milter serve --config FILE"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return serve(path, os.Stdout)
		},
	}
	configFlag(cmd, &path)
	return cmd
}

func serve(path string, out io.Writer) error {
	// From the beginning on: an early SIGHUP would end the process, and systemd
	// take that for its wish.
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	conf, err := config.Load(path)
	if err != nil {
		return configError{err}
	}
	now, err := clock()
	if err != nil {
		return err
	}
	// A log whose reader is gone is no reason to end, as SIGPIPE would.
	signal.Ignore(syscall.SIGPIPE)
	log := logging.Open(os.Stderr, conf.Log)
	defer log.Close(flushTime)
	limitMemory(log.Logger)
	notifier := notify.Start(conf.Notify, notify.Options{Log: log.Logger})
	server := &milter.Server{Log: log.Logger, Now: now, Node: conf.Node}
	kept, err := openKeeping(conf, now, log.Logger)
	if err != nil {
		return err
	}
	defer kept.close()
	reloads := &reloader{path: path, started: conf, server: server, notifier: notifier, kept: kept, log: log}
	reloads.conf.Store(conf)
	engine, err := kept.engine(reloads)
	if err != nil {
		return err
	}
	server.Adopt(terms(conf, engine))
	inForce := func() *policy.Engine { return server.InForce().Engine }
	kept.start(inForce, reloads.now)
	doors, err := openDoors(conf.Admin)
	if err != nil {
		return err
	}
	defer doors.close()
	listeners, err := listen(conf.Listen)
	if err != nil {
		return err
	}
	ends := make(chan os.Signal, 1) // of its own: what does not fit into a channel is lost
	signal.Notify(ends, syscall.SIGTERM, syscall.SIGINT)
	endConsole := doors.serve(&admin.Server{
		Engine: inForce,
		Token:  reloads.token,

		Cluster: kept.clusterStatus(),
		Reload:  reloads.reload,
		Now:     now,
		Metrics: metrics.Handler(metrics.Source{
			Engine: inForce, Server: server, Notifier: notifier,
			State: kept.state, History: kept.history, Maintainer: kept.maintainer, Cluster: kept.clusterStatus(), Now: now, Log: log,
		}),
		Log: log.Logger,
	}, log.Logger)
	printLines(out, conf)
	log.Info("serving", "config", path, "series", len(conf.Policy.Series), "rules", len(conf.Policy.Rules), "mode", mode(conf.Policy),
		"gomaxprocs", runtime.GOMAXPROCS(0), "memory_limit", memoryLimit())
	tellNotes(conf, log.Logger)
	tellFewDescriptors(conf, log.Logger)
	kept.awaitCluster() // those who connect wait meanwhile
	err = supervise(reloads, listeners, hangups, ends)
	endConsole()
	reloads.end()
	notifier.Close(notifyTime)
	inForce().Close() // it may hold lines back
	kept.close()
	log.Info("stopped")
	return err
}

// supervise serves all listeners until a signal ends it or one fails.
func supervise(r *reloader, listeners []net.Listener, hangups, ends <-chan os.Signal) error {
	failed := make(chan error, len(listeners))
	var serving sync.WaitGroup
	for i, l := range listeners {
		serving.Go(func() {
			defer r.log.FlushOnPanic(flushTime)
			if err := r.server.Serve(l, r.started.Listen[i].Allow); err != nil {
				failed <- err
			}
		})
	}
	err := waitForEnd(r, hangups, ends, failed)
	ctx, cancel := context.WithTimeout(context.Background(), drainTime)
	defer cancel()
	if drainErr := r.server.Shutdown(ctx); drainErr != nil {
		r.log.Warn("sessions were cut off", "error", drainErr)
	}
	serving.Wait()
	return err
}

// lookTime is how often it is looked whether a list's file has changed.
const lookTime = time.Second

// waitForEnd waits for a signal that ends the daemon, or for a listener's
// failure, which it returns. Meanwhile it reloads what is to be reloaded.
func waitForEnd(r *reloader, hangups, ends <-chan os.Signal, failed <-chan error) error {
	looks := time.NewTicker(lookTime)
	defer looks.Stop()
	for {
		select {
		case err := <-failed:
			return err
		case <-looks.C:
			r.lookAtFiles()
			r.server.InForce().Engine.EndMinute(r.now())
		case <-hangups:
			r.reload() // the log has its error
		case s := <-ends:
			r.log.Info("draining", "signal", s.String(), "within", drainTime.String())
			return nil
		}
	}
}

// spareDescriptors are those that are not sessions': the connections above
// max_sessions, those of the console, the listeners, the log and what the runtime
// needs.
const spareDescriptors = 180

// tellFewDescriptors says when the system allows fewer sessions than
// max_sessions. What comes above waits until another ends.
func tellFewDescriptors(conf *config.Config, log *slog.Logger) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return
	}
	if need := uint64(conf.MaxSessions + spareDescriptors); uint64(limit.Cur) < need {
		log.Warn("the system allows fewer file descriptors than max_sessions needs", "limit", limit.Cur, "max_sessions", conf.MaxSessions, "needs", need)
	}
}

// listen opens all sockets, or none.
func listen(specs []milter.Listen) (listeners []net.Listener, err error) {
	for _, spec := range specs {
		l, err := spec.Open()
		if err != nil {
			for _, open := range listeners {
				open.Close()
			}
			return nil, fmt.Errorf("listening on %s: %w", spec, err)
		}
		listeners = append(listeners, l)
	}
	return listeners, nil
}

func mode(p *policy.Policy) string {
	if p.Shadow {
		return "shadow"
	}
	return "enforce"
}

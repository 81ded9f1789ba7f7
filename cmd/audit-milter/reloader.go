package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/audit-milter/audit-milter/internal/config"
	"github.com/audit-milter/audit-milter/internal/logging"
	"github.com/audit-milter/audit-milter/internal/notify"
	"github.com/audit-milter/audit-milter/milter"
	"github.com/audit-milter/audit-milter/policy"
)

// reloader replaces the configuration of a running server.
type reloader struct {
	path     string
	started  *config.Config // what needs a restart is as it says
	server   *milter.Server
	notifier *notify.Notifier
	kept     *keeping
	log      *logging.Log

	mu   sync.Mutex   // one at a time; owns over and own
	over bool         // the daemon ends
	own  []netip.Addr // this host's, as they were read last
	conf atomic.Pointer[config.Config]
}

// terms are what a server serves by.
func terms(conf *config.Config, engine *policy.Engine) milter.Terms {
	return milter.Terms{
		Engine:      engine,
		MaxSessions: conf.MaxSessions,
		MaxDelayed:  conf.MaxDelayed,
		Timeouts:    conf.Timeouts,
	}
}

// options are an engine's surroundings.
func (r *reloader) options() policy.Options {
	return policy.Options{Log: r.log.Logger, Start: r.now(), OwnAddresses: r.ownAddresses(), Notify: r.notifier.Fired}
}

// ownAddresses are this host's, for the guard against shared keys. Where they
// cannot be read, as in a shortage of file descriptors, those stay that were.
func (r *reloader) ownAddresses() []netip.Addr {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		r.log.Warn("this host's addresses cannot be read; of the shared keys only loopback, the null sender and those read before are known", "read_before", len(r.own), "error", err)
		return r.own
	}
	r.own = nil
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			r.own = append(r.own, p.Addr())
		}
	}
	return r.own
}

// reload reads the file again and puts it in force as a whole. When anything is
// wrong, nothing is changed; the error and the log then say what. What the reload
// did is told in sentences, and in the log.
func (r *reloader) reload() (did []string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over {
		return nil, errors.New("the daemon ends")
	}
	conf, err := config.Load(r.path)
	if err != nil {
		r.refuse(err)
		return nil, err
	}
	r.log.SetLevel(conf.Log.Level) // an engine asks for it when it is made
	before := r.server.InForce().Engine
	next, changes, err := before.Successor(conf.Policy, r.options())
	if err != nil {
		r.refuse(err)
		return nil, err
	}
	r.notifier.Replace(conf.Notify)
	var behind int
	var lacking policy.StageSet
	r.kept.change(next, r.now(), func() {
		behind, lacking = r.server.Adopt(terms(conf, next))
		before.Retire(next)
	})
	r.conf.Store(conf)
	did = r.tell(changes)
	if behind > 0 {
		r.log.Info("sessions lack what the new policy needs of these stages, as long as they last", "sessions", behind, "stages", lacking)
		did = append(did, fmt.Sprintf("%d sessions lack what the new policy needs of these stages, as long as they last: %s", behind, lacking))
	}
	return did, nil
}

// end lets no reload begin any more: one that was asked for by the console may still
// be under way when that has ended.
func (r *reloader) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.over = true
}

// token is what the console asks for. It does not wait for a reload, and so
// neither do /health and /metrics.
func (r *reloader) token() string { return r.conf.Load().Admin.Token }

// lookAtFiles lets those files take effect that have changed.
func (r *reloader) lookAtFiles() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, f := range r.conf.Load().Files {
		changed, errs := f.Look()
		if changed {
			r.log.Info("a file has changed and was read", "file", f.Path, "of", f.About)
		}
		for _, e := range errs {
			r.log.Error("a file is of no use: what was read before stays", "error", e)
		}
	}
}

func (r *reloader) now() time.Time {
	if r.server.Now != nil {
		return r.server.Now()
	}
	return time.Now()
}

// refuse logs why the old configuration stays.
func (r *reloader) refuse(err error) {
	r.log.SetLevel(r.conf.Load().Log.Level)
	all, ok := errors.AsType[config.Errors](err)
	if !ok {
		r.log.Error("not reloaded: the old configuration stays", "error", err)
	}
	for _, e := range all {
		r.log.Error("not reloaded: the old configuration stays", "error", e)
	}
}

// tell logs what became of the series and of the other keys, and says it in
// sentences.
func (r *reloader) tell(changes policy.Changes) (did []string) {
	p := r.conf.Load().Policy
	r.log.Info("reloaded", "config", r.path, "series", len(p.Series), "rules", len(p.Rules), "mode", mode(p),
		"kept", len(changes.Kept), "reshaped", len(changes.Reshaped), "begun", len(changes.Begun), "dropped", len(changes.Dropped))
	did = append(did, fmt.Sprintf("reloaded %s: %d series, %d rules, mode %s", r.path, len(p.Series), len(p.Rules), mode(p)))
	for _, list := range []struct {
		names []string
		what  string
	}{
		{changes.Kept, "go on with their counts"},
		{changes.Begun, "begin"},
		{changes.Dropped, "are dropped"},
	} {
		if len(list.names) > 0 {
			did = append(did, fmt.Sprintf("series that %s: %s", list.what, strings.Join(list.names, ", ")))
		}
	}
	for _, s := range changes.Reshaped {
		did = append(did, r.tellReshaped(s))
	}
	if rules := strings.Join(changes.Freed, ", "); rules != "" {
		r.log.Warn("penalties ran of rules that are gone, give none any more or have another mode; they are dropped", "rules", rules)
		did = append(did, "penalties that are dropped: those of "+rules)
	}
	if keys := r.needRestart(); keys != nil {
		r.log.Warn("a restart is needed for what has changed there", "keys", strings.Join(keys, ", "))
		did = append(did, "a restart is needed for what has changed in "+strings.Join(keys, ", "))
	}
	tellNotes(r.conf.Load(), r.log.Logger)
	tellFewDescriptors(r.conf.Load(), r.log.Logger)
	return did
}

func (r *reloader) tellReshaped(s policy.Reshaped) string {
	if s.Lost == "" {
		r.log.Info("a series has changed; its counts were carried over", "series", s.Name)
		return fmt.Sprintf("series %s has changed; its counts were carried over", s.Name)
	}
	r.log.Warn("a series has changed; not all of its counts could be carried over", "series", s.Name, "lost", s.Lost)
	return fmt.Sprintf("series %s has changed; not carried over: %s", s.Name, s.Lost)
}

// needRestart names the keys whose change does not take effect.
func (r *reloader) needRestart() (keys []string) {
	was, is := r.started, r.conf.Load()
	if !reflect.DeepEqual(was.Listen, is.Listen) {
		keys = append(keys, "listen")
	}
	if was.Log.JSON != is.Log.JSON || was.Log.Buffer != is.Log.Buffer {
		keys = append(keys, "log")
	}
	if !reflect.DeepEqual(was.Admin.Socket, is.Admin.Socket) || was.Admin.HTTP != is.Admin.HTTP {
		keys = append(keys, "admin")
	}
	if was.StateDir != is.StateDir {
		keys = append(keys, "state_dir")
	}
	if !reflect.DeepEqual(was.History, is.History) {
		keys = append(keys, "history")
	}
	if !sameCluster(was.Cluster, is.Cluster) {
		keys = append(keys, "cluster")
	}
	return keys
}

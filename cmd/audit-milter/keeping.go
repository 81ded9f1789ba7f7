package main

import (
	"context"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/audit-milter/audit-milter/internal/cluster"
	"github.com/audit-milter/audit-milter/internal/config"
	"github.com/audit-milter/audit-milter/internal/deltas"
	"github.com/audit-milter/audit-milter/internal/history"
	"github.com/audit-milter/audit-milter/internal/state"
	"github.com/audit-milter/audit-milter/policy"
)

// maxUnfinished is how many starts may end before their snapshot is complete, some
// seconds later, until one waits for it. Else the files of a restart loop would pile up,
// and each start would read all of them.
const maxUnfinished = 3

// keeping is what outlasts the daemon, or leaves it: the state of what persists, the
// history of what is serialized, and the cluster for what replicates.
type keeping struct {
	log        *slog.Logger
	state      *state.Store        // nil without state_dir
	history    *history.Writer     // nil without history
	held       *os.File            // keeps others from the history; nil without
	maintainer *history.Maintainer // of the history
	cluster    *cluster.Cluster    // nil without cluster
	collector  *deltas.Collector   // nil with none of them
	restored   policy.Restored     // until there is an engine
	unfinished int                 // starts before this one that ended before their snapshot was complete

	inForce func() *policy.Engine
	now     func() time.Time
	end     context.CancelFunc
	running sync.WaitGroup
	leave   context.CancelFunc // ends the cluster
	joined  sync.WaitGroup
	closing sync.Once
}

// openKeeping restores what persists. The clock may be nil.
func openKeeping(conf *config.Config, now func() time.Time, log *slog.Logger) (k *keeping, err error) {
	k = &keeping{log: log}
	var takers []deltas.Taker
	var last uint64
	o := state.Options{Log: log}
	if h := conf.History; h != nil {
		if k.held, err = history.Hold(h.Dir); err != nil {
			return nil, err
		}
		k.history, err = history.NewWriter(history.Options{
			Dir: h.Dir, Node: conf.Node, Takes: h.Takes, MinCount: h.MinCount, Log: log, Now: now,
			Manager: conf.Cluster != nil && conf.Cluster.Role == config.RoleManager,
		})
		if err != nil {
			return nil, err
		}
		k.maintainer = &history.Maintainer{Dir: h.Dir, Retention: h.Retention, MaxSize: h.MaxSize, MinCount: h.MinCount, Log: log, Now: now}
		takers = append(takers, k.history)
		o.Replayed, o.Needed = k.replayed(conf), k.history.Needed
	}
	if conf.Cluster != nil {
		o.Node = conf.Cluster.Node
	}
	if conf.StateDir != "" {
		if last, err = k.restore(conf, o); err != nil {
			k.close()
			return nil, err
		}
		takers = append(takers, k.state)
	}
	if k.state != nil && k.history != nil {
		k.history.Recover() // if the disk refuses that, its log says so
	}
	if conf.Cluster != nil {
		if err := k.openCluster(conf, now, last); err != nil {
			k.close()
			return nil, err
		}
		takers = append(takers, k.cluster)
	}
	if takers != nil {
		if k.history != nil { // whose numbers may be higher than the clock, if that was set back
			last = max(last, k.history.Last())
		}
		k.collector = deltas.New(last, takers...)
	}
	return k, nil
}

// replayed tells the history a batch of the journal. That does not say what replicates,
// which a manager writes and this node does not.
func (k *keeping) replayed(conf *config.Config) func(*deltas.Batch) {
	return func(b *deltas.Batch) {
		for i := range b.Series {
			if s := conf.Policy.Find(b.Series[i].Definition.Name); s != nil {
				b.Series[i].Replicate = s.Replicate
			}
		}
		k.history.Replayed(b)
	}
}

// openCluster makes this node a part of the cluster, which begins with start; the state
// has batches up to the last. A server that does not answer is no reason not to serve.
func (k *keeping) openCluster(conf *config.Config, now func() time.Time, last uint64) (err error) {
	o := clusterOptions(conf.Cluster)
	o.Now, o.Log, o.Kept = now, k.log, last
	o.Engine = func() cluster.Engine { return k.inForce() }
	o.Restored = make(map[string]bool)
	for _, l := range k.restored.Series {
		if s := conf.Policy.Find(l.Definition.Name); s != nil {
			o.Restored[s.Name] = s.Persist // else it begins empty
		}
	}
	if k.history != nil {
		o.Keeper = k.history
	}
	k.cluster, err = cluster.Open(o)
	return err
}

// clusterStatus is how the cluster looks; nil where there is none.
func (k *keeping) clusterStatus() func() cluster.Status {
	if k.cluster == nil {
		return nil
	}
	return k.cluster.Status
}

// restore opens the state and tells the number of its last batch.
func (k *keeping) restore(conf *config.Config, o state.Options) (last uint64, err error) {
	begun, dir := time.Now(), conf.StateDir
	store, r, err := state.Open(dir, o)
	if err != nil {
		return 0, err
	}
	k.state, k.restored, k.unfinished = store, r.Restored, r.Unfinished
	if r.Until.IsZero() {
		k.log.Info("nothing was kept before: what persists begins empty", "state_dir", dir)
		return r.Number, nil
	}
	keys := 0
	for _, l := range r.Series {
		keys += l.Counter.Len()
	}
	k.log.Info("restored what persists", "state_dir", dir, "series", len(r.Series), "keys", keys, "penalties", len(r.Penalties),
		"until", r.Until, "bytes", r.Bytes, "took", time.Since(begun).String())
	if r.Node != "" && o.Node != "" && r.Node != o.Node {
		k.dropReplicated(conf, r.Node)
	}
	return r.Number, nil
}

// engine begins with what was restored, and tells of that what the policy has changed.
func (k *keeping) engine(r *reloader) (*policy.Engine, error) {
	engine, changes, err := policy.Restore(k.restored, r.started.Policy, r.options())
	if err != nil {
		return nil, err
	}
	k.restored = policy.Restored{}
	for _, s := range changes.Reshaped {
		r.tellReshaped(s)
	}
	if len(changes.Dropped) > 0 {
		k.log.Warn("counts were kept of series that are gone or do not persist any more; they are dropped", "series", strings.Join(changes.Dropped, ", "))
	}
	if len(changes.Freed) > 0 {
		k.log.Warn("penalties were kept of rules that are gone, give none any more or have another mode; they are dropped", "rules", strings.Join(changes.Freed, ", "))
	}
	return engine, nil
}

// dropReplicated drops what this node has counted of series that replicate under another
// name: the cluster has that still under the other name, and would count it twice.
func (k *keeping) dropReplicated(conf *config.Config, before string) {
	var dropped []string
	k.restored.Series = slices.DeleteFunc(k.restored.Series, func(l *policy.Lasting) bool {
		s := conf.Policy.Find(l.Definition.Name)
		drop := s != nil && s.Replicate != policy.None
		if drop {
			dropped = append(dropped, l.Definition.Name)
		}
		return drop
	})
	if len(dropped) > 0 {
		k.log.Warn("this node had another name in the cluster, which has its counts still under that name; here they are dropped",
			"node", conf.Cluster.Node, "before", before, "series", strings.Join(dropped, ", "))
	}
}

// start keeps what the engine in force shows from now on.
func (k *keeping) start(inForce func() *policy.Engine, now func() time.Time) {
	if k.collector == nil {
		return
	}
	k.inForce, k.now = inForce, now
	collect := k.collector.Collect // before the first event: what comes before it would be missed
	if k.unfinished > maxUnfinished {
		collect = k.collector.Finish
	}
	collect(k.inForce(), now())
	var ctx context.Context
	ctx, k.end = context.WithCancel(context.Background())
	k.running.Go(func() { k.collector.Run(ctx, func() deltas.Engine { return inForce() }, now) })
	if k.maintainer != nil {
		k.running.Go(func() { k.maintainer.Run(ctx) })
	}
	if k.cluster != nil {
		var member context.Context
		member, k.leave = context.WithCancel(context.Background())
		k.joined.Go(func() { k.cluster.Run(member) })
	}
}

// awaitTime bounds how long the first sessions wait for a cluster's server that is slow or away.
const awaitTime = 500 * time.Millisecond

// awaitCluster lets this node learn what the cluster knows before it judges anybody: a
// penalty that it has kept may have ended meanwhile.
func (k *keeping) awaitCluster() {
	if k.cluster != nil {
		k.cluster.AwaitLook(awaitTime)
	}
}

// change puts another engine in force, so that none of its adds is missed.
func (k *keeping) change(next *policy.Engine, now time.Time, adopt func()) {
	if k.collector == nil {
		adopt()
		return
	}
	k.collector.Change(next, now, adopt)
}

// close keeps what has come to the end, and writes and tells it.
func (k *keeping) close() {
	k.closing.Do(func() {
		if k.end != nil {
			k.end()
			k.running.Wait()
			k.collector.Finish(k.inForce(), k.now())
		}
		if k.leave != nil {
			k.leave()
			k.joined.Wait()
		}
		if k.history != nil {
			k.history.Close()
			k.held.Close()
		}
		if k.state == nil {
			return
		}
		if err := k.state.Close(); err != nil {
			k.log.Error("not all that persists could be written at the end", "error", err)
		}
	})
}

package metrics

import (
	"cmp"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/audit-milter/audit-milter/internal/cluster"
	"github.com/audit-milter/audit-milter/internal/history"
	"github.com/audit-milter/audit-milter/internal/notify"
	"github.com/audit-milter/audit-milter/internal/state"
	"github.com/audit-milter/audit-milter/milter"
	"github.com/audit-milter/audit-milter/policy"
)

type collector struct{ Source }

// Describe tells all metrics, also those that have no value yet.
func (c *collector) Describe(to chan<- *prometheus.Desc) {
	for _, m := range described {
		to <- m.Desc
	}
}

// scrape is where one scrape's metrics go.
type scrape chan<- prometheus.Metric

// Collect reads the numbers, each by itself: sums over several need not agree.
func (c *collector) Collect(to chan<- prometheus.Metric) {
	engine := c.Engine()
	s := scrape(to)
	s.policy(engine.Stats())
	for _, counter := range engine.Counters() {
		s.series(counter)
	}
	s.connections(&c.Server.Stats)
	s.latencies(&c.Server.Stats)
	open, max := c.Server.Sessions()
	send(s, openSessions, open)
	send(s, maxSessions, max)
	for _, target := range c.Notifier.Stats() {
		s.notifications(target)
	}
	if c.State != nil {
		s.state(c.State.Stats())
	}
	if c.History != nil {
		s.written(c.History.Stats())
	}
	if c.Maintainer != nil {
		s.maintained(c.Maintainer.Stats())
	}
	if c.Cluster != nil {
		s.cluster(c.Cluster(), c.now())
	}
	lines, bytes := c.Log.Lost()
	send(s, lostLines, lines)
	send(s, lostBytes, bytes)
	send(s, build, 1, buildLabels()...)
}

func (c *collector) now() time.Time {
	if c.Now != nil {
		return c.Now()
	}
	return time.Now()
}

// number is what the rooms count in.
type number interface{ int | int64 | uint64 | float64 }

func send[N number](to scrape, m metric, n N, labels ...string) {
	to <- prometheus.MustNewConstMetric(m.Desc, m.kind, float64(n), labels...)
}

func (s scrape) policy(stats *policy.Stats) {
	for of, n := range stats.Decisions() {
		send(s, decisions, n, of.Rule, of.Verdict.String(), strconv.FormatBool(of.Shadow))
	}
	for i, name := range policy.StageNames() {
		send(s, events, stats.Events(policy.Stage(i)), name)
		send(s, failures, stats.Failures(policy.Stage(i)), name)
	}
	send(s, repeats, stats.Repeats())
}

func (s scrape) series(counter policy.Counter) {
	def, stats := counter.Definition(), counter.Stats()
	send(s, adds, stats.Adds, def.Name)
	send(s, keys, counter.Len(), def.Name)
	send(s, maxKeys, def.MaxKeys, def.Name)
	send(s, evicted, stats.Evicted, def.Name)
	send(s, saturated, stats.Saturated, def.Name)
}

func (s scrape) connections(stats *milter.Stats) {
	send(s, sessions, stats.Sessions.Load())
	send(s, turnedAway, stats.TurnedAway.Load(), "on_error")
	send(s, turnedAway, stats.Overflow.Load(), "closed")
	send(s, notAllowed, stats.NotAllowed.Load())
	send(s, acceptFailures, stats.AcceptFailures.Load())
	send(s, malformed, stats.Malformed.Load())
	send(s, timeouts, stats.TimedOut.Negotiate.Load(), "negotiate")
	send(s, timeouts, stats.TimedOut.Frame.Load(), "frame")
	send(s, timeouts, stats.TimedOut.Write.Load(), "write")
	send(s, timeouts, stats.TimedOut.Idle.Load(), "idle")
	send(s, panics, stats.Panics.Load())
	send(s, delayedAnswers, stats.Delayed.Load())
	send(s, delays, stats.Delays.Load())
	send(s, undelayed, stats.Undelayed.Load())
}

// latencies are cumulative: a bucket has what is in those before it, too.
func (s scrape) latencies(stats *milter.Stats) {
	for stage := range stats.Latency {
		buckets, sum := stats.Latency[stage].Read()
		var n uint64
		upTo := make(map[float64]uint64, len(milter.Bounds))
		for i, bound := range milter.Bounds {
			n += buckets[i]
			upTo[bound.Seconds()] = n
		}
		n += buckets[len(milter.Bounds)]
		s <- prometheus.MustNewConstHistogram(latency.Desc, n, sum.Seconds(), upTo, policy.Stage(stage).String())
	}
}

func (s scrape) notifications(stats notify.Stats) {
	send(s, notifications, stats.Sent, stats.Target, "sent")
	send(s, notifications, stats.Failed, stats.Target, "failed")
	send(s, untold, stats.Suppressed, stats.Target, "suppressed")
	send(s, untold, stats.Dropped, stats.Target, "dropped")
	send(s, queued, stats.Queued, stats.Target)
}

func (s scrape) state(stats state.Stats) {
	send(s, stateWritten, stats.Written)
	send(s, stateWaiting, stats.Waiting)
	send(s, stateSyncs, stats.Syncs)
	send(s, stateSyncTime, stats.SyncTime.Seconds())
	send(s, stateFailing, bit(stats.Failing))
	send(s, stateLostBatches, stats.LostBatches)
	send(s, stateLostDeltas, stats.LostDeltas)
	send(s, stateSynced, seconds(stats.SyncedAt))
	send(s, stateSnapshot, seconds(stats.SnapshotAt))
	send(s, stateFiles, stats.Segments)
	send(s, stateSize, stats.Size)
}

func (s scrape) written(stats history.WriterStats) {
	send(s, historyWrittenFiles, stats.Files)
	send(s, historyWrittenRows, stats.Rows)
	send(s, historyWrittenBytes, stats.Bytes)
	send(s, historyWaiting, stats.Waiting)
	send(s, historyDropped, stats.Dropped)
	send(s, historyFailing, bit(stats.Failing), "writing")
}

func (s scrape) maintained(stats history.MaintainerStats) {
	send(s, historyFailing, bit(stats.Failing), "maintenance")
	send(s, historyFiles, stats.Files)
	send(s, historySize, stats.Bytes)
	send(s, historyMerged, stats.Merged)
	send(s, historyDeleted, stats.Expired, "retention")
	send(s, historyDeleted, stats.Oversize, "max_size")
}

func (s scrape) cluster(status cluster.Status, now time.Time) {
	send(s, clusterReachable, bit(status.IsReachable()))
	send(s, clusterContact, seconds(status.Contact))
	send(s, clusterSnapshot, seconds(status.SnapshotAt))
	send(s, clusterNodes, 1+len(status.Nodes))
	send(s, clusterWaiting, status.Waiting)
	send(s, clusterDropped, status.LetGo)
	send(s, clusterSent, status.Sent)
	send(s, clusterServerSkew, -status.Ahead.Seconds())
	for _, n := range status.Nodes {
		send(s, clusterAway, bit(n.IsAway(now)), n.Name)
		if age, known := n.Age(now); known {
			send(s, clusterAge, age.Seconds(), n.Name)
		}
		send(s, clusterLag, n.Lag.Seconds(), n.Name)
		send(s, clusterSkew, n.Ahead.Seconds(), n.Name)
		send(s, clusterSkewed, bit(n.Skewed), n.Name)
		send(s, clusterMismatched, len(n.Differs), n.Name)
		send(s, clusterReceived, n.Read, n.Name)
	}
}

// seconds is a time as Prometheus has it; 0 for one that has not been yet.
func seconds(at time.Time) float64 {
	if at.IsZero() {
		return 0
	}
	return float64(at.UnixMilli()) / 1000
}

func bit(is bool) int {
	if is {
		return 1
	}
	return 0
}

// buildLabels are what the Go tool noted when it built the program.
func buildLabels() []string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return []string{"unknown", "unknown", "unknown"}
	}
	revision := ""
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			revision = s.Value
		}
	}
	return []string{cmp.Or(info.Main.Version, "unknown"), cmp.Or(revision, "unknown"), info.GoVersion}
}

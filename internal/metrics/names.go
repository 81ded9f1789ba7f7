package metrics

import "github.com/prometheus/client_golang/prometheus"

const prefix = "audit_milter_"

// metric is one that the collector sends.
type metric struct {
	*prometheus.Desc
	kind prometheus.ValueType
}

// described are all metrics.
var described []metric

func define(kind prometheus.ValueType, name, help string, labels ...string) metric {
	m := metric{prometheus.NewDesc(prefix+name, help, labels, nil), kind}
	described = append(described, m)
	return m
}

func counter(name, help string, labels ...string) metric {
	return define(prometheus.CounterValue, name+"_total", help, labels...)
}

func gauge(name, help string, labels ...string) metric {
	return define(prometheus.GaugeValue, name, help, labels...)
}

// histogram has no one value, and so no kind of it.
func histogram(name, help string, labels ...string) metric { return define(0, name, help, labels...) }

// Of policy.
var (
	decisions = counter("decisions", "Verdicts that rules gave; continue where a rule only marks.", "rule", "verdict", "shadow")
	events    = counter("events", "Events that came to a stage or an outcome.", "stage")
	failures  = counter("failures", "Events at which the daemon itself failed; at a stage answered on_error.", "stage")
	repeats   = counter("log_repeats", "Refusals that the log left out as repeated ones.")
)

// Of series.
var (
	adds      = counter("series_adds", "Adds to a series, those that take an amount back among them.", "series")
	keys      = gauge("series_keys", "Keys that a series holds.", "series")
	maxKeys   = gauge("series_max_keys", "Keys that a series may hold.", "series")
	evicted   = counter("series_evicted_keys", "Keys that had to leave a full series.", "series")
	saturated = counter("series_saturated_adds", "Adds that were cut at the limit of 64 bits.", "series")
)

// Of milter.
var (
	latency = histogram("latency_seconds", "Time from the reading of a frame until its verdict, without delays.", "stage")

	sessions       = counter("sessions", "Sessions that began.")
	openSessions   = gauge("open_sessions", "Sessions that are open.")
	maxSessions    = gauge("max_sessions", "Sessions that may be open.")
	turnedAway     = counter("turned_away_connections", "Connections above max_sessions, told on_error or closed.", "how")
	notAllowed     = counter("not_allowed_connections", "Connections closed since they did not come from allow.")
	acceptFailures = counter("accept_failures", "Connections that could not be taken.")
	malformed      = counter("malformed_connections", "Connections closed for malformed input.")
	timeouts       = counter("timeouts", "Connections closed since the mail server was waited for too long.", "timeout")
	panics         = counter("panics", "Sessions closed since the program failed.")

	delayedAnswers = gauge("delayed_answers", "Answers that wait for the delay of a rule.")
	delays         = counter("delays", "Answers that waited for the delay of a rule.")
	undelayed      = counter("undelayed_answers", "Answers that went out without their delay, above max_delayed.")
)

// Of notify.
var (
	notifications = counter("notifications", "Notifications that were delivered or given up.", "target", "result")
	untold        = counter("untold_firings", "Firings of which a target heard only the number.", "target", "why")
	queued        = gauge("queued_notifications", "Notifications that wait for delivery.", "target")
)

// Of state.
var (
	stateWritten     = counter("state_written_bytes", "Bytes that were written to state_dir.")
	stateWaiting     = gauge("state_waiting_bytes", "Bytes that wait to be written to state_dir.")
	stateSyncs       = counter("state_syncs", "Times that state_dir was synced, failures among them.")
	stateSyncTime    = counter("state_sync_seconds", "Time that this took.")
	stateFailing     = gauge("state_failing", "1 while state_dir cannot be written.")
	stateLostBatches = counter("state_lost_batches", "Batches that were not written, until a snapshot made up for them.")
	stateLostDeltas  = counter("state_lost_deltas", "Deltas that were in them.")
	stateSynced      = gauge("state_last_sync_timestamp_seconds", "When state_dir was last synced.")
	stateSnapshot    = gauge("state_last_snapshot_timestamp_seconds", "When a snapshot was last complete.")
	stateFiles       = gauge("state_files", "Files in state_dir.")
	stateSize        = gauge("state_size_bytes", "Bytes in these files.")
)

// Of history.
var (
	historyWrittenFiles = counter("history_written_files", "Files that were written to the history, those of maintenance excluded.")
	historyWrittenRows  = counter("history_written_rows", "Rows in them.")
	historyWrittenBytes = counter("history_written_bytes", "Bytes in them.")
	historyWaiting      = gauge("history_waiting_rows", "Rows that wait to be written, or about as many.")
	historyDropped      = counter("history_dropped_rows", "Rows that were given up, or about as many.")
	historyFailing      = gauge("history_failing", "1 while the history cannot be written or maintained.", "work")
	historyFiles        = gauge("history_files", "Files in the history.")
	historySize         = gauge("history_size_bytes", "Bytes in these files.")
	historyMerged       = counter("history_merged_files", "Files that larger ones have replaced.")
	historyDeleted      = counter("history_deleted_files", "Files that were deleted for their age, or for the size of all.", "why")
)

// Of the cluster.
var (
	clusterReachable  = gauge("cluster_reachable", "1 while the cluster's server answers.")
	clusterContact    = gauge("cluster_last_answer_timestamp_seconds", "When it has answered last.")
	clusterSnapshot   = gauge("cluster_last_snapshot_timestamp_seconds", "When the last snapshot for it was begun.")
	clusterNodes      = gauge("cluster_nodes", "Nodes that are known, this one among them.")
	clusterWaiting    = gauge("cluster_waiting_bytes", "Bytes that the server has not taken yet.")
	clusterDropped    = counter("cluster_dropped_batches", "Batches that were given up, for which a snapshot makes up.")
	clusterSent       = counter("cluster_sent_bytes", "Bytes of batches and snapshots that the server has taken.")
	clusterServerSkew = gauge("cluster_server_clock_skew_seconds", "By how much the server's clock is ahead of this one.")
	clusterAway       = gauge("cluster_node_away", "1 while there is no sign of life of the node.", "node")
	clusterAge        = gauge("cluster_node_age_seconds", "How old the counts of the node are here.", "node")
	clusterLag        = gauge("cluster_node_lag_seconds", "From the making of its last batch to its counting here.", "node")
	clusterSkew       = gauge("cluster_node_clock_skew_seconds", "By how much the node's clock is ahead of this one.", "node")
	clusterSkewed     = gauge("cluster_node_skewed", "1 while that is more than an interval of a series that replicates.", "node")
	clusterMismatched = gauge("cluster_node_mismatched_series", "Series that are defined otherwise there.", "node")
	clusterReceived   = counter("cluster_node_received_bytes", "Bytes that were read of the node.", "node")
)

// Of the log, and of the program.
var (
	lostLines = counter("log_lost_lines", "Lines of the log that were lost.")
	lostBytes = counter("log_lost_bytes", "Bytes of the log that were lost.")
	build     = gauge("build_info", "What is running; always 1.", "version", "revision", "goversion")
)

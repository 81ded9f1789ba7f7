// Package config reads the configuration, one YAML file, into what the other
// rooms take: sockets, and a policy that [policy.Policy.Check] finds right. It
// promises that nothing is read and ignored: what it does not understand, at
// any depth, is an error, and all errors come at once, each with its place and
// with what would be right. It judges no traffic and opens no socket.
//
// [Config] says which keys there are at the top. The other files of this room
// have those below, each beside its decoder: series.go, rules.go,
// conditions.go, lists.go, tables.go, files.go, monitors.go, listen.go, log.go,
// admin.go, notify.go, history.go, cluster.go.
//
// # Values
//
// A number is whole and decimal, without quotes. A length of time is seconds
// (300) or one number with a unit (30s, 5m, 1h, 2d). A truth value is true or
// false. A size is bytes (100000) or one number with a unit (64KiB, 1MiB, 1GiB).
// Where several values can stand, a single one stands for a list of
// one; only rules and any are always lists. Paths are relative to the
// configuration's directory. Aliases, merge keys and tags are refused, and so
// is a second document.
package config

import (
	"bytes"
	"os"
	"strings"

	"github.com/audit-milter/audit-milter/internal/logging"
	"github.com/audit-milter/audit-milter/internal/notify"
	"github.com/audit-milter/audit-milter/milter"
	"github.com/audit-milter/audit-milter/policy"
)

// Config is a configuration that was read and found right. Its fields, and the
// first ones of [policy.Policy], are the keys at the top of the file; all are
// optional.
//
//	key          default               what, and what follows
//	listen       inet:127.0.0.1:9900   a socket for the MTAs, or a list: decodeListen
//	mode         enforce               shadow: every rule is judged and logged, none is enforced
//	log          {level: info, format: text, buffer: 1MiB}
//	                                   level: debug, info, warn, error; format: text, json;
//	                                   buffer: how many bytes of lines may wait for a reader that is slow,
//	                                   64KiB to 64MiB; what does not fit is lost, and counted
//	log_repeats  false                 true: every refusal is logged, also the eleventh of a rule and key in a minute
//	on_error     accept                what the MTA is told when this daemon itself fails: accept, tempfail
//	max_sessions 2000                  how many connections of MTAs are served at one time, 1 to 100000, each with a
//	                                   file descriptor; those above are answered on_error at connect
//	max_delayed  20                    how many answers may wait for a delay at one time, each holding one of
//	                                   the MTA's processes; above it they go out at once; 0: none ever waits
//	timeouts     {negotiate: 30s, frame: 30s, write: 30s, idle: 130m}
//	                                   how long an MTA is waited for: decodeTimeouts
//	state_dir    none                  a directory for what is to survive a restart; it is made if it is missing
//	history      none                  where the windows of series with serialize go: decodeHistory
//	admin        none                  where the running daemon is asked: decodeAdmin
//	cluster      none                  the other nodes that count with this one: decodeCluster
//	lists        none                  names to lists that `when` can ask: decodeLists
//	tables       none                  names to thresholds by key: decodeTables
//	notify       none                  names to people that rules can tell: target
//	monitors     none                  built-in series of connections, receptions and rejections: monitor
//	series       none                  names to series: decodeOneSeries
//	rules        none                  in the order in which they are judged: rule
type Config struct {
	Path        string          // the file, as it was named
	Listen      []milter.Listen // at least one, all different
	Node        string          // this node's name, the attribute node; what Parse returns may have none
	MaxSessions int
	MaxDelayed  int
	Timeouts    milter.Timeouts
	StateDir    string   // what persists is kept there; "" for none. It need not be there yet
	History     *History // nil for none
	Admin       Admin
	Cluster     *Cluster // nil for none
	Log         logging.Options
	Lists       map[string]*policy.List  // what `when` can ask; the policy has them already
	Tables      map[string]*policy.Table // what a threshold can be looked up in; the policy has them already
	Files       []*File                  // those of the lists and tables
	Notify      []notify.Target          // in the order of the file
	Policy      *policy.Policy
}

// Load reads a configuration and the files of its lists and tables, and gives a node that
// has no name that of this host. Its error is an [Errors] with everything that is
// wrong.
func Load(path string) (*Config, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, Errors{{File: path, Msg: "cannot read the configuration: " + reason(err)}}
	}
	c, err := Parse(path, data)
	if err != nil {
		return nil, err
	}
	host, err := os.Hostname()
	if err != nil {
		return nil, Errors{{File: path, Msg: "cannot learn the name of this host: " + reason(err)}}
	}
	c.Node = strings.ToLower(host) // as all text attributes are
	if c.Cluster != nil {
		if c.Node, err = c.Cluster.name(c.Node); err != nil {
			return nil, Errors{{File: path, Msg: err.Error()}}
		}
	}
	return c, nil
}

// Parse is [Load] of a file that was already read. Its name is for messages,
// and the paths in it are relative to its directory.
func Parse(name string, data []byte) (*Config, error) {
	return parse(name, data, readWhole)
}

func parse(name string, data []byte, read func(path string) ([]byte, error)) (*Config, error) {
	data = bytes.TrimPrefix(data, byteOrderMark)
	d := newDecoder(name, data, read)
	if root := d.root(data, "the file is empty; a configuration has at least series and rules"); root != nil {
		d.top = node{Node: root, doc: d.document, name: "a configuration"}
		d.decode(d.top)
		d.check()
	}
	if len(d.errs) > 0 {
		return nil, d.errs.sorted(name)
	}
	return d.config, nil
}

// byteOrderMark is what some editors begin a UTF-8 file with. It is no part of
// the text, neither here nor in a list's file.
var byteOrderMark = []byte("\ufeff")

// decoder turns a document into a configuration.
type decoder struct {
	*document
	top    node
	read   func(path string) ([]byte, error) // reads the file of a list or a table
	config *Config
	policy *policy.Policy           // config's
	lists  map[string]*policy.List  // config's
	tables map[string]*policy.Table // config's
}

func newDecoder(name string, data []byte, read func(string) ([]byte, error)) *decoder {
	p := &policy.Policy{OnError: policy.Accept}
	lists, tables := make(map[string]*policy.List), make(map[string]*policy.Table)
	return &decoder{
		document: newDocument(name, data),
		read:     read,
		config: &Config{
			Path:        name,
			MaxSessions: milter.DefaultMaxSessions,
			MaxDelayed:  20,
			Timeouts:    milter.DefaultTimeouts,
			Log:         logging.Options{Buffer: mebibyte},
			Policy:      p,
			Lists:       lists,
			Tables:      tables,
		},
		policy: p,
		lists:  lists,
		tables: tables,
	}
}

// decode decodes the whole file: directories before the series that are kept
// there, lists before the expressions that ask them, series and tables before the
// rules that read them, and whom they notify.
func (d *decoder) decode(n node) {
	n.mapping("keys such as listen, series and rules",
		optional("listen", d.decodeListen),
		optional("mode", set(&d.policy.Shadow, shadow)),
		optional("log", decodeLog(&d.config.Log)),
		optional("log_repeats", set(&d.policy.LogRepeats, node.boolean)),
		optional("on_error", set(&d.policy.OnError, choice("answer", []string{"accept", "tempfail"}, parseOnError))),
		optional("max_sessions", func(n node) { d.config.MaxSessions = int(n.integer(1, 100_000)) }),
		optional("max_delayed", func(n node) { d.config.MaxDelayed = int(n.integer(0, 100_000)) }),
		optional("timeouts", decodeTimeouts(&d.config.Timeouts)),
		optional("state_dir", set(&d.config.StateDir, d.directory)),
		optional("history", d.decodeHistory),
		optional("admin", d.decodeAdmin),
		optional("cluster", d.decodeCluster),
		optional("lists", d.decodeLists),
		optional("tables", d.decodeTables),
		optional("notify", d.decodeNotify),
		optional("monitors", d.decodeMonitors),
		optional("series", d.decodeSeries),
		optional("rules", d.decodeRules),
	)
	if !n.has("listen") {
		l, err := milter.ParseAddress(defaultListen)
		if err != nil {
			panic(err) // a constant
		}
		d.config.Listen = []milter.Listen{l}
	}
}

func parseOnError(name string) (policy.Action, bool) {
	a, _ := policy.ParseAction(name)
	return a, a == policy.Accept || a == policy.Tempfail
}

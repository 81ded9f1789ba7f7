package config

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/audit-milter/audit-milter/internal/logging"
	"github.com/audit-milter/audit-milter/internal/notify"
	"github.com/audit-milter/audit-milter/milter"
	"github.com/audit-milter/audit-milter/policy"
	"github.com/audit-milter/audit-milter/series"
)

func TestDefaults(t *testing.T) {
	c, err := Parse("audit.yaml", []byte("series: {}\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := &Config{
		Path:        "audit.yaml",
		Listen:      []milter.Listen{{Network: "tcp", Address: "127.0.0.1:9900"}},
		MaxSessions: 2000,
		MaxDelayed:  20,
		Timeouts:    milter.Timeouts{Negotiate: 30 * time.Second, Frame: 30 * time.Second, Write: 30 * time.Second, Idle: 130 * time.Minute},
		Log:         logging.Options{Level: slog.LevelInfo, Buffer: 1 << 20},
		Lists:       map[string]*policy.List{},
		Tables:      map[string]*policy.Table{},
		Policy:      &policy.Policy{OnError: policy.Accept},
	}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("got %+v, want %+v", c, want)
	}
}

func TestQuantities(t *testing.T) {
	seconds := func(n int64) int64 { return n * int64(time.Second) }
	for _, row := range []struct {
		of   quantity
		text string
		want int64
		ok   bool
	}{
		{lengthOfTime, "300", seconds(300), true},
		{lengthOfTime, "30s", seconds(30), true},
		{lengthOfTime, "5m", seconds(300), true},
		{lengthOfTime, "1h", seconds(3600), true},
		{lengthOfTime, "2d", seconds(2 * 86400), true},
		{lengthOfTime, "0", 0, true},
		{lengthOfTime, "007m", seconds(420), true},
		{lengthOfTime, "106752d", 1<<63 - 1, true}, // more than fits, so beyond any range
		{lengthOfTime, "99999999999999999999", 1<<63 - 1, true},
		{lengthOfTime, "", 0, false},
		{lengthOfTime, "m", 0, false},
		{lengthOfTime, "-5m", 0, false},
		{lengthOfTime, "+5m", 0, false},
		{lengthOfTime, "5 m", 0, false},
		{lengthOfTime, "5M", 0, false},
		{lengthOfTime, "1.5h", 0, false},
		{lengthOfTime, "1h30m", 0, false},
		{lengthOfTime, "1w", 0, false},
		{lengthOfTime, "500ms", 0, false},
		{lengthOfTime, "1_000", 0, false},
		{lengthOfTime, "٣m", 0, false},
		{sizeInBytes, "100000", 100_000, true},
		{sizeInBytes, "64KiB", 64 << 10, true},
		{sizeInBytes, "1MiB", 1 << 20, true},
		{sizeInBytes, "8796093022208MiB", 1<<63 - 1, true},
		{sizeInBytes, "KiB", 0, false},
		{sizeInBytes, "1 MiB", 0, false},
		{sizeInBytes, "1M", 0, false},
		{sizeInBytes, "1MB", 0, false},
		{sizeInBytes, "1mib", 0, false},
		{sizeInBytes, "10GiB", 10 << 30, true},
		{sizeInBytes, "0.5MiB", 0, false},
	} {
		if got, ok := row.of.parse(row.text); got != row.want || ok != row.ok {
			t.Errorf("%s %q is %v, %v; want %v, %v", row.of.what, row.text, got, ok, row.want, row.ok)
		}
	}
}

// everything.yaml spells every key in every way, but those of cluster.yaml; this is
// what it means.
func TestEverything(t *testing.T) {
	c, err := Load("testdata/good/everything.yaml")
	if err != nil {
		t.Fatal(err)
	}
	t.Run("sockets", func(t *testing.T) {
		same(t, c.Listen, []milter.Listen{
			{Network: "tcp", Address: "127.0.0.1:9900"},
			{Network: "tcp", Address: "localhost:9901"},
			{Network: "tcp", Address: "[::1]:9900"},
			{Network: "unix", Address: "/run/audit-milter/milter.sock"},
			{Network: "unix", Address: absolute(t, "testdata/good/relative.sock"), Mode: fs.FileMode(0o600), Group: "postfix"},
			{Network: "tcp", Address: "[::]:9902", Allow: []netip.Prefix{
				netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8::/32"), netip.MustParsePrefix("198.51.100.7/32")}},
		})
	})
	t.Run("top", func(t *testing.T) {
		p := c.Policy
		same(t, c.Log, logging.Options{Level: slog.LevelDebug, JSON: true, Buffer: 64 << 10})
		host, err := os.Hostname()
		if err != nil || c.Node != strings.ToLower(host) {
			t.Errorf("the node is %q; the host is %q, %v", c.Node, host, err)
		}
		same(t, []any{p.Shadow, p.OnError, p.LogRepeats, c.MaxDelayed}, []any{true, policy.Tempfail, true, 0})
		same(t, c.MaxSessions, 100_000)
		same(t, c.Timeouts, milter.Timeouts{Negotiate: 5 * time.Second, Frame: 10 * time.Minute, Write: time.Second, Idle: 24 * time.Hour})
	})
	t.Run("notify", func(t *testing.T) {
		same(t, c.Notify, []notify.Target{
			{Name: "admin", Every: time.Hour, Via: &notify.Mail{To: "postmaster@example.com", Server: "127.0.0.1:25", StartTLS: notify.TLSNever}},
			{Name: "ops", Every: 31 * 24 * time.Hour, Via: &notify.Mail{To: "o'ps+am@example.com", Server: "mx.example.com:587", From: "audit@example.com", StartTLS: notify.TLSRequired}},
			{Name: "relay", Every: time.Hour, Via: &notify.Mail{To: "ops@example.com", Server: "[2001:db8::25]:25", StartTLS: notify.TLSOffered}},
			{Name: "chat", Every: time.Minute, Via: &notify.Webhook{URL: &url.URL{Scheme: "https", Host: "chat.example.com", Path: "/hook", RawQuery: "x=1"}, Token: "s3cret.Token"}},
		})
	})
	t.Run("admin", func(t *testing.T) {
		same(t, c.Admin, Admin{
			Socket: milter.Listen{Network: "unix", Address: absolute(t, "testdata/good/admin.sock"), Mode: 0o660, Group: "audit"},
			HTTP:   "[::1]:9980",
			Token:  "0123456789abcdef0123456789abcdef",
		})
	})
	t.Run("what is kept", func(t *testing.T) {
		same(t, c.StateDir, "testdata/good/state")
		h := c.History
		same(t, []any{h.Dir, h.Retention, h.MaxSize, h.MinCount}, []any{"testdata/good/state/history", 90 * 24 * time.Hour, int64(1 << 30), int64(3)})
		same(t, keeping(c), []string{
			"connections/1800 persist", "receptions/1800 persist", "rejections/1800 persist",
			"connections persist serialize", "connections4 serialize", "networks persist serialize",
		})
	})
	t.Run("series", func(t *testing.T) {
		same(t, definitions(c), []series.Definition{
			{Name: "connections/300", Type: series.IP, Interval: 5 * time.Minute, Windows: 6, MaxKeys: 1_000_000},
			{Name: "receptions/300", Type: series.IP, Interval: 5 * time.Minute, Windows: 6, MaxKeys: 1_000_000},
			{Name: "rejections/300", Type: series.IP, Interval: 5 * time.Minute, Windows: 6, MaxKeys: 1_000_000},
			{Name: "connections/1800", Type: series.IP, Interval: 30 * time.Minute, Windows: 4, MaxKeys: 20_000},
			{Name: "receptions/1800", Type: series.IP, Interval: 30 * time.Minute, Windows: 4, MaxKeys: 20_000},
			{Name: "rejections/1800", Type: series.IP, Interval: 30 * time.Minute, Windows: 4, MaxKeys: 20_000},
			{Name: "connections", Type: series.IP, Interval: 5 * time.Minute, Windows: 6, MaxKeys: 20_000},
			{Name: "connections4", Type: series.CIDR, Interval: 31 * 24 * time.Hour, Windows: 1, MaxKeys: 1_000_000},
			{Name: "connections6", Type: series.CIDR6, Interval: time.Second, Windows: 1024, MaxKeys: 1_000_000},
			{Name: "recipients", Type: series.String, Interval: 10 * time.Minute, Windows: 6, MaxKeys: 1_000_000},
			{Name: "bytes", Type: series.String, Interval: time.Hour, Windows: 24, MaxKeys: 1_000_000},
			{Name: "spam", Type: series.String, Interval: 24 * time.Hour, Windows: 2, MaxKeys: 1_000_000},
			{Name: "networks", Type: series.String, Interval: time.Hour, Windows: 24, MaxKeys: 20_000},
			{Name: "subjects", Type: series.IP, Interval: time.Hour, Windows: 2, MaxKeys: 500},
			{Name: "senders", Type: series.CIDR, Interval: time.Hour, Windows: 2, MaxKeys: 20_000},
		})
	})
	t.Run("distinct", func(t *testing.T) {
		same(t, distincts(c), []policy.Distinct{
			{Of: policy.Term{Attribute: policy.ClientAddress}, Mask: series.Mask{IPv4: 24, IPv6: 64}},
			{Of: policy.Term{Attribute: policy.Header, Header: "Subject"}, Mask: series.Host},
			{Of: policy.Term{Attribute: policy.SenderDomain}, Mask: series.Host},
		})
	})
	t.Run("adds", func(t *testing.T) {
		same(t, adds(c)[:3], []string{
			`connections/300 at connect: key , when <nil>, amount +1, leaky false`,
			`receptions/300 at accepted: key , when <nil>, amount +1, leaky false`,
			`rejections/300 at rcpt_refused, refused: key , when <nil>, amount +1, leaky false`,
		})
		same(t, adds(c)[6:], []string{
			`connections at connect: key , when <nil>, amount +1, leaky false`,
			`connections4 at connect: key , when <nil>, amount +1, leaky false`,
			`connections6 at connect: key server_address, when <nil>, amount +1, leaky false`,
			`recipients at rcpt: key sasl_username, when <nil>, amount +1, leaky true`,
			`recipients at accepted, abort: key sasl_username, when client_address not in trusted, amount -1, leaky false`,
			`bytes at mail: key sasl_username|client_address, when <nil>, amount size, leaky false`,
			`spam at eom: key client_address|header["X-Spam"], when <nil>, amount +1, leaky false`,
			`networks at mail: key sasl_username, when <nil>, amount a value, leaky false`,
			`subjects at eoh: key , when <nil>, amount a value, leaky false`,
			`subjects at accepted: key , when <nil>, amount a value, leaky false`,
			`senders at mail: key , when sender != "<>", amount a value, leaky false`,
		})
	})
	t.Run("rules", func(t *testing.T) { same(t, rules(c), everyRule) })
	t.Run("conditions", func(t *testing.T) { same(t, conditions(c)[:len(everyCondition)], everyCondition) })
	t.Run("tables and penalties", func(t *testing.T) {
		same(t, []string{c.Tables["user_limits"].String(), c.Tables["none"].String()}, []string{"7 keys", "0 keys"})
		limits := c.Policy.Rules[len(c.Policy.Rules)-1].If
		same(t, c.Policy.Rules[len(c.Policy.Rules)-2].Penalty, 2*time.Hour)
		same(t, []string{limits[0].String(), limits[1].String()}, []string{
			"recipients for sasl_username in windows 0-5 sliding above 200, or what table user_limits has for the key",
			"connections in windows 0 at least -1, or what table none has for the key",
		})
	})
}

func TestCluster(t *testing.T) {
	c, err := Load("testdata/good/cluster.yaml")
	if err != nil {
		t.Fatal(err)
	}
	conf := c.Cluster.Valkey.TLS
	if conf == nil || conf.MinVersion != tls.VersionTLS12 || conf.RootCAs.Equal(x509.NewCertPool()) {
		t.Errorf("TLS is %+v, without the authority of ca.pem", conf)
	}
	c.Cluster.Valkey.TLS = nil
	same(t, *c.Cluster, Cluster{Name: "mail", Node: "mx1", Role: RoleManager, Valkey: Valkey{
		Addresses: []string{"sentinel1.example.com:26379", "[2001:db8::2]:26379"},
		Sentinel:  "mymaster", Username: "audit", Password: "a long secret, with blanks",
	}})
	same(t, c.Node, "mx1")
	var replicate []policy.Replicate
	for _, s := range c.Policy.Series {
		replicate = append(replicate, s.Replicate)
	}
	same(t, replicate, []policy.Replicate{policy.Manager, policy.Manager, policy.Manager, policy.Cluster, policy.None})
	flood := c.Policy.Rules[0].Any
	same(t, []policy.Scope{flood[0].Scope, flood[1].Scope, flood[1].Of.Scope, flood[2].Scope},
		[]policy.Scope{policy.ClusterScope, policy.NodeScope, policy.ClusterScope, policy.NodeScope})
}

func TestNodesOfAClusterHaveNames(t *testing.T) {
	var c Cluster
	if node, err := c.name("mx1.example.com"); err != nil || node != "mx1.example.com" || c.Node != node {
		t.Errorf("without a name the node is %q, %v; want that of the host", node, err)
	}
	if node, err := c.name("other"); err != nil || node != "mx1.example.com" {
		t.Errorf("with a name the node is %q, %v", node, err)
	}
	c.Node = ""
	if _, err := c.name("mx 1"); err == nil {
		t.Error("a host's name with a space is taken")
	}
}

func absolute(t *testing.T, path string) string {
	t.Helper()
	path, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

var everyRule = []string{
	`trusted at connect: when client_address in trusted, then accept, reply <nil>, headers [], delay 0s, notify [], shadow false, shared false`,
	`connection-flood at connect, mail: when <nil>, then tempfail, reply 450 4.7.1 Too many connections from {network}, try again in {retry_after}, headers [], delay 2s, notify [admin chat], shadow false, shared true`,
	"quota at rcpt: when sasl_username != \"\"\nand sender not in bulk, then reject, reply 550 5.7.1 {count} recipients, {threshold} allowed, headers [], delay 0s, notify [], shadow true, shared false",
	`mark at eom: when <nil>, then continue, reply <nil>, headers [{X-Audit {sender}} {X-Audit-Count {count} of {threshold}}], delay 0s, notify [], shadow false, shared false`,
	`mark-more at eoh: when <nil>, then continue, reply <nil>, headers [{X-Audit-Spam {header["X-Spam"]}}], delay 8s, notify [], shadow false, shared false`,
	`telling at helo: when helo_name == "x", then continue, reply <nil>, headers [], delay 0s, notify [ops], shadow false, shared false`,
	`closing at helo: when helo_name == "localhost", then disconnect, reply <nil>, headers [], delay 0s, notify [], shadow false, shared false`,
	`share at mail: when <nil>, then tempfail, reply <nil>, headers [], delay 0s, notify [], shadow false, shared false`,
	`burst at rcpt: when <nil>, then tempfail, reply <nil>, headers [], delay 0s, notify [], shadow false, shared false`,
	`limits at rcpt: when <nil>, then tempfail, reply <nil>, headers [], delay 0s, notify [], shadow false, shared false`,
}

var everyCondition = []policy.Condition{
	{Reading: policy.Reading{Series: "connections", To: 5, Mask: series.Mask{IPv4: 24, IPv6: 64}, Masked: true}, Op: policy.Above, Threshold: policy.Threshold{N: 1000}},
	{Reading: policy.Reading{Series: "connections4", Mask: series.Mask{IPv4: 20, IPv6: 128}, Masked: true}, Op: policy.AtLeast, Threshold: policy.Threshold{N: 10}},
	{Reading: policy.Reading{Series: "connections4", Mask: series.Mask{IPv4: 20, IPv6: 128}, Masked: true}, Op: policy.Below, Threshold: policy.Threshold{N: -1}},
	{Reading: policy.Reading{Series: "open_sessions", Mask: series.Mask{IPv4: 24, IPv6: 64}, Masked: true}, Op: policy.Above, Threshold: policy.Threshold{N: 20}},
	{Reading: policy.Reading{Series: "connections/1800", To: 3, Mask: series.Mask{IPv4: 20, IPv6: 48}, Masked: true}, Op: policy.Above, Threshold: policy.Threshold{N: 10}},
	{Reading: policy.Reading{Series: "connections6", Mask: series.Mask{IPv4: 32, IPv6: 48}, Masked: true}, Key: policy.Key{{Attribute: policy.ServerAddress}}, Op: policy.AtMost, Threshold: policy.Threshold{N: 10}},
	{Reading: policy.Reading{Series: "connections6", Mask: series.Mask{IPv4: 24, IPv6: 48}, Masked: true}, Op: policy.Above, Threshold: policy.Threshold{N: 10}},
	{Reading: policy.Reading{Series: "recipients", To: 5, Mask: series.Host}, Sliding: true, Op: policy.Above, Threshold: policy.Threshold{N: 200}},
	{Reading: policy.Reading{Series: "recipients", Mask: series.Host}, Key: policy.Key{{Attribute: policy.SASLUsername}}, Op: policy.Above, Threshold: policy.Threshold{N: 100}},
	{Reading: policy.Reading{Series: "networks", To: 23, Mask: series.Host}, Op: policy.Above, Threshold: policy.Threshold{N: 10}},
	{Reading: policy.Reading{Series: "senders", To: 1, Mask: series.Mask{IPv4: 24, IPv6: 128}, Masked: true}, Op: policy.Above, Threshold: policy.Threshold{N: 100}},
	{Reading: policy.Reading{Series: "spam", Mask: series.Host}, Op: policy.AtLeast, Threshold: policy.Threshold{N: 1}},
	{Reading: policy.Reading{Series: "connections", To: 1, Mask: series.Host}, Op: policy.Above, Threshold: policy.Threshold{N: 125, Decimals: 1, Unit: policy.Percent},
		Of: &policy.Reading{Series: "connections", To: 5, Mask: series.Mask{IPv4: 24, IPv6: 64}, Masked: true}, Min: 20},
	{Reading: policy.Reading{Series: "connections", Mask: series.Host}, Op: policy.AtMost, Threshold: policy.Threshold{N: 100, Unit: policy.Percent},
		Of: &policy.Reading{Series: "connections4", Mask: series.Host}, Min: 1},
	{Reading: policy.Reading{Series: "recipients", Mask: series.Host}, Key: policy.Key{{Attribute: policy.SASLUsername}}, Op: policy.Above,
		Threshold: policy.Threshold{N: 25, Decimals: 1, Unit: policy.Times}, Baseline: policy.Baseline{From: 1, To: 5}, Min: 100},
}

// same compares value by value, so that a difference is easy to see.
func same[T any](t *testing.T, got, want T) {
	t.Helper()
	g, w := reflect.ValueOf(got), reflect.ValueOf(want)
	if g.Kind() != reflect.Slice || g.Len() != w.Len() {
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got\n%+v\nwant\n%+v", got, want)
		}
		return
	}
	for i := range g.Len() {
		if a, b := g.Index(i).Interface(), w.Index(i).Interface(); !reflect.DeepEqual(a, b) {
			t.Errorf("number %d: got\n%+v\nwant\n%+v", i, a, b)
		}
	}
}

func definitions(c *Config) (all []series.Definition) {
	for _, s := range c.Policy.Series {
		all = append(all, s.Definition)
	}
	return all
}

// keeping are the series that persist or serialize.
func keeping(c *Config) (all []string) {
	for _, s := range c.Policy.Series {
		switch {
		case s.Persist && s.Serialize:
			all = append(all, s.Name+" persist serialize")
		case s.Persist:
			all = append(all, s.Name+" persist")
		case s.Serialize:
			all = append(all, s.Name+" serialize")
		}
	}
	return all
}

func distincts(c *Config) (all []policy.Distinct) {
	for _, s := range c.Policy.Series {
		if s.Distinct != nil {
			all = append(all, *s.Distinct)
		}
	}
	return all
}

func adds(c *Config) (all []string) {
	for _, s := range c.Policy.Series {
		for _, a := range s.Adds {
			all = append(all, fmt.Sprintf("%s at %v: key %s, when %s, amount %v, leaky %v", s.Name, a.At, a.Key, spelled(a.When), a.Amount, a.Leaky))
		}
	}
	return all
}

func rules(c *Config) (all []string) {
	for _, r := range c.Policy.Rules {
		var headers []string
		for _, h := range r.Headers {
			headers = append(headers, fmt.Sprintf("{%s %s}", h.Name, h.Value))
		}
		all = append(all, fmt.Sprintf("%s at %v: when %s, then %v, reply %s, headers [%s], delay %v, notify %v, shadow %v, shared %v",
			r.Name, r.At, spelled(r.When), r.Then, spelled(r.Reply), strings.Join(headers, " "), r.Delay, r.Notify, r.Shadow, r.AllowSharedKey))
	}
	return all
}

func conditions(c *Config) (all []policy.Condition) {
	for _, r := range c.Policy.Rules {
		all = append(append(all, r.If...), r.Any...)
	}
	return all
}

// spelled is the text of a When or a Template that may be nil.
func spelled[T any, P interface {
	*T
	fmt.Stringer
}](p P) string {
	if p == nil {
		return "<nil>"
	}
	return p.String()
}

// A mistake inside a text is told at its place there, if the text is on one
// line.
func TestPositionInText(t *testing.T) {
	for _, row := range []struct{ name, line, want string }{
		{"plain", `reply: Wait {x}`, "5:17"},
		{"behind wide characters", `when: helo_name == "wäit ☃" and x`, "5:37"},
		{"single-quoted", `reply: 'Wait {x}'`, "5:18"},
		{"single-quoted behind a quote", `reply: 'Don''t {x}'`, "5:20"},
		{"double-quoted", `reply: "Wait {x}"`, "5:18"},
		{"double-quoted behind escapes", `reply: "\"\x41\u0041\U00000041 {x}"`, "5:36"},
		{"a header's value", `header: "X-Wait: {x}"`, "5:22"},
		{"on several lines: where it begins", "reply: Wait\n      long {x}", "5:12"},
		{"quoted on several lines", "reply: \"Wait\\\n      long {x}\"", "5:12"},
		{"a block", "reply: |\n      Wait {x}", "5:12"},
	} {
		t.Run(row.name, func(t *testing.T) {
			text := "rules:\n  - name: n\n    at: mail\n    then: reject\n    " + row.line + "\n"
			_, err := Parse("f", []byte(text))
			if err == nil || !strings.HasPrefix(err.Error(), "f:"+row.want+": ") {
				t.Errorf("got %v, want it at %s", err, row.want)
			}
		})
	}
}

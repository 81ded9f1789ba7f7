package cluster

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/valkey-io/valkey-go"

	"github.com/audit-milter/audit-milter/policy"
)

// Server is what Check finds out about a server.
type Server struct {
	Software string        // with its version, as in redis 7.0.15
	Ahead    time.Duration // by which this node's clock is ahead of the server's
	Margin   time.Duration // by which Ahead may be wrong
	Eviction string        // its maxmemory-policy; "" where the user may not ask for it
}

// Check tries the server with each command that a node sends, on keys of its own, which it
// removes; of a Valkey Cluster it tries one. An error says that the server cannot be
// reached, is too old, or which commands it refuses.
func (o Options) Check(ctx context.Context) (Server, error) {
	if err := o.check(); err != nil {
		return Server{}, err
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	l := &link{of: &o}
	defer l.close()
	s, err := l.server(ctx)
	if err != nil {
		return s, err
	}
	if err := l.try(ctx, o.commands); err != nil {
		return s, err
	}
	return s, l.try(ctx, o.scripts)
}

// server asks what the server is.
func (l *link) server(ctx context.Context) (s Server, err error) {
	if _, err := l.get(); err != nil { // that is not to make the clocks differ
		return s, err
	}
	before := l.of.Now()
	results, err := l.do(ctx, func(b valkey.Builder) []valkey.Completed {
		return []valkey.Completed{b.Time().Build(), b.Hello().Protover(3).Build(), b.Info().Section("memory").Build()}
	})
	if err != nil {
		return s, err
	}
	if now, err := serverTime(results[0]); err == nil { // else the right to ask is missing
		clock := skewOf(now, before, l.of.Now())
		s.Ahead, s.Margin = clock.ahead, clock.margin
	}
	if memory, err := results[2].ToString(); err == nil {
		_, after, _ := strings.Cut(memory, "maxmemory_policy:")
		s.Eviction, _, _ = strings.Cut(after, "\r\n")
		s.Eviction = policy.Printable(s.Eviction)
	}
	about, err := results[1].AsMap() // no server before Redis 6 knows this
	if err != nil {
		return s, fmt.Errorf("the server does not say its version, which must be Redis %s or a later one, or Valkey: %w", oldest, err)
	}
	name, version := about["server"], about["version"]
	is, _ := version.ToString()
	s.Software, _ = name.ToString()
	s.Software = policy.Printable(s.Software + " " + is)
	if isOlder(is, oldest) {
		return s, fmt.Errorf("the server is %s, which is too old: it must be Redis %s or a later one, or Valkey", s.Software, oldest)
	}
	return s, nil
}

// oldest is the version of Redis that has all that is needed: it came with XTRIM MINID.
const oldest = "6.2"

// isOlder compares two versions by their first two numbers.
func isOlder(version, than string) bool {
	var a, b [2]int
	fmt.Sscanf(version, "%d.%d", &a[0], &a[1])
	fmt.Sscanf(than, "%d.%d", &b[0], &b[1])
	return slices.Compare(a[:], b[:]) < 0
}

// try sends commands, and tells which of them the server refuses.
func (l *link) try(ctx context.Context, commands func(valkey.Builder) []valkey.Completed) error {
	var rights []string
	results, err := l.do(ctx, func(b valkey.Builder) []valkey.Completed {
		all := commands(b)
		for _, c := range all {
			rights = append(rights, right(c.Commands()))
		}
		return all
	})
	if err != nil {
		return err
	}
	var refused []string
	var why error
	for i, r := range results {
		if err := r.Error(); isRefusal(rights[i], err) && !slices.Contains(refused, rights[i]) {
			refused, why = append(refused, rights[i]), cmp.Or(why, err)
		}
	}
	if why != nil {
		return fmt.Errorf("the server refuses %s: %w", strings.Join(refused, ", "), why)
	}
	return nil
}

// checkLasts is how long the keys of a check stay if the connection ends before they are
// removed.
const checkLasts = 10 * time.Second

// checkKeys are keys that no node reads, in one slot.
func (o *Options) checkKeys() keys {
	prefix := clusterKey(o.Name, "check:"+o.Node)
	return keys{prefix + ":batches", prefix + ":snapshot", prefix + ":state"}
}

// commands are all that nodes send, and those of the script.
func (o *Options) commands(b valkey.Builder) []valkey.Completed {
	k := o.checkKeys()
	return []valkey.Completed{
		b.Ping().Build(),
		b.Time().Build(),
		b.ClusterSlots().Build(),
		b.ClusterShards().Build(),
		k.remove(b),
		b.Set().Key(k.snapshot).Value("").Px(checkLasts).Build(),
		b.Get().Key(k.snapshot).Build(),
		b.Hset().Key(k.state).FieldValue().FieldValue("f", "v").Build(),
		b.Pexpire().Key(k.state).Milliseconds(checkLasts.Milliseconds()).Build(),
		b.Hmget().Key(k.state).Field("f").Build(),
		b.Hgetall().Key(k.state).Build(),
		b.Hdel().Key(k.state).Field("f").Build(),
		b.Xadd().Key(k.batches).Id("1-0").FieldValue().FieldValue("d", "").Build(),
		b.Pexpire().Key(k.batches).Milliseconds(checkLasts.Milliseconds()).Build(),
		b.Xread().Count(1).Streams().Key(k.batches).Id("0-0").Build(),
		b.Xrange().Key(k.batches).Start("-").End("+").Count(1).Build(),
		b.Xtrim().Key(k.batches).Minid().Threshold("2-0").Build(),
		k.remove(b),
	}
}

// scripts are what sends the script. They come last: without a right for a command of
// its own it fails too.
func (o *Options) scripts(b valkey.Builder) []valkey.Completed {
	k := o.checkKeys()
	first := entry{chain: &chain{keys: k, lives: checkLasts}, number: 1, starts: true}
	return []valkey.Completed{first.eval(b), first.evalsha(b), k.remove(b)}
}

func (k keys) remove(b valkey.Builder) valkey.Completed {
	return b.Del().Key(k.batches, k.snapshot, k.state).Build()
}

// right is what a user needs to send the command, as ACL SETUSER takes it.
func right(command []string) string {
	if command[0] == "CLUSTER" {
		command = []string{command[0] + "|" + command[1]}
	}
	return strings.ToLower(command[0])
}

// isRefusal reports whether a node could not do with that answer. It can where a server is
// in no Valkey Cluster, or is too old to know shards, or does not know the script yet.
func isRefusal(right string, err error) bool {
	switch {
	case err == nil, valkey.IsValkeyNil(err):
		return false
	case strings.HasPrefix(right, "cluster|"):
		return strings.HasPrefix(err.Error(), "NOPERM")
	}
	return !strings.HasPrefix(err.Error(), "NOSCRIPT")
}

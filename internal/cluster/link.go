package cluster

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"

	"github.com/valkey-io/valkey-go"
)

// link is the connection to the servers. Each exchange makes it if it is not there; it
// never tries twice, since who asks does that.
type link struct {
	of *Options

	mu     sync.Mutex // owns what follows
	client valkey.Client
}

// get is the client.
func (l *link) get() (valkey.Client, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.client != nil {
		return l.client, nil
	}
	client, err := l.of.connect()
	if err != nil {
		return nil, err
	}
	l.client = client
	return client, nil
}

// do sends commands and waits for their answers. An error is of the link; answers may
// be errors of the server.
func (l *link) do(ctx context.Context, commands func(valkey.Builder) []valkey.Completed) ([]valkey.ValkeyResult, error) {
	client, err := l.get()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	results := client.DoMulti(ctx, commands(client.B())...)
	for _, r := range results {
		if err := r.NonValkeyError(); err != nil && !valkey.IsValkeyNil(err) {
			return nil, err
		}
	}
	return results, nil
}

func (l *link) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.client != nil {
		l.client.Close()
	}
}

// clientOption asks for few connections and small buffers: there are two who use it.
func (o *Options) clientOption() valkey.ClientOption {
	option := valkey.ClientOption{
		InitAddress:      o.Addresses,
		Username:         o.Username,
		Password:         o.Password,
		TLSConfig:        o.TLS,
		ClientName:       "audit-milter",
		Dialer:           net.Dialer{Timeout: dialWithin},
		DisableCache:     true,
		DisableRetry:     true,
		ConnWriteTimeout: answerWithin,
		Sentinel: valkey.SentinelOption{
			MasterSet: o.Sentinel,
			Password:  o.Password, // one that needs none takes any; the user is the server's
			TLSConfig: o.TLS,
		},
	}
	if strings.HasPrefix(o.Addresses[0], "/") {
		option.DialCtxFn = func(ctx context.Context, path string, d *net.Dialer, _ *tls.Config) (net.Conn, error) {
			return d.DialContext(ctx, "unix", path)
		}
	}
	return option
}

// connect makes a client, and has words for a server that says none.
func (o *Options) connect() (valkey.Client, error) {
	client, err := valkey.NewClient(o.clientOption())
	if o.TLS == nil && (errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET)) {
		err = fmt.Errorf("the server ends the connection without a word, as one does that wants TLS: %w", err)
	}
	return client, err
}

// keys are those of what a node tells of a series.
type keys struct{ batches, snapshot, state string }

func seriesKeys(cluster, series, node string) keys {
	prefix := "audit-milter:{" + cluster + "/" + series + "}:" + node
	return keys{prefix + ":batches", prefix + ":snapshot", prefix + ":state"}
}

// clusterKey is a key of the cluster as a whole.
func clusterKey(cluster, what string) string { return "audit-milter:{" + cluster + "}:" + what }

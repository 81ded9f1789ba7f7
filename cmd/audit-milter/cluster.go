package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/audit-milter/audit-milter/internal/cluster"
	"github.com/audit-milter/audit-milter/internal/config"
)

// clusterOptions is what the configuration says of the cluster.
func clusterOptions(c *config.Cluster) cluster.Options {
	return cluster.Options{
		Name: c.Name, Node: c.Node, Manager: c.Role == config.RoleManager, Version: programVersion(),
		Addresses: c.Valkey.Addresses, Sentinel: c.Valkey.Sentinel, Username: c.Valkey.Username, Password: c.Valkey.Password, TLS: c.Valkey.TLS,
	}
}

// sameCluster reports whether a running cluster is as the configuration wants it.
func sameCluster(a, b *config.Cluster) bool {
	if a == nil || b == nil {
		return a == b
	}
	x, y := a.Valkey.TLS, b.Valkey.TLS
	sameTLS := x == nil && y == nil || x != nil && y != nil && x.RootCAs.Equal(y.RootCAs)
	return sameTLS && a.Name == b.Name && a.Role == b.Role && a.String() == b.String() && a.Valkey.Password == b.Valkey.Password
}

// onlineTime is how long a server may take to answer a check.
const onlineTime = 5 * time.Second

// checkOnline tries the servers that a configuration names.
func checkOnline(ctx context.Context, out io.Writer, conf *config.Config) error {
	if conf.Cluster == nil {
		fmt.Fprintln(out, "\nOnline: the configuration names no server to try.")
		return nil
	}
	servers := strings.Join(conf.Cluster.Valkey.Addresses, ", ")
	ctx, cancel := context.WithTimeoutCause(ctx, onlineTime, errors.New("no answer within "+onlineTime.String()))
	defer cancel()
	type answer struct {
		server cluster.Server
		err    error
	}
	answers := make(chan answer, 1)
	go func() { // connecting may take longer
		server, err := clusterOptions(conf.Cluster).Check(ctx)
		answers <- answer{server, err}
	}()
	var a answer
	select {
	case a = <-answers:
	case <-ctx.Done():
		a.err = context.Cause(ctx)
	}
	if a.err != nil {
		return fmt.Errorf("the cluster's server at %s cannot be used: %w", servers, a.err)
	}
	fmt.Fprintf(out, "\nOnline: the cluster's server at %s answers.\n", servers)
	describeServer(out, a.server)
	return nil
}

// describeServer prints what the check has found out.
func describeServer(out io.Writer, s cluster.Server) {
	fmt.Fprintf(out, "  - It is %s. It has let this node write, read and remove keys of its own, with each command that audit-milter sends.\n", s.Software)
	side := "ahead of"
	if s.Ahead < 0 {
		side = "behind"
	}
	fmt.Fprintf(out, "  - This node's clock is %.3f s %s the server's, give or take %.3f s.\n", s.Ahead.Abs().Seconds(), side, s.Margin.Seconds())
	if s.Eviction != "" && s.Eviction != "noeviction" {
		fmt.Fprintf(out, "  - Its maxmemory-policy is %s: what it throws away is missing without a word. Set it to noeviction.\n", s.Eviction)
	}
}

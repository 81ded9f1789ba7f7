package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
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

// programVersion is what the Go tool noted when it built the program.
func programVersion() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "unknown"
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
	answer := make(chan error, 1)
	go func() { answer <- clusterOptions(conf.Cluster).Check(ctx) }() // connecting may take longer
	var err error
	select {
	case err = <-answer:
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	if err != nil {
		return fmt.Errorf("the cluster's server at %s cannot be used: %w", servers, err)
	}
	fmt.Fprintf(out, "\nOnline: the cluster's server at %s answers.\n", servers)
	return nil
}

package cluster

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// After the master was killed, two nodes count the same through the one that has taken
// its place, though that lacks what the master was told last.
func TestReplicaTakesTheMastersPlace(t *testing.T) {
	master, replica, link := replicated(t)
	checkNamesRole(t, master, link)
	a, b := newNode(t, "", "a", nodeOptions{link: link}), newNode(t, "", "b", nodeOptions{link: link})
	a.add(1, 1)
	b.add(1, 10)
	nodes := []*node{a, b}
	expect(t, nodes, map[int]int64{1: 11})
	replica.do("CONFIG", "SET", "masteruser", "nobody") // the master does not let it in again
	replica.do("CONFIG", "SET", "masterauth", "none")
	master.do("CLIENT", "KILL", "TYPE", "replica")
	a.add(1, 100)
	b.add(2, 5)
	expect(t, nodes, map[int]int64{1: 111, 2: 5})
	a.settled()
	b.settled()
	master.kill()
	a.add(1, 1000)
	b.add(3, 7)
	want := map[int]int64{1: 1111, 2: 5, 3: 7}
	expect(t, nodes, want)
	if role := replica.cli("ROLE"); !strings.HasPrefix(role, "master") {
		t.Errorf("the replica is %s", role)
	}
	a.settled()
	b.settled()
	expect(t, nodes, want)
	expect(t, []*node{newNode(t, "", "c", nodeOptions{link: link})}, want) // who knows only the new one
}

// checkNamesRole takes a right away for a while that is only needed behind Sentinels.
func checkNamesRole(t *testing.T, master *server, link func(*Options)) {
	rights := documentedRights(t)
	o := Options{Name: "test", Node: "x"}
	link(&o)
	if _, err := o.Check(t.Context()); err != nil {
		t.Error(err)
	}
	master.give(slices.DeleteFunc(slices.Clone(rights), func(right string) bool { return right == "+role" }))
	if _, err := o.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "'role'") {
		t.Errorf("without +role: got %v", err)
	}
	master.give(rights)
}

// replicated is a master that has a replica, and how nodes reach it by a Sentinel.
func replicated(t *testing.T) (master, replica *server, link func(*Options)) {
	port, replicaPort, sentinelPort := freePort(t), freePort(t), freePort(t)
	user := userArgs(t)
	master = newServer(t, append([]string{"--port", port, "--repl-diskless-sync-delay", "0"}, user...)...)
	replica = newServer(t, append([]string{"--port", replicaPort, "--replicaof", "127.0.0.1 " + port}, user...)...)
	eventually(t, func() error {
		if s, err := replica.do("INFO", "replication").ToString(); err != nil || !strings.Contains(s, "master_link_status:up") {
			return fmt.Errorf("%s %v", s, err)
		}
		return nil
	})
	startSentinel(t, sentinelPort, fmt.Sprintf(`sentinel monitor counts 127.0.0.1 %s 1
sentinel down-after-milliseconds counts 500
sentinel failover-timeout counts 3000
`, port))
	eventually(t, func() error { // else it knows of nobody to take the place
		out, err := exec.Command("redis-cli", "-p", sentinelPort, "SENTINEL", "replicas", "counts").CombinedOutput()
		if err == nil && !strings.Contains(string(out), replicaPort) {
			err = fmt.Errorf("%s", out)
		}
		return err
	})
	return master, replica, func(o *Options) {
		o.Addresses, o.Sentinel = []string{"127.0.0.1:" + sentinelPort}, "counts"
		o.Username, o.Password = "audit-milter", "secret"
	}
}

// userArgs let a server begin with the user of docs/clustering.md.
func userArgs(t *testing.T) []string {
	return append([]string{"--user", "audit-milter", "on", ">secret"}, documentedRights(t)...)
}

// startSentinel runs one with a configuration, which it writes to.
func startSentinel(t *testing.T, port, conf string) {
	path := filepath.Join(t.TempDir(), "sentinel.conf")
	if err := os.WriteFile(path, []byte("port "+port+"\nbind 127.0.0.1\n"+conf), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("redis-server", path, "--sentinel")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
}

// With three masters, whose series lie on several, two nodes count as one, also after the
// one was killed that has the series looked at here.
func TestReplicaOfValkeyClusterTakesItsMastersPlace(t *testing.T) {
	masters, addresses := valkeyCluster(t)
	link := func(o *Options) { o.Addresses, o.Username, o.Password = addresses, "audit-milter", "secret" }
	a := newNode(t, "", "a", nodeOptions{link: link, manager: true})
	b := newNode(t, "", "b", nodeOptions{link: link, manager: true})
	a.add(1, 1)
	b.add(1, 10)
	a.show("alice", "192.0.2.1")
	b.show("alice", "198.51.100.7")
	if _, err := a.cluster.Options.Check(t.Context()); err != nil {
		t.Error(err)
	}
	expect(t, []*node{a, b}, map[int]int64{1: 11})
	served := make(map[int]bool)
	for _, series := range []string{"clients", "users", "managed"} {
		served[masterOf(t, masters, seriesKeys("test", series, "a").state)] = true
	}
	if len(served) < 2 {
		t.Errorf("all series lie on one server")
	}
	same := func() error {
		for _, n := range []*node{a, b} {
			if users, managed := n.text("users", "alice"), n.text("managed", "alice"); users != 2 || managed != 2 {
				return fmt.Errorf("%s counts %d users and %d managed, want 2\n%s", n.name, users, managed, n.log)
			}
		}
		return nil
	}
	eventually(t, same)
	a.add(1, 100)
	b.add(2, 1000)
	masters[masterOf(t, masters, seriesKeys("test", "clients", "a").state)].kill()
	a.add(1, 10000)
	expect(t, []*node{a, b}, map[int]int64{1: 10111, 2: 1000})
	a.settled()
	b.settled()
	expect(t, []*node{a, b}, map[int]int64{1: 10111, 2: 1000})
	eventually(t, same)
}

// valkeyCluster has three masters, each with a replica.
func valkeyCluster(t *testing.T) (masters []*server, addresses []string) {
	create := []string{"--cluster", "create"}
	var all []*server
	for range 6 {
		port := freePort(t)
		all = append(all, newServer(t, append(userArgs(t), "--port", port, "--cluster-enabled", "yes", "--cluster-port", freePort(t),
			"--cluster-node-timeout", "1000", "--cluster-replica-validity-factor", "0", "--repl-diskless-sync-delay", "0")...))
		create = append(create, "127.0.0.1:"+port)
	}
	addresses = create[2:]
	if out, err := exec.Command("redis-cli", append(create, "--cluster-replicas", "1", "--cluster-yes")...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v", out, err)
	}
	for _, s := range all {
		eventually(t, func() error {
			if info := s.cli("CLUSTER", "INFO"); !strings.Contains(info, "cluster_state:ok") {
				return errors.New(info)
			}
			return nil
		})
		if strings.HasPrefix(s.cli("ROLE"), "master") {
			masters = append(masters, s)
		}
	}
	return masters, append(addresses[:4:4], "127.0.0.1:1") // where nobody is
}

// masterOf is which of them has the key.
func masterOf(t *testing.T, masters []*server, key string) int {
	t.Helper()
	i := slices.IndexFunc(masters, func(s *server) bool { return s.cli("EXISTS", key) == "1\n" })
	if i < 0 {
		t.Fatalf("no server has %s", key)
	}
	return i
}

// cli sends one command to this server and to no other of its cluster.
func (s *server) cli(command ...string) string {
	s.Helper()
	out, err := exec.Command("redis-cli", append([]string{"-s", s.path}, command...)...).CombinedOutput()
	if err != nil {
		s.Fatal(string(out), err)
	}
	return string(out)
}

package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// cluster is three nodes, each behind a mail server of its own, with one server that
// each reaches by a proxy of its own.
type cluster struct {
	valkey *valkey
	nodes  []*member
}

// member is one node.
type member struct {
	*daemon
	name  string
	proxy *proxy
	http  *http.Client // of its admin socket
}

// clusterProgram is where the program lies in a mail server's system, as it is shipped:
// nodes and server go by one clock, the machine's.
const clusterProgram = "/usr/local/libexec/cluster/audit-milter"

func (b *bed) clusterBinary() string { return filepath.Join(b.dir, "audit-milter") }

// openCluster starts the server, and a node with the policy behind each mail server.
func (b *bed) openCluster(policy string) (c *cluster, err error) {
	if b.another == nil {
		b.another = postfix2()
		build := []string{"build", "-buildvcs=false", "-o", b.clusterBinary()}
		if raceEnabled {
			build = append(build, "-race")
		}
		if err := errors.Join(run("go", append(build, "../../cmd/audit-milter")...), b.serve(b.another)); err != nil {
			return nil, err
		}
	}
	c = &cluster{valkey: &valkey{dir: filepath.Join(b.dir, "valkey")}}
	if err := errors.Join(os.RemoveAll(c.valkey.dir), os.Mkdir(c.valkey.dir, 0o700), c.valkey.start()); err != nil {
		return nil, err
	}
	for i, m := range []*mta{b.mtas[0], b.another, b.mtas[1]} {
		n, err := newMember(m, fmt.Sprintf("mx%d", i+1), fmt.Sprintf("127.0.0.1:%d", 6401+i), b.clusterBinary(), policy)
		if n != nil {
			c.nodes = append(c.nodes, n)
		}
		if err != nil {
			return c, err
		}
	}
	return c, nil
}

// newMember starts a node; it is there in part when that fails.
func newMember(m *mta, name, address, binary, policy string) (*member, error) {
	err := errors.Join(
		os.MkdirAll(filepath.Dir(m.path(clusterProgram)), 0o755),
		copyFile(m.path(clusterProgram), binary),
		m.forget())
	if err != nil {
		return nil, err
	}
	files := map[string]string{"policy.yaml": policy, "valkey.password": valkeyPassword + "\n"}
	d, err := newDaemon(m, "cluster", files, "policy.yaml", m.inet)
	if err != nil {
		return nil, err
	}
	d.program = clusterProgram
	if err := m.run("chown -R nobody " + filepath.Dir(d.config) + "; chmod 600 " + filepath.Dir(d.config) + "/valkey.password"); err != nil {
		return nil, err
	}
	admin := m.sockets + "/admin.sock"
	n := &member{daemon: d, name: name}
	d.own["admin"] = map[string]any{"listen": "unix:" + admin}
	d.own["state_dir"] = stateDir
	d.own["log"] = map[string]string{"level": "info", "format": "json"}
	d.own["cluster"] = map[string]any{
		"name": "test", "node": name,
		"valkey": map[string]any{"addresses": []string{address}, "username": valkeyUser, "password_file": "valkey.password"},
	}
	n.http = &http.Client{Timeout: patience, Transport: &http.Transport{
		DisableKeepAlives: true, // the node may be killed
		DialContext: func(context.Context, string, string) (net.Conn, error) {
			return net.Dial("unix", m.path(admin))
		},
	}}
	if n.proxy, err = openProxy(address); err != nil {
		return nil, err
	}
	return n, errors.Join(d.set(d.own), d.start())
}

// close ends everything that still runs, and says which node ended badly.
func (c *cluster) close() error {
	var errs []error
	for _, n := range c.nodes {
		errs = append(errs, n.stop())
		n.proxy.close()
	}
	return errors.Join(append(errs, c.valkey.kill())...)
}

// ask asks a node's admin socket and decodes the answer.
func (n *member) ask(path string, query url.Values, answer any) error {
	response, err := n.http.Get("http://daemon" + path + "?" + query.Encode())
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s to %s", n.name, response.Status, path)
	}
	return json.NewDecoder(response.Body).Decode(answer)
}

// count is what the node counts of the key in this hour and the one before.
func (n *member) count(series, key string) (int64, error) {
	var answer struct{ Count int64 }
	err := n.ask("/api/v1/count", url.Values{"series": {series}, "key": {key}, "windows": {"0-1"}}, &answer)
	return answer.Count, err
}

// remove forgets the key in a series on the node, which lets the others know.
func (n *member) remove(series, key string) error {
	body, err := json.Marshal(map[string]string{"series": series, "key": key})
	if err != nil {
		return err
	}
	response, err := n.http.Post("http://daemon/api/v1/remove", "application/json", bytes.NewReader(body))
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s to a removal", n.name, response.Status)
	}
	return nil
}

// agree waits until all nodes count the same, and fails when that takes longer.
func (c *cluster) agree(within time.Duration, series, key string, want int64) error {
	return c.await(within, c.nodes, series, key, want)
}

// await is agree for some nodes. A test with the race detector may take thrice the time.
func (c *cluster) await(within time.Duration, nodes []*member, series, key string, want int64) error {
	if raceEnabled {
		within *= 3
	}
	for began := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		late := time.Since(began) > within
		var counts []string
		agree := true
		for _, n := range nodes {
			count, err := n.count(series, key)
			if err != nil {
				return err
			}
			agree = agree && count == want
			counts = append(counts, fmt.Sprintf("%s %d", n.name, count))
		}
		if agree {
			return nil
		}
		if late {
			return fmt.Errorf("%v after the last of it the nodes count %s of %s, not %d", within, strings.Join(counts, ", "), key, want)
		}
	}
}

// rcpts lets a client send so many recipients to the node's mail server, and returns the
// replies' codes. None may take longer than a decision that waits for nobody.
func (n *member) rcpts(from netip.Addr, number int) (codes []string, err error) {
	c, err := dial(n.mta, "smtp", from)
	if err != nil {
		return nil, err
	}
	defer c.drop()
	say := func(line string) (string, error) {
		if line != "" {
			if err := c.send([]string{line}); err != nil {
				return "", err
			}
		}
		return c.reply()
	}
	for _, line := range []string{"", "EHLO client.example", "MAIL FROM:<sender@example.com>"} {
		if reply, err := say(line); err != nil || reply[0] != '2' {
			return nil, fmt.Errorf("%s: %q (%v)", line, reply, err)
		}
	}
	for range number {
		reply, err := say("RCPT TO:<user@local.test>")
		if err != nil {
			return nil, err
		}
		if c.waited > time.Second {
			return nil, fmt.Errorf("%s: the answer to RCPT took %v", n.name, c.waited)
		}
		codes = append(codes, reply[:3])
	}
	return codes, nil
}

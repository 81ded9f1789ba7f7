package main

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/audit-milter/audit-milter/internal/admin"
	"github.com/audit-milter/audit-milter/milter"
)

var kills = flag.Int("kills", 12, "how often TestNothingCountedIsLost kills the daemon")

// crashing keeps all kinds of deltas.
const crashing = `
listen: unix:m.sock
log: {level: warn}
state_dir: state
history: {dir: history}
admin: {listen: unix:admin.sock}
series:
  users: {type: string, interval: 1h, windows: 24, persist: true, add: {at: mail, key: sasl_username}}
  addresses: {type: ip, interval: 1h, windows: 24, persist: true, add: {at: rcpt_refused}}
  attempts: {type: string, interval: 5s, windows: 1000, persist: true, serialize: true, add: {at: helo, key: helo_name}}
  correspondents: {type: ip, interval: 1h, windows: 24, persist: true, distinct: recipient, add: {at: rcpt}}
rules:
  - {name: many, at: rcpt, if: {series: correspondents, above: 20}, then: tempfail, penalty: 12h}
`

// durable is how long a change takes at most to be safe.
const durable = time.Second

// mortal is a daemon that is killed and started again.
type mortal struct {
	*testing.T
	dir    string
	cmd    *exec.Cmd
	client *admin.Client
}

// write writes its configuration.
func (m *mortal) write(policy string) {
	if err := os.WriteFile(filepath.Join(m.dir, "policy.yaml"), []byte(policy), 0o600); err != nil {
		m.Fatal(err)
	}
}

// start runs the daemon and waits until it listens.
func (m *mortal) start() {
	m.Helper()
	m.cmd = exec.Command("audit-milter", "serve", "--config", "policy.yaml")
	printed := m.run()
	m.Cleanup(func() { m.cmd.Process.Kill() })
	m.serves(printed)
}

// run runs the command; its standard output is to be read.
func (m *mortal) run() *bufio.Scanner {
	m.Helper()
	m.cmd.Dir = m.dir
	log, err := os.OpenFile(filepath.Join(m.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		m.Fatal(err)
	}
	defer log.Close()
	m.cmd.Stderr = log
	out, err := m.cmd.StdoutPipe()
	if err != nil {
		m.Fatal(err)
	}
	if err := m.cmd.Start(); err != nil {
		m.Fatal(err)
	}
	return bufio.NewScanner(out)
}

// serves waits until the daemon listens: the lines to paste come then.
func (m *mortal) serves(printed *bufio.Scanner) {
	m.Helper()
	for range 4 {
		if !printed.Scan() {
			m.Fatalf("the daemon did not begin to serve:\n%s", m.log())
		}
	}
	var err error
	if m.client, err = admin.NewClient("unix:"+filepath.Join(m.dir, "admin.sock"), ""); err != nil {
		m.Fatal(err)
	}
}

func (m *mortal) log() []byte {
	text, err := os.ReadFile(filepath.Join(m.dir, "log"))
	if err != nil {
		m.Fatal(err)
	}
	return text
}

// post reports whether a change was acknowledged.
func (m *mortal) post(path string, change any) bool {
	_, err := m.client.Post(m.Context(), path, change)
	return err == nil
}

// counts are the totals of all keys of a series.
func (m *mortal) counts(name string) map[string]int64 {
	m.Helper()
	body, err := m.client.Stream(m.Context(), "/api/v1/export", url.Values{"series": {name}})
	if err != nil {
		m.Fatal(err)
	}
	defer body.Close()
	return m.totals(body)
}

// totals are those of an export.
func (m *mortal) totals(export io.Reader) map[string]int64 {
	m.Helper()
	rows, err := csv.NewReader(export).ReadAll()
	if err != nil {
		m.Fatal(err)
	}
	all := make(map[string]int64)
	for _, row := range rows[1:] {
		n, err := strconv.ParseInt(row[4], 10, 64)
		if err != nil {
			m.Fatal(err)
		}
		all[row[1]] += n
	}
	return all
}

// penalties are the keys that have one.
func (m *mortal) penalties() map[string]bool {
	data, err := m.client.Get(m.Context(), "/api/v1/penalties", nil)
	if err != nil {
		m.Fatal(err)
	}
	var list admin.PenaltyList
	if err := json.Unmarshal(data, &list); err != nil {
		m.Fatal(err)
	}
	all := make(map[string]bool)
	for _, p := range list.Penalties {
		all[p.Key] = true
	}
	return all
}

// life is what has become of a key's count: what it was after each change, of which
// the last may not have been acknowledged.
type life []moment

type moment struct {
	count int64
	at    time.Time // when it was acknowledged; zero: it was not, or it was so in an earlier life
}

// may reports whether the count may be that after the death.
func (l life) may(count int64, death time.Time) bool {
	safe := 0
	for i, m := range l {
		if !m.at.IsZero() && death.Sub(m.at) > durable {
			safe = i
		}
	}
	for _, m := range l[safe:] {
		if m.count == count {
			return true
		}
	}
	return false
}

// tail is the end of it, with the time before the death.
func (l life) tail(death time.Time) (text string) {
	for _, m := range l[max(0, len(l)-20):] {
		text += fmt.Sprintf(" %d (%s)", m.count, death.Sub(m.at).Round(time.Millisecond))
	}
	return text
}

// changer changes the counts of its own keys in one series.
type changer struct {
	series  string
	keys    []string
	removes bool
	lives   map[string]life
	sent    map[string]int64 // what was added in this life
}

// work goes on until the daemon is dead.
func (c *changer) work(m *mortal) {
	for {
		key := c.keys[rand.IntN(len(c.keys))]
		l := c.lives[key]
		n := int64(1 + rand.IntN(9))
		next := l[len(l)-1].count + n
		path, change := "/api/v1/add", any(admin.Add{Series: c.series, Key: key, Count: &n})
		if c.removes && rand.IntN(8) == 0 {
			next = 0
			path, change = "/api/v1/remove", admin.Remove{Series: c.series, Key: key}
		}
		c.sent[key] += n
		l = append(l, moment{count: next})
		c.lives[key] = l
		if !m.post(path, change) {
			return
		}
		l[len(l)-1].at = time.Now()
	}
}

// compare lets new lives begin with what there is after the death.
func (c *changer) compare(m *mortal, death time.Time) {
	m.Helper()
	counts := m.counts(c.series)
	for _, key := range c.keys {
		if l := c.lives[key]; len(l) > 0 && !l.may(counts[key], death) {
			m.Errorf("%s in %s counts %d; it was, so long before the death:%s", key, c.series, counts[key], l.tail(death))
		}
		c.lives[key] = life{{count: counts[key]}}
	}
}

// reload lets snapshots begin as long as the daemon lives, with such times between them.
func (m *mortal) reload(between time.Duration) {
	for m.post("/api/v1/reload", admin.Reload{}) {
		time.Sleep(rand.N(2 * between))
	}
}

// sender plays dialogues, each of another client, with so many recipients that a rule
// fires in the end.
type sender struct {
	clients  int
	punished map[netip.Addr]time.Time // when the dialogue ended; zero: in an earlier life
}

const (
	correspondents = 25
	unpunished     = 20
)

func (s *sender) work(m *mortal) {
	for {
		s.clients++
		d := dialogue{client: netip.AddrFrom4([4]byte{198, 18, byte(s.clients >> 8), byte(s.clients)}), heloName: "mx.test", from: "a@b.test"}
		for i := range correspondents {
			d.to = append(d.to, fmt.Sprintf("r%d@b.test", i))
		}
		p, err := dialMilter(io.Discard, milter.Listen{Network: "unix", Address: filepath.Join(m.dir, "m.sock")}, d)
		if err != nil {
			return
		}
		err = p.play()
		p.close()
		if err != nil {
			return
		}
		s.punished[d.client] = time.Now()
	}
}

// compare forgets the clients that were allowed to be lost.
func (s *sender) compare(m *mortal, death time.Time) {
	m.Helper()
	counts, penalties := m.counts("correspondents"), m.penalties()
	for client, ended := range s.punished {
		n, penalty := counts[client.String()], penalties[client.String()]
		whole := n == correspondents && penalty
		if death.Sub(ended) > durable && !whole || n > correspondents {
			m.Errorf("%s has %d correspondents, and a penalty: %t; its dialogue ended %s before the death", client, n, penalty, death.Sub(ended))
		}
		if s.punished[client] = (time.Time{}); !whole {
			delete(s.punished, client)
		}
	}
	for client := range penalties {
		if counts[client] <= unpunished {
			m.Errorf("%s has a penalty and only %d correspondents", client, counts[client])
		}
	}
}

// preload gives a snapshot something to do for several ticks.
func (m *mortal) preload(keys int) {
	start := time.Now().UTC().Truncate(time.Hour)
	for i := 0; i < keys; i += admin.MaxRows {
		l := admin.Load{Series: "addresses"}
		for j := range admin.MaxRows {
			key := netip.AddrFrom4([4]byte{100, byte((i + j) >> 16), byte((i + j) >> 8), byte(i + j)})
			l.Rows = append(l.Rows, admin.Row{Key: key.String(), Start: start, IntervalSeconds: 3600, Count: 1})
		}
		if !m.post("/api/v1/load", l) {
			m.Fatal("the keys could not be loaded")
		}
	}
}

// A daemon that counts is killed at any moment and started again. Each count is one
// that it went through, and none from before what was acknowledged more than a second
// before the death.
func TestNothingCountedIsLost(t *testing.T) {
	m := &mortal{T: t, dir: t.TempDir()}
	m.write(crashing)
	changers := []*changer{{series: "users", removes: true}, {series: "addresses", removes: true}, {series: "attempts"}}
	for _, c := range changers {
		c.lives, c.sent = make(map[string]life), make(map[string]int64)
		for i := range 40 {
			key := fmt.Sprint("user", i)
			if c.series == "addresses" {
				key = netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}).String()
			}
			c.keys, c.lives[key] = append(c.keys, key), life{{}}
		}
	}
	attempts, before := changers[2], &books{more: make(map[string]int64)}
	s := &sender{punished: make(map[netip.Addr]time.Time)}
	m.start()
	for i := range *kills {
		if i == *kills/2 { // up to now snapshots were complete at once
			m.preload(50_000)
			time.Sleep(durable)
		}
		lives := []time.Duration{400 * time.Millisecond, 2500 * time.Millisecond}[i%2]
		between := []time.Duration{20 * time.Millisecond, time.Second}[i/2%2]
		var work sync.WaitGroup
		for _, c := range changers {
			work.Go(func() { c.work(m) })
		}
		work.Go(func() { s.work(m) })
		work.Go(func() { m.reload(between) })
		time.Sleep(rand.N(lives)) // a death may come at any moment
		death := time.Now()
		m.cmd.Process.Kill()
		m.cmd.Wait()
		work.Wait()
		m.start()
		for _, c := range changers {
			c.compare(m, death)
		}
		s.compare(m, death)
		before.compare(m, attempts) // which is written before the daemon serves
		if t.Failed() {
			t.Fatalf("the log:\n%s", m.log())
		}
	}
	if n := len(m.counts("addresses")); n < 50_000 {
		t.Errorf("of the keys that were loaded %d are left", n)
	}
	terminate(t, m.cmd)
	before.compare(m, attempts)
}

// books are what the history has of each key, and by how much that is more than what
// the state restored: the history may have what the state has lost.
type books struct{ written, more map[string]int64 }

// compare reports what the history has lost or has twice since the last time. The
// lives of the keys have begun anew.
func (b *books) compare(m *mortal, c *changer) {
	m.Helper()
	written := m.written(c.series)
	for _, key := range c.keys {
		more := written[key] - c.lives[key][0].count
		if more < b.more[key] || written[key]-b.written[key] > c.sent[key] {
			m.Errorf("the history has %d of %s after %d, and there are %d: %d were added, and %d more were there before",
				written[key], key, b.written[key], c.lives[key][0].count, c.sent[key], b.more[key])
		}
		b.more[key] = more
	}
	b.written = written
	clear(c.sent)
}

// written are the totals of all keys that the history has of a series.
func (m *mortal) written(series string) map[string]int64 {
	m.Helper()
	if _, err := os.Stat(filepath.Join(m.dir, "history", series)); err != nil {
		return nil // it was killed before the first file
	}
	cmd := exec.Command("audit-milter", "history", "export", series, "--dir", "history")
	cmd.Dir = m.dir
	out, err := cmd.Output()
	if err != nil {
		m.Fatal(err)
	}
	return m.totals(bytes.NewReader(out))
}

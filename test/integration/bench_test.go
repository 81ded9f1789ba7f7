package integration

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/audit-milter/audit-milter/internal/wiretrace"
	"github.com/audit-milter/audit-milter/milter"
)

var (
	rounds   = flag.Int("rounds", 5, "how often each of the benchmark's rivals has its turn; medians are told")
	messages = flag.Int("messages", 300, "`messages` in a turn")
)

// BenchmarkPostfix is what a mail server loses to a milter. Postfix's own
// smtp-source sends messages of three recipients, twelve header fields and 4
// KiB, each by an SMTP session of its own; Postfix keeps its queue in memory and
// throws away what it delivers.
//
// It does so without a milter, with test/yardstick, which negotiates what
// audit-milter negotiates and answers the same commands without looking at
// them, and with audit-milter; in turns, so that other work on the machine falls
// on all alike.
//
//	msg/s       messages a second
//	xyardstick  that, as a multiple of the yardstick's
//	xnone       that, as a multiple of what Postfix does without a milter
//	cpu-µs/msg  CPU time of Postfix and the milter, which other work disturbs least
func BenchmarkPostfix(b *testing.B) {
	f := newField(b)
	for _, network := range []string{"unix", "inet"} {
		for _, p := range []struct{ name, policy, recording string }{
			{"example-mx", "../../examples/mx.yaml", "example-mx-message"},
			{"rules-at-every-stage", recordings + "/rules-at-every-stage/policy.yaml", "rules-at-every-stage"},
			{"rules-at-rcpt", recordings + "/rules-at-rcpt/policy.yaml", "rules-at-rcpt"},
		} {
			b.Run(network+"/"+p.name, func(b *testing.B) {
				f.enter(b, rivals[network], p.policy, filepath.Join(recordings, p.recording, "postfix.txt"))
				for _, sessions := range []int{1, 8, 32} {
					b.Run(strconv.Itoa(sessions), func(b *testing.B) { f.measure(b, rivals[network], sessions) })
				}
			})
		}
	}
}

// rival is what Postfix works with, by a service of its own.
type rival struct {
	name    string
	port    string // the service's
	address string // the milter's, "" for none
}

const (
	noMilter = iota // places in a list of rivals
	withYardstick
	withAuditMilter
)

// rivals by the network that they are asked by. The unix sockets lie where
// Postfix reaches them from its chroot.
var rivals = map[string][]rival{
	"unix": {
		{name: "none", port: "3000"},
		{"yardstick", "3001", "unix:/var/spool/postfix/audit-milter/yardstick"},
		{"audit-milter", "3002", "unix:/var/spool/postfix/audit-milter/bench"},
	},
	"inet": {
		{name: "none", port: "3000"},
		{"yardstick", "3003", "inet:127.0.0.1:9903"},
		{"audit-milter", "3004", "inet:127.0.0.1:9904"},
	},
}

// socket is of a rival that has a milter.
func (r *rival) socket() milter.Listen {
	l, err := milter.ParseAddress(r.address)
	if err != nil {
		panic(err)
	}
	return l
}

// masterLines are the service in master.cf.
func (r *rival) masterLines() string {
	milters := ""
	if r.address != "" {
		milters = r.socket().Postfix()
	}
	return fmt.Sprintf("%s inet n - y - - smtpd\n  -o smtpd_milters=%s\n", r.port, milters)
}

// field is where the rivals meet: Postfix with a service for each of them.
type field struct{ mta *mta }

// programs is where the programs lie in Postfix's system. They are built as they
// are shipped, not as the dialogues need them.
const programs = "/usr/local/libexec/bench"

// newField makes Postfix take all recipients of local.test, and throw away what
// it takes. Nor may it hold a client up for a second when deliveries fall behind
// (in_flow_delay), which has nothing to do with milters.
func newField(b *testing.B) *field {
	f := &field{needBed(b).mtas[0]}
	services := ""
	for _, r := range slices.Concat(rivals["unix"], rivals["inet"][withYardstick:]) {
		services += r.masterLines()
	}
	must(b,
		os.MkdirAll(f.mta.path(programs), 0o755),
		run("go", "build", "-buildvcs=false", "-o", f.mta.path(programs), "../../cmd/audit-milter", "../yardstick"),
		os.WriteFile(f.mta.path("/tmp/message"), message(), 0o644),
		os.WriteFile(f.mta.path("/tmp/services"), []byte(services), 0o644),
		f.mta.run(`
			cat /tmp/services >>/etc/postfix/master.cf
			postconf -e local_recipient_maps= local_transport=discard: in_flow_delay=0
			postfix reload`),
	)
	return f
}

func must(b *testing.B, errs ...error) {
	b.Helper()
	if err := errors.Join(errs...); err != nil {
		b.Fatal(err)
	}
}

// message has twelve header fields and a body of 4 KiB.
func message() []byte {
	var m bytes.Buffer
	m.WriteString(`Received: from relay.example (relay.example [203.0.113.77])
  by mail.client.example with ESMTPS id 5F3A21B2
  for <user@local.test>; Tue, 24 Nov 2026 12:00:00 +0000
Received: from desk.client.example (desk.client.example [203.0.113.78])
  by relay.example with ESMTPSA id 7C11E0A4; Tue, 24 Nov 2026 11:59:58 +0000
Date: Tue, 24 Nov 2026 11:59:57 +0000
From: A Sender <sender@example.com>
To: user@local.test
Subject: hello
Message-ID: <0000.5F3A21B2@client.example>
MIME-Version: 1.0
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: 8bit
User-Agent: a program
X-Spam-Flag: NO

`)
	for range 4096 / 64 {
		m.WriteString(strings.Repeat("x", 63) + "\n")
	}
	return m.Bytes()
}

// enter starts both milters for one policy, whose negotiation was recorded.
func (f *field) enter(b *testing.B, rivals []rival, policy, recording string) {
	b.Helper()
	trace, err := wiretrace.ReadFile(recording)
	must(b, err, copyFile(f.mta.path("/tmp/recording"), recording))
	f.startAuditMilter(b, rivals[withAuditMilter].socket(), policy, trace)
	f.startYardstick(b, rivals[withYardstick].socket())
}

func (f *field) startAuditMilter(b *testing.B, socket milter.Listen, policy string, trace *wiretrace.Trace) {
	b.Helper()
	text, err := os.ReadFile(policy)
	must(b, err)
	var listen any = socket.String()
	if socket.Network == "unix" {
		listen = map[string]string{"socket": socket.String(), "group": f.mta.group}
	}
	d, err := newDaemon(f.mta, "bench", map[string]string{"policy.yaml": string(text)}, "policy.yaml", listen)
	must(b, err)
	d.program = programs + "/audit-milter"
	must(b, d.set(map[string]any{"log": map[string]string{"level": "info", "format": "json"}}), d.start())
	b.Cleanup(func() { must(b, d.stop()) })
	must(b, f.sameNegotiation(socket, trace))
}

// startYardstick starts it with a unix socket that everybody may connect to.
func (f *field) startYardstick(b *testing.B, socket milter.Listen) {
	b.Helper()
	cmd := exec.Command("/bin/sh", "-c", fmt.Sprintf("umask 0; exec %s/yardstick %s %s /tmp/recording", programs, socket.Network, socket.Address))
	f.mta.inside(cmd)
	must(b, cmd.Start())
	b.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		os.Remove(f.mta.path(socket.Address))
	})
}

// sameNegotiation makes sure that audit-milter negotiates what the yardstick
// will, which is what the recording has.
func (f *field) sameNegotiation(socket milter.Listen, trace *wiretrace.Trace) error {
	address := socket.Address
	if socket.Network == "unix" {
		address = f.mta.path(address)
	}
	conn, err := net.Dial(socket.Network, address)
	if err != nil {
		return err
	}
	defer conn.Close()
	turn := trace.Turns()[0]
	if _, err := conn.Write(turn.Sent[0].Bytes()); err != nil {
		return err
	}
	got, err := wiretrace.ReadFrame(conn)
	if want := turn.Answers[0]; err == nil && !bytes.Equal(got.Bytes(), want.Bytes()) {
		return fmt.Errorf("audit-milter negotiates %s, the recording has %s; record it anew", got, want)
	}
	return err
}

// measure lets the rivals have their turns and tells each one's medians.
func (f *field) measure(b *testing.B, rivals []rival, sessions int) {
	b.Helper()
	rates, costs := make([][]float64, len(rivals)), make([][]float64, len(rivals))
	for range *rounds {
		for _, i := range rand.Perm(len(rivals)) { // who follows whom tells
			before := cpuTime(b)
			rate, err := f.turn(rivals[i], sessions)
			must(b, err)
			rates[i] = append(rates[i], rate)
			costs[i] = append(costs[i], float64((cpuTime(b)-before).Microseconds())/float64(*messages))
		}
	}
	for i, r := range rivals {
		b.Run(r.name, func(b *testing.B) {
			b.ReportMetric(median(rates[i]), "msg/s")
			b.ReportMetric(median(rates[i])/median(rates[withYardstick]), "xyardstick")
			b.ReportMetric(median(rates[i])/median(rates[noMilter]), "xnone")
			b.ReportMetric(median(costs[i]), "cpu-µs/msg")
			b.ReportMetric(0, "ns/op") // says nothing here
		})
	}
}

func median(figures []float64) float64 {
	return slices.Sorted(slices.Values(figures))[len(figures)/2]
}

// cpuTime is what all processes in the bed have used so far, with those of their
// children that have ended, but for this one and its own.
func cpuTime(b *testing.B) (sum time.Duration) {
	b.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	must(b, err)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil || filepath.Dir(file) == fmt.Sprintf("/proc/%d", os.Getpid()) {
			continue // it has ended meanwhile
		}
		_, fields, _ := strings.Cut(string(text), ") ") // behind the name
		for _, ticks := range strings.Fields(fields)[11:15] {
			n, err := strconv.Atoi(ticks)
			must(b, err)
			sum += time.Duration(n) * tick
		}
	}
	return sum
}

// tick is the unit of times in /proc, on every Linux that Go runs on.
const tick = 10 * time.Millisecond

// turn sends messages to one rival's service and returns how many a second it
// took. The sender has the server's own address: no rule holds that against it
// however often it comes, but all count and judge it.
func (f *field) turn(r rival, sessions int) (float64, error) {
	cmd := exec.Command("/usr/sbin/smtp-source", "-s", strconv.Itoa(sessions), "-m", strconv.Itoa(*messages), "-r", "3",
		"-M", "client.example", "-f", "sender@example.com", "-t", "user@local.test", "-F", "/tmp/message", f.mta.IPv4+":"+r.port)
	f.mta.inside(cmd)
	begin := time.Now()
	if out, err := cmd.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("smtp-source to %s: %w\n%s", r.name, err, out)
	}
	took := time.Since(begin)
	return float64(*messages) / took.Seconds(), f.drained()
}

// drained waits until nothing is left in Postfix's queue for the next turn to
// carry.
func (f *field) drained() error {
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		left := 0
		for _, queue := range []string{"incoming", "active"} {
			files, err := os.ReadDir(f.mta.path("/var/spool/postfix/" + queue))
			if err != nil {
				return err
			}
			left += len(files)
		}
		if left == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%d messages are still in the queue after %v", left, patience)
		}
	}
}

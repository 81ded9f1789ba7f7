// Package notify tells people that a rule fired, by mail or by a webhook, and
// promises that no decision waits for that: what is to be told is put into a
// queue of bounded size, and one goroutine for each [Target] delivers it.
//
// A target hears of a rule and a key when the rule first fires for that key, and
// again at most once per Every. Firings in between are counted, and the next
// notification tells their number. So does it with those that the bounds kept
// back: [PerHour] notifications in an hour, and [QueueSize] that wait.
//
// What cannot be delivered is tried again for an hour, unless the other side
// says that it never will be. Then it is given up, and the log says so.
//
// It decides nothing about what fires; that is for the policy.
package notify

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/audit-milter/audit-milter/policy"
)

// The bounds of each target.
const (
	QueueSize = 64   // notifications that wait for delivery
	PerHour   = 100  // notifications in one hour of the clock: rules may fire for thousands of keys at once
	maxTold   = 5000 // rules and keys that are remembered; about 2 MB
)

// Target is someone who can be told.
type Target struct {
	Name  string
	Via   Channel
	Every time.Duration // the least between two notifications of one rule and key
}

func (t Target) String() string {
	return fmt.Sprintf("%s, at most every %s for a rule and key", t.Via, policy.DurationText(t.Every))
}

// Channel is a way to a target: [*Mail] or [*Webhook].
type Channel interface {
	// String tells the way, without what is secret in it.
	String() string
	// send delivers a notice before ctx ends. An error that is a
	// [permanentError] will be the same the next time.
	send(ctx context.Context, n *notice) error
}

// Notifier tells targets what fired.
type Notifier struct {
	log     *slog.Logger
	jitter  func() float64
	targets atomic.Pointer[map[string]*target]

	delivering sync.WaitGroup  // the targets' goroutines
	ctx        context.Context // of what they do; ends at the end of Close
	cancel     context.CancelCauseFunc
}

// Options are a notifier's surroundings.
type Options struct {
	Log *slog.Logger // required

	// Jitter is at random from 0 up to 1: which part of the half of a pause
	// between two attempts is left out. Nil is the default.
	Jitter func() float64
}

// Start begins to deliver what [Notifier.Fired] is told.
func Start(targets []Target, o Options) *Notifier {
	n := &Notifier{log: o.Log, jitter: o.Jitter}
	if n.jitter == nil {
		n.jitter = rand.Float64
	}
	n.ctx, n.cancel = context.WithCancelCause(context.Background())
	n.targets.Store(new(map[string]*target))
	n.Replace(targets)
	return n
}

// Replace sets the targets. One that keeps its name keeps what it was told, what
// waits for it and its numbers; one that is gone gets what waits for it, if that
// can be delivered at once. Not to be called by several at one time, nor after
// Close.
func (n *Notifier) Replace(targets []Target) {
	before, after := *n.targets.Load(), make(map[string]*target)
	for _, conf := range targets {
		t := before[conf.Name]
		if t == nil {
			t = newTarget(conf, n)
			n.delivering.Go(func() { t.run(n.ctx) })
		}
		t.configure(conf)
		after[conf.Name] = t
	}
	n.targets.Store(&after)
	for name, t := range before {
		if after[name] == nil {
			close(t.closing)
		}
	}
}

// Fired takes a firing for all targets that it names, and returns at once:
// nothing is sent before that. It is a [policy.Options] Notify.
func (n *Notifier) Fired(f policy.Firing) {
	targets := *n.targets.Load()
	for _, name := range f.To {
		if t := targets[name]; t != nil { // gone, where a session still has the policy before
			t.fired(f)
		}
	}
}

// Close ends the delivery. What waits is tried once more, within that time; the
// log tells what was not delivered. What fires after that is not told.
func (n *Notifier) Close(within time.Duration) {
	end := func() { n.cancel(errStopping) }
	defer end()
	defer time.AfterFunc(within, end).Stop()
	for _, t := range *n.targets.Load() {
		close(t.closing)
	}
	n.delivering.Wait()
}

// Stats are one target's numbers since the start.
type Stats struct {
	Target     string
	Sent       uint64 // notifications delivered
	Failed     uint64 // given up
	Dropped    uint64 // firings that were due, and kept back by QueueSize or PerHour
	Suppressed uint64 // firings that were not due
	Queued     int    // notifications that wait now, without the one that is being delivered
}

// Stats are all targets' numbers, by name.
func (n *Notifier) Stats() []Stats {
	targets := *n.targets.Load()
	all := make([]Stats, 0, len(targets))
	for _, name := range slices.Sorted(maps.Keys(targets)) {
		all = append(all, targets[name].stats())
	}
	return all
}

package notify

import (
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/audit-milter/audit-milter/policy"
)

// target is a Target at work: what it was told, and what waits for it.
type target struct {
	log    *slog.Logger
	jitter func() float64

	queue   chan *notice  // what waits; filled under mu, so that who sees room has it
	closing chan struct{} // closed when no more is to be waited for

	mu   sync.Mutex // owns the following, up to the counters
	conf Target
	told map[subject]*told
	hour hour
	kept kept

	sent, failed, dropped, suppressed atomic.Uint64
}

// subject is what a target is told about, once per Every.
type subject struct {
	rule, key string
	shadow    bool
}

// told is the last notification of a subject.
type told struct {
	at         time.Time
	suppressed int // firings since then
}

// hour is how many notifications there were in an hour of the clock.
type hour struct {
	of int64 // hours of Unix time
	n  int
}

// kept is what the bounds kept back.
type kept struct {
	untold int       // since the last notification
	unsaid int       // since the last line of the log
	said   time.Time // that line's time
}

const sayEvery = time.Minute // one line of the log about what is kept back

func newTarget(conf Target, n *Notifier) *target {
	return &target{
		log:     n.log.With("target", conf.Name),
		jitter:  n.jitter,
		queue:   make(chan *notice, QueueSize),
		closing: make(chan struct{}),
		told:    make(map[subject]*told),
	}
}

func (t *target) configure(conf Target) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.conf = conf
}

func (t *target) via() Channel {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.conf.Via
}

// fired queues a notice, if one is due and there is room.
func (t *target) fired(f policy.Firing) {
	s := subject{f.Verdict.Rule, f.Key(), f.Verdict.Shadow}
	t.mu.Lock()
	defer t.mu.Unlock()
	last := t.told[s]
	if last != nil && f.At.Sub(last.at).Abs() < t.conf.Every {
		last.suppressed++
		t.suppressed.Add(1)
		return
	}
	if full := t.full(f.At); full != "" {
		if last != nil {
			last.suppressed++
		}
		t.keepBack(full, f.At)
		return
	}
	t.queue <- newNotice(f, last, t.kept.untold) // there is room
	t.kept.untold = 0
	t.hour.n++
	t.remember(s, f.At)
}

// full says which bound is reached; "" when none is.
func (t *target) full(now time.Time) string {
	if of := now.Unix() / 3600; of != t.hour.of {
		t.hour = hour{of: of}
	}
	switch {
	case t.hour.n >= PerHour:
		return "there were as many in this hour as there may be"
	case len(t.queue) == cap(t.queue):
		return "the queue is full"
	}
	return ""
}

// keepBack counts a firing that is due and cannot be told, and says so once a
// minute.
func (t *target) keepBack(why string, now time.Time) {
	t.dropped.Add(1)
	t.kept.untold++
	t.kept.unsaid++
	if now.Sub(t.kept.said).Abs() < sayEvery {
		return
	}
	t.log.Warn("notifications are dropped", "firings", t.kept.unsaid, "reason", why)
	t.kept.unsaid, t.kept.said = 0, now
}

// remember notes that a subject is told. What could be told again anyway makes
// room first, then what was told longest ago.
func (t *target) remember(s subject, now time.Time) {
	if len(t.told) >= maxTold {
		t.forget(now)
	}
	s.key = strings.Clone(s.key) // it may be a piece of something larger
	t.told[s] = &told{at: now}
}

func (t *target) forget(now time.Time) {
	var oldest subject
	var age time.Duration
	for s, last := range t.told {
		switch since := now.Sub(last.at).Abs(); {
		case since >= t.conf.Every:
			delete(t.told, s)
		case since >= age:
			oldest, age = s, since
		}
	}
	if len(t.told) >= maxTold {
		delete(t.told, oldest)
	}
}

func (t *target) stats() Stats {
	t.mu.Lock()
	defer t.mu.Unlock()
	return Stats{
		Target:     t.conf.Name,
		Sent:       t.sent.Load(),
		Failed:     t.failed.Load(),
		Dropped:    t.dropped.Load(),
		Suppressed: t.suppressed.Load(),
		Queued:     len(t.queue),
	}
}

package series

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Sessions add, take back, count and remove at the same time while windows
// pass; at the end every sum is exact.
func TestManySessions(t *testing.T) {
	generators := map[Type]func(i int) Key{
		IP: func(i int) Key {
			if i%2 == 0 {
				return numbered(i<<7, false)
			}
			return kinds[1].key(i)
		},
		String: func(i int) Key { return TextKey(fmt.Sprint("user", i)) },
	}
	for typ, key := range generators {
		t.Run(typ.String(), func(t *testing.T) {
			const phases = 20
			c := &crowd{t: t, s: define(t, typ, time.Second, phases+2), key: key}
			for phase := range phases {
				c.run(at("10:00:00").Add(time.Duration(phase) * time.Second))
			}
			c.compare(at("10:00:00").Add(phases * time.Second))
		})
	}
}

// crowd is a number of sessions on one series.
type crowd struct {
	t    *testing.T
	s    *Series
	key  func(i int) Key
	want [crowdKeys]atomic.Int64 // what each key's count must be
}

const (
	crowdKeys     = 500
	crowdSessions = 8
	crowdEvents   = 100 // of a session and phase
)

// run lets all sessions work in the second that begins half a second from then,
// so that a window ends while they do.
func (c *crowd) run(then time.Time) {
	var wg sync.WaitGroup
	for session := range crowdSessions {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(session), uint64(then.Unix())))
			for range crowdEvents {
				c.event(r, session, then.Add(500*time.Millisecond+time.Duration(r.Int64N(1e9))))
			}
		})
	}
	wg.Wait()
}

func (c *crowd) event(r *rand.Rand, session int, now time.Time) {
	i, n := r.IntN(crowdKeys), r.Int64N(100)-10
	k := c.key(i)
	w := c.s.Add(k, n, now)
	if r.IntN(3) == 0 && c.s.AddTo(k, -n, w) {
		n = 0
	}
	c.want[i].Add(n)
	c.s.Count(k, Mask{uint8(r.IntN(33)), uint8(r.IntN(129))}, 0, 5, now)
	c.s.Counts(nil, c.key(r.IntN(crowdKeys)), Mask{}, now)
	// A key of this session alone comes and goes.
	own := c.key(crowdKeys + session)
	c.s.Add(own, 1, now)
	if !c.s.Remove(own) {
		c.t.Errorf("%v was not there", own)
	}
}

func (c *crowd) compare(now time.Time) {
	var all [2]int64 // by family
	for i := range c.want {
		n := c.want[i].Load()
		all[i%2] += n
		if got := c.s.Count(c.key(i), Host, 0, 99, now); got != n {
			c.t.Errorf("%v: %d; want %d", c.key(i), got, n)
		}
	}
	for i, n := range all {
		if got := c.s.Count(c.key(i), Mask{}, 0, 99, now); c.s.texts == nil && got != n {
			c.t.Errorf("all like %v: %d; want %d", c.key(i), got, n)
		}
	}
	if c.s.Len() != crowdKeys {
		c.t.Errorf("%d keys; want %d", c.s.Len(), crowdKeys)
	}
	checkStructure(c.t, c.s)
}

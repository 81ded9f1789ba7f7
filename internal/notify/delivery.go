package notify

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// The bounds of a delivery.
const (
	attemptTime = 30 * time.Second // of one attempt, until the other side has all
	firstPause  = time.Second      // after the first one that failed; each pause is twice the one before,
	lastPause   = 5 * time.Minute  // up to this
	giveUpAfter = time.Hour        // since the notice was queued
)

// Why an attempt was cut off.
var errStopping = errors.New("audit-milter is stopping")

func errSlow(limit time.Duration) error { return fmt.Errorf("it took more than %s", limit) }

// permanentError is a failure that another attempt would only repeat.
type permanentError struct{ error }

func (e permanentError) Unwrap() error { return e.error }

// run delivers what is queued, one after the other: when a target cannot be
// reached, those behind the first would not reach it either.
func (t *target) run(ctx context.Context) {
	for {
		select {
		case n := <-t.queue:
			t.deliver(ctx, n)
		case <-t.closing:
			t.deliverRest(ctx)
			return
		}
	}
}

func (t *target) deliverRest(ctx context.Context) {
	for {
		select {
		case n := <-t.queue:
			t.deliver(ctx, n)
		default:
			return
		}
	}
}

// deliver tries until it succeeds or gives up. While closing, one attempt is
// the last.
func (t *target) deliver(ctx context.Context, n *notice) {
	log := t.log.With("rule", n.Rule, "key", n.Key)
	pause := firstPause
	for {
		last := t.isClosing()
		err := t.via().send(ctx, n)
		if err == nil {
			t.sent.Add(1)
			log.Debug("notified")
			return
		}
		_, permanent := errors.AsType[permanentError](err)
		told := beginning(err.Error(), maxShown)
		if last || permanent || time.Since(n.queued) >= giveUpAfter {
			t.failed.Add(1)
			log.Error("a notification was not delivered", "error", told)
			return
		}
		if pause == firstPause {
			log.Warn("a notification cannot be delivered now; trying again", "for", giveUpAfter.String(), "error", told)
		}
		t.wait(pause - time.Duration(t.jitter()*float64(pause/2)))
		pause = min(2*pause, lastPause)
	}
}

// maxShown is how much of an error the log shows, in bytes: some quote all that
// the other side said.
const maxShown = 3 * maxSaid

// unanswered is the error of an attempt that got no answer: why it was cut off,
// or what happened before that.
func unanswered(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// wait is shorter when the delivery ends.
func (t *target) wait(pause time.Duration) {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-t.closing:
	}
}

func (t *target) isClosing() bool {
	select {
	case <-t.closing:
		return true
	default:
		return false
	}
}

package bench

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// load is how a server is used: messages, each on a connection of its own, so
// many at a time.
type load struct {
	dialogue    *dialogue
	connections int
	messages    int

	// Each of those at a time begins a message so often; 0 is as soon as the one
	// before has ended.
	every time.Duration
	// The turns of a message are spread over that time; otherwise they follow
	// each other at once.
	spread bool
}

// latencies are how long answers took.
type latencies []time.Duration

// percentile is the time within which p of 100 answers came.
func (l latencies) percentile(p int) time.Duration { return l[(len(l)-1)*p/100] }

// play puts the load on the server, and returns when all is answered, with the
// times in order.
func (l *load) play(s *server) (latencies, error) {
	var taken atomic.Int64
	var all sync.WaitGroup
	times, errs := make([]latencies, l.connections), make([]error, l.connections)
	for i := range l.connections {
		all.Go(func() {
			begin := time.Now().Add(l.every * time.Duration(i) / time.Duration(l.connections)) // not all at one time
			for n := taken.Add(1); n <= int64(l.messages) && errs[i] == nil; n = taken.Add(1) {
				client := l.dialogue.clients[int(n)%numClients]
				times[i], errs[i] = l.message(s, client, begin, times[i])
				begin = begin.Add(l.every)
			}
		})
	}
	all.Wait()
	sorted := slices.Concat(times...)
	slices.Sort(sorted)
	return sorted, errors.Join(errs...)
}

// message plays one dialogue and appends the times of its answers, that to the
// negotiation apart.
func (l *load) message(s *server, client []turn, begin time.Time, times latencies) (latencies, error) {
	time.Sleep(time.Until(begin))
	conn, err := net.Dial(s.network, s.address)
	if err != nil {
		return times, err
	}
	defer conn.Close()
	answer := make([]byte, 1024)
	for i, t := range client {
		if l.spread {
			time.Sleep(time.Until(begin.Add(l.every * time.Duration(i) / time.Duration(len(client)))))
		}
		took, err := t.play(conn, answer)
		if err != nil {
			return times, fmt.Errorf("turn %d: %w", i, err)
		}
		if t.want != nil && !t.negotiation {
			times = append(times, took)
		}
	}
	return times, nil
}

// play plays one turn and returns how long its answer took.
func (t *turn) play(conn net.Conn, answer []byte) (time.Duration, error) {
	asked := time.Now()
	if _, err := conn.Write(t.send); err != nil || t.want == nil {
		return 0, err
	}
	got, err := readFrame(conn, answer)
	if err == nil && !t.negotiation && !bytes.Equal(got, t.want) {
		err = fmt.Errorf("it is answered %q, not %q", got, t.want)
	}
	return time.Since(asked), err
}

// readFrame reads one frame into buf, mostly at once. No more can be there,
// since nothing more is asked before.
func readFrame(conn net.Conn, buf []byte) ([]byte, error) {
	n, err := io.ReadAtLeast(conn, buf, 5)
	if err != nil {
		return nil, err
	}
	size := 4 + int(binary.BigEndian.Uint32(buf))
	if n < size {
		_, err = io.ReadFull(conn, buf[n:size])
	}
	return buf[:size], err
}

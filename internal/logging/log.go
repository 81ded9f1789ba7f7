// Package logging brings log lines to where they are read, such as standard
// error, and promises that nobody who logs waits for that: not for a pipe that
// is full because its reader sleeps, not for a disk.
//
// A line is copied into a buffer of a fixed size; one goroutine writes what is
// there, many lines in one piece when they come fast. When the buffer is full,
// or when writing fails, lines are lost; as soon as writing goes on, a line in
// their place says how many, for how long and why:
//
//	level=WARN msg="log lines were lost" lines=4211 for=12.3s error="the log's buffer is full"
//
// What stands in the buffer when the process dies is lost, too: without a stall,
// what was logged within some microseconds. A goroutine whose panic would end the
// process defers FlushOnPanic.
//
// It decides nothing about what is logged; that is for those who log.
package logging

import (
	"fmt"
	"io"
	"log/slog"
	"time"
)

// Log is a logger whose lines wait for their writing in memory.
type Log struct {
	*slog.Logger
	level  *slog.LevelVar
	buffer *buffer
}

// Options say what is logged, and how.
type Options struct {
	Level  slog.Level // the least that is logged
	JSON   bool       // one JSON object a line, instead of key=value text
	Buffer int        // how many bytes of lines may wait; a line over the half of it is lost
}

// Open begins a log to out. Only the log writes to out, until Close.
func Open(out io.Writer, o Options) *Log {
	level := new(slog.LevelVar)
	level.Set(o.Level)
	b := newBuffer(out, o.Buffer)
	b.own = handler(&b.note, level, o.JSON)
	go b.run()
	return &Log{slog.New(handler(b, level, o.JSON)), level, b}
}

// SetLevel changes the least that is logged.
func (l *Log) SetLevel(level slog.Level) { l.level.Set(level) }

// Flush returns when what was logged before it is out, or after the given time.
func (l *Log) Flush(within time.Duration) { await(l.buffer.flush(false), within) }

// FlushOnPanic flushes the log if the goroutine that deferred it panics, and
// lets the panic go on.
func (l *Log) FlushOnPanic(within time.Duration) {
	if cause := recover(); cause != nil {
		l.Flush(within)
		panic(cause)
	}
}

// Close flushes the log and ends it; lines that come later are lost.
func (l *Log) Close(within time.Duration) { await(l.buffer.flush(true), within) }

// Lost is how many lines were lost since the log was opened, and how many bytes
// of them. Of a line that was cut off, the part that is missing counts.
func (l *Log) Lost() (lines, bytes uint64) {
	return l.buffer.lostLines.Load(), l.buffer.lostBytes.Load()
}

func await(flushed <-chan struct{}, within time.Duration) {
	late := time.NewTimer(within)
	defer late.Stop()
	select {
	case <-flushed:
	case <-late.C:
	}
}

func handler(out io.Writer, level slog.Leveler, json bool) slog.Handler {
	options := &slog.HandlerOptions{Level: level}
	if json {
		options.ReplaceAttr = asTold
		return slog.NewJSONHandler(out, options)
	}
	return slog.NewTextHandler(out, options)
}

// asTold lets JSON have what a value says of itself, as text has it: of its own
// accord it would show what the value is made of, such as the bits of a set.
func asTold(_ []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() != slog.KindAny {
		return a
	}
	if _, ok := a.Value.Any().(fmt.Stringer); ok {
		a.Value = slog.StringValue(a.Value.String()) // which also takes a nil pointer
	}
	return a
}

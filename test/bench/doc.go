// Package bench measures the running program beside yardsticks that do nothing,
// each server in a process of its own:
//
//	go test -run '^$' -bench . -benchtime 1x ./test/bench
//
// [docs/benchmarks.md] has the figures. What is played are dialogues that a
// real Postfix was recorded to hold with audit-milter (milter/testdata/wire):
// one connection for each message, as most of an MX's clients make, with
// addresses and senders that vary. Every answer is compared with the recorded
// one, so what is measured is what is meant.
//
// All servers of a group play the same load in turns, round by round and in
// random order, and a figure is the median of the rounds: other work on the
// machine then falls on all alike. Flags behind the package's name: -rounds,
// -messages, and -also to measure another build beside this one.
//
//	cpu-µs/msg     CPU time of the server's process, the kernel's part included
//	xloop          that, as a multiple of the yardstick's
//	msg/s          messages a second, over all connections
//	p50-µs p99-µs  how long an answer takes
//	waits/msg      answers that the mail server waits for
//
// The yardsticks: loop is test/yardstick, in Go; echo the same in C; libmilter a
// filter on Sendmail's library that does nothing. The two in C need gcc and
// libmilter-dev; where those are missing a line says that they are left out.
//
// [docs/benchmarks.md]: ../../docs/benchmarks.md
package bench

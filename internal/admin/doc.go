// Package admin lets a running daemon be asked, and mended by hand: JSON over
// HTTP, on a unix socket for the command line and on TCP for everything else.
// docs/api.md has every path with an example; [Client] is the other side.
//
// It promises that no question holds decisions up: what goes through a whole
// series takes a part at a time, and what answers it needs is sent while it goes.
//
// It is not for judging mail, and keeps no counts of its own: they are the
// engine's, and the engine is the one that is in force when the question comes.
//
// # Who may ask
//
// On the unix socket, whoever may connect: its mode and group are the permission.
// On TCP loopback is no permission, since on a hosting machine every script
// reaches it. Without a token only /metrics and /health are served there; with
// one everything needs it. What changes something must be JSON and without
// cookies, so that no browser can be made to send it.
//
// # Bounds
//
// Of each listener's connections 16 are served at one time; the others wait. A
// request's header must come within 5 seconds, all of it within 30 and have 2 MiB at
// most, and its answer must be taken within 30 seconds; a long one must be taken on
// within 30 seconds each time.
package admin

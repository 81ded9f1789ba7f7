package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/audit-milter/audit-milter/internal/admin"
	"github.com/audit-milter/audit-milter/internal/config"
)

// adminTime is how long a question in hand may still be answered at the end.
const adminTime = time.Second

// doors are the admin listeners of a daemon; either may be nil.
type doors struct{ socket, tcp net.Listener }

// openDoors opens the listeners of a configuration, or none.
func openDoors(conf config.Admin) (d doors, err error) {
	if conf.Socket.Network != "" {
		dir := filepath.Dir(conf.Socket.Address)
		if err := os.MkdirAll(dir, 0o750); err != nil && !errors.Is(err, fs.ErrExist) {
			return d, fmt.Errorf("making the directory of admin.listen: %w", err)
		}
		if d.socket, err = conf.Socket.Open(); err != nil {
			return d, fmt.Errorf("listening on %s (admin): %w", conf.Socket, err)
		}
	}
	if conf.HTTP == "" {
		return d, nil
	}
	if d.tcp, err = net.Listen("tcp", conf.HTTP); err != nil {
		d.close()
		return d, fmt.Errorf("listening on %s (admin.http): %w", conf.HTTP, err)
	}
	return d, nil
}

// close closes what is not closed yet.
func (d doors) close() {
	for _, l := range []net.Listener{d.socket, d.tcp} {
		if l != nil {
			l.Close()
		}
	}
}

// serve answers until end is called. A door that fails is no reason to stop
// judging mail.
func (d doors) serve(s *admin.Server, log *slog.Logger) (end func()) {
	var serving sync.WaitGroup
	open := func(l net.Listener, serve func(net.Listener) error) {
		if l == nil {
			return
		}
		log.Info("answering the console", "listen", l.Addr().Network()+":"+l.Addr().String())
		serving.Go(func() {
			if err := serve(l); err != nil {
				log.Error("the console is not answered any more", "listen", l.Addr(), "error", err)
			}
		})
	}
	open(d.socket, s.ServeSocket)
	open(d.tcp, s.ServeTCP)
	return func() {
		ctx, cancel := context.WithTimeout(context.Background(), adminTime)
		defer cancel()
		s.Shutdown(ctx)
		serving.Wait()
	}
}

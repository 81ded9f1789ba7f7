package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/audit-milter/audit-milter/milter"
)

// Admin is where a running daemon is asked and mended by hand.
type Admin struct {
	Socket milter.Listen // a unix socket for the command line; none where Network is ""
	HTTP   string        // host:port; "" for none
	Token  string        // what HTTP asks for; without one it serves only /metrics and /health
}

// The mode of the admin socket where none is given. Who may write to it may
// change every count.
const (
	ownerOnly    fs.FileMode = 0o600
	ownerOrGroup fs.FileMode = 0o660 // with a group
)

// decodeAdmin decodes where the daemon is asked; one of listen and http is needed.
//
//	key         default  what, and what follows
//	listen      none     a unix socket, as of the MTAs: unix:path or {socket, mode, group}. Its mode is 0600, with a
//	                     group 0660, and gives others nothing. Its directory is made if it is missing
//	http        none     host:port for /metrics, /health and, with token_file, for everything
//	token_file  none     a file that holds the token, 16 characters or more; other users must not be able to read it
func (d *decoder) decodeAdmin(n node) {
	a := &d.config.Admin
	n.mapping("a mapping such as {listen: unix:./state/admin.sock}",
		optional("listen", func(n node) { a.Socket = d.adminSocket(n) }),
		optional("http", set(&a.HTTP, hostPort("127.0.0.1:9980", 0))),
		optional("token_file", set(&a.Token, d.adminToken)),
	)
	switch {
	case n.lacks("listen", "http"):
		n.errorf("admin needs listen or http; write for example listen: unix:./state/admin.sock")
	case n.has("token_file") && n.lacks("http"):
		n.errorf("token_file belongs to http; the unix socket has mode and group")
	}
}

func (d *decoder) adminSocket(n node) milter.Listen {
	l, ok := d.socket(n)
	switch {
	case !ok:
	case l.Network != "unix":
		n.errorf("admin.listen needs a unix socket, such as unix:./state/admin.sock; TCP is for http")
	case l.Mode&0o007 != 0:
		n.errorf("mode %#o lets every user of this machine change counts; write 0600, or 0660 with a group", uint32(l.Mode))
	case l.Mode == 0 && l.Group == "":
		l.Mode = ownerOnly
	case l.Mode == 0:
		l.Mode = ownerOrGroup
	}
	return l
}

// minToken is how many characters a token has at least. They are not to be
// guessed: who has it may change every count.
const minToken = 16

// adminToken is a token in a file that is private.
func (d *decoder) adminToken(n node) string {
	token := d.token(n)
	if n.containsBad() {
		return ""
	}
	path := d.relative(n.line())
	if err := private(path); err != nil {
		n.errorf("cannot trust %s: %s", path, reason(err))
	}
	if len(token) < minToken {
		n.errorf("the token in %s has %d characters; it needs %d or more, such as openssl rand -hex 32 writes", path, len(token), minToken)
	}
	return token
}

// private makes it an error that every user of this machine may read or write a
// file.
func private(path string) error {
	info, err := os.Stat(path)
	if err == nil && info.Mode()&0o006 != 0 {
		return errors.New("every user of this machine may read or change it, so it is no secret; chmod o= " + path)
	}
	return err
}

// String tells where HTTP is served and what, as `check` shows it.
func (a Admin) String() string {
	serves := "only /metrics and /health"
	if a.Token != "" {
		serves = "everything, with the token"
	}
	return fmt.Sprintf("http://%s (%s)", a.HTTP, serves)
}

package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"

	"github.com/emersion/go-smtp"
	"github.com/rogpeppe/go-internal/testscript"
)

type receiverKey struct{}

// receiver is who a script's daemon notifies: a webhook and a mail server.
type receiver struct {
	letters chan []byte // what comes, as it was sent
}

// startReceiver is `receiver FILE`: it starts the webhook and the mail server, and
// puts their addresses in the place of WEBHOOK and SMTP in the file.
func startReceiver(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: receiver FILE")
	}
	r := ts.Value(receiverKey{}).(*receiver)
	hook := httptest.NewServer(r)
	ts.Defer(hook.Close)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	server := smtp.NewServer(r)
	go server.Serve(l)
	ts.Defer(func() { server.Close() })
	text := strings.NewReplacer("WEBHOOK", hook.URL, "SMTP", l.Addr().String()).Replace(ts.ReadFile(args[0]))
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(text), 0o600))
}

// received is `received FILE N`: it waits for N notifications and puts them into
// the file.
func received(ts *testscript.TestScript, neg bool, args []string) {
	var n int
	if neg || len(args) != 2 {
		ts.Fatalf("usage: received FILE N")
	}
	_, err := fmt.Sscan(args[1], &n)
	ts.Check(err)
	var all bytes.Buffer
	for range n {
		all.Write(<-ts.Value(receiverKey{}).(*receiver).letters)
		all.WriteString("\n")
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), bytes.ReplaceAll(all.Bytes(), []byte("\r\n"), []byte("\n")), 0o600))
}

func (r *receiver) take(from io.Reader) error {
	text, err := io.ReadAll(from)
	r.letters <- text
	return err
}

func (r *receiver) ServeHTTP(_ http.ResponseWriter, request *http.Request) { r.take(request.Body) }

func (r *receiver) NewSession(*smtp.Conn) (smtp.Session, error) { return r, nil }
func (r *receiver) Mail(string, *smtp.MailOptions) error        { return nil }
func (r *receiver) Rcpt(string, *smtp.RcptOptions) error        { return nil }
func (r *receiver) Data(text io.Reader) error                   { return r.take(text) }
func (r *receiver) Reset()                                      {}
func (r *receiver) Logout() error                               { return nil }

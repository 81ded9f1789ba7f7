package notify_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/textproto"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode"

	"github.com/emersion/go-message/mail"
	"github.com/emersion/go-smtp"
)

// Certificates of the tests' SMTP servers. This process trusts the one and not the
// other, as it is with those that a mail server makes for itself.
var trusted, untrusted = newCertificate(), newCertificate()

func TestMain(m *testing.M) {
	time.Local = time.UTC
	dir, err := os.MkdirTemp("", "notify")
	if err != nil {
		panic(err)
	}
	file := filepath.Join(dir, "cert.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: trusted.Certificate[0]})
	if err := os.WriteFile(file, text, 0o600); err != nil {
		panic(err)
	}
	os.Setenv("SSL_CERT_FILE", file)
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

func newCertificate() tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore:             time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC), // a bubble's clock begins in 2000
		NotAfter:              time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC),
		IsCA:                  true,
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		panic(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// postbox is an SMTP server. It keeps what it took, and answers each RCPT, and
// each message, with the next of its errors.
type postbox struct {
	addr           string
	mu             sync.Mutex
	atRcpt, atData []error
	letters        []letter
}

type letter struct {
	from, to  string
	options   string // of MAIL
	encrypted bool
	text      []byte
}

func newPostbox(t *testing.T, tlsConfig *tls.Config, atRcpt ...error) *postbox {
	t.Helper()
	b := &postbox{atRcpt: atRcpt}
	server := smtp.NewServer(b)
	server.Domain, server.TLSConfig, server.EnableSMTPUTF8 = "mx.example.com", tlsConfig, true
	server.ErrorLog = log.New(io.Discard, "", 0) // that a client hangs up is no error here
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b.addr = l.Addr().String()
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
	return b
}

// quota is a policy that fires for each recipient above 2, and writes to the box.
func (b *postbox) quota(more string) string {
	return quota(fmt.Sprintf("mail: postmaster@example.com, smtp: %q%s", b.addr, more))
}

func (b *postbox) NewSession(c *smtp.Conn) (smtp.Session, error) {
	_, encrypted := c.TLSConnectionState()
	return &smtpSession{postbox: b, letter: letter{encrypted: encrypted}}, nil
}

func (b *postbox) took() (letters []letter) {
	b.mu.Lock()
	defer b.mu.Unlock()
	letters, b.letters = b.letters, nil
	return letters
}

type smtpSession struct {
	*postbox
	letter letter
}

func (s *smtpSession) Mail(from string, o *smtp.MailOptions) error {
	s.letter.from, s.letter.options = from, fmt.Sprintf("%+v", *o)
	return nil
}

func (s *smtpSession) Rcpt(to string, _ *smtp.RcptOptions) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.letter.to = to
	return next(&s.atRcpt)
}

func next(answers *[]error) (answer error) {
	if len(*answers) > 0 {
		answer, *answers = (*answers)[0], (*answers)[1:]
	}
	return answer
}

func (s *smtpSession) Data(r io.Reader) error {
	text, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	s.letter.text = text
	s.mu.Lock()
	defer s.mu.Unlock()
	s.letters = append(s.letters, s.letter)
	return next(&s.atData)
}

func (s *smtpSession) Reset()        {}
func (s *smtpSession) Logout() error { return nil }

// read takes a letter apart.
func (l letter) read(t *testing.T) (header mail.Header, body string) {
	t.Helper()
	r, err := mail.CreateReader(bytes.NewReader(l.text))
	if err != nil {
		t.Fatal(err)
	}
	part, err := r.NextPart()
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(part.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r.Header, strings.ReplaceAll(string(text), "\r\n", "\n")
}

func TestAMailTellsAllNumbers(t *testing.T) {
	b := newPostbox(t, nil)
	inPlace(t, b.quota(""), func(p *place) {
		p.pass(5 * time.Minute)
		for range 5 {
			p.rcpt("it's alice")
		}
		p.settle()
		p.pass(time.Hour + time.Minute)
		for range 3 {
			p.rcpt("it's alice")
		}
		p.settle()
		letters := b.took()
		if len(letters) != 2 {
			p.Fatalf("there are %d letters", len(letters))
		}
		for i, want := range []string{`mx1.example.com: rule quota refuses it's alice.
3 in recipients for it's alice over 1 hour, above 2; try again in 55 minutes.

verdict:    tempfail at rcpt
reply:      451 4.7.1 quota: 3 in recipients for it's alice over 1 hour, above 2; try again in 55 minutes
key:        it's alice
series:     recipients
windows:    0-5
count:      3
threshold:  2
clears:     in 55 minutes, if nothing more comes
client:     198.51.100.7
sender:     alice@example.com
recipient:  bob@example.org
session:    s1
queue id:   4XyZ
time:       Sat, 01 Jan 2000 00:05:00 +0000

To look deeper, on mx1.example.com:

    audit-milter explain 'it'\''s alice'
`, `mx1.example.com: rule quota refuses it's alice.
3 in recipients for it's alice over 1 hour, above 2; try again in 54 minutes.
It fired 2 times more in the 61 minutes since the last notification.
`} {
			header, body := letters[i].read(t)
			if !strings.HasPrefix(body, want) {
				p.Errorf("got\n%s\nwant\n%s", body, want)
			}
			subject, _ := header.Subject()
			if want := "[audit-milter] mx1.example.com: rule quota refuses it's alice"; subject != want {
				p.Errorf("the subject is %q, want %q", subject, want)
			}
			for field, want := range map[string]string{
				"From":           `"audit-milter" <audit-milter@mx1.example.com>`,
				"To":             "<postmaster@example.com>",
				"Auto-Submitted": "auto-generated",
				"Content-Type":   "text/plain; charset=utf-8",
			} {
				if got := header.Get(field); got != want {
					p.Errorf("%s: %s, want %s", field, got, want)
				}
			}
			if date, err := header.Date(); err != nil || time.Since(date) > 2*time.Hour {
				p.Errorf("dated %v, %v", date, err)
			}
		}
	})
}

// A notification must bring no bounce, and must get through to a mail server that
// knows no extension.
func TestTheEnvelope(t *testing.T) {
	b := newPostbox(t, nil)
	inPlace(t, b.quota(", from: audit@example.com"), func(p *place) {
		for range 3 {
			p.rcpt("alice")
		}
		p.settle()
		l := b.took()[0]
		if got, want := fmt.Sprintf("%q %q %s", l.from, l.to, l.options), `"" "postmaster@example.com" {Body: Size:0 RequireTLS:false UTF8:false Return: EnvelopeID: Auth:<nil>}`; got != want {
			p.Errorf("the envelope is %s, want %s", got, want)
		}
		if header, _ := l.read(t); header.Get("From") != `"audit-milter" <audit@example.com>` {
			p.Errorf("From: %s", header.Get("From"))
		}
	})
}

func TestWhichSMTPAnswersAreTriedAgain(t *testing.T) {
	busy := &smtp.SMTPError{Code: 451, EnhancedCode: smtp.EnhancedCode{4, 3, 0}, Message: "busy"}
	nobody := &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "nobody"}
	for _, row := range []struct {
		what    string
		answers []error
		numbers string
		last    string
	}{
		{"4xx until it is taken", []error{busy, busy}, "sent 1, failed 0", "451 4.3.0 busy"},
		{"5xx never", []error{nobody}, "sent 0, failed 1", "550 5.1.1 nobody"},
		{"5xx behind 4xx not either", []error{busy, nobody}, "sent 0, failed 1", "550 5.1.1 nobody"},
	} {
		b := newPostbox(t, nil, row.answers...)
		inPlace(t, b.quota(""), func(p *place) {
			for range 3 {
				p.rcpt("alice")
			}
			p.pass(time.Minute)
			if got := p.numbers(); !strings.HasPrefix(got, row.numbers) {
				p.Errorf("%s: %s, want %s", row.what, got, row.numbers)
			}
			if log := p.log.take(); !strings.Contains(log, `error="the SMTP server answers `+row.last+`"`) {
				p.Errorf("%s: logged %s", row.what, log)
			}
		})
	}
}

// What a server says is read as far as it can be of use, and shown as far as it can
// be read.
func TestAnSMTPServerThatGoesOnAndOn(t *testing.T) {
	for _, row := range []struct{ what, greeting, more, last, shown string }{
		{"a line without an end", "220 ", "a", "", "the SMTP server says more than 256 KiB"},
		{"an answer without an end", "220-a\r\n", "220-a\r\n", "", "the SMTP server says more than 256 KiB"},
		{"a long refusal", "554 ", "a", "\r\n", "the SMTP server answers 554 " + strings.Repeat("a", 200) + `"`},
		{"a long line that is no answer", "HTTP/1.1 400 ", "a", "\r\n", "HTTP/1.1 400 aaa"},
	} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		size := 4 << 20
		if row.last != "" {
			size = 10_000
		}
		go func() {
			for conn, err := l.Accept(); err == nil; conn, err = l.Accept() {
				io.WriteString(conn, row.greeting+strings.Repeat(row.more, size/len(row.more))+row.last)
				conn.Close()
			}
		}()
		inPlace(t, atOnce(quota(fmt.Sprintf("mail: postmaster@example.com, smtp: %q", l.Addr()))), func(p *place) {
			p.rcpt("alice")
			p.settle()
			if log := p.log.take(); !strings.Contains(log, row.shown) || len(log) > 1000 {
				p.Errorf("%s: logged %d bytes, %.400s; want %q in it", row.what, len(log), log, row.shown)
			}
		})
	}
}

func TestStartTLS(t *testing.T) {
	for _, row := range []struct {
		what, starttls string
		server         *tls.Certificate
		want           string
	}{
		{"loopback is not encrypted", "", &untrusted, "sent, encrypted false"},
		{"offered, it is used", ", starttls: offered", &trusted, "sent, encrypted true"},
		{"not offered, it need not be", ", starttls: offered", nil, "sent, encrypted false"},
		{"never means never", ", starttls: never", &trusted, "sent, encrypted false"},
		{"required, it is used", ", starttls: required", &trusted, "sent, encrypted true"},
		{"required and not offered, nothing is sent", ", starttls: required", nil, "the SMTP server offers no STARTTLS, which starttls: required asks for"},
		{"offered by someone else, nothing is sent", ", starttls: offered", &untrusted, "; smtp must name the server as a certificate does that this system trusts, or write starttls: never"},
	} {
		var with *tls.Config
		if row.server != nil {
			with = &tls.Config{Certificates: []tls.Certificate{*row.server}}
		}
		b := newPostbox(t, with)
		inPlace(t, b.quota(row.starttls), func(p *place) {
			for range 3 {
				p.rcpt("alice")
			}
			p.settle()
			got := p.log.take()
			for _, l := range b.took() {
				got += fmt.Sprintf("sent, encrypted %v", l.encrypted)
			}
			if !strings.Contains(got, row.want) || strings.Count(got, "sent,") > 1 {
				p.Errorf("%s: %s; want %s", row.what, got, row.want)
			}
		})
	}
}

// oddity is an SMTP server that answers some commands in its own way; "" is to hang
// up, and behind an answer to STARTTLS it is encrypted.
type oddity map[string]string

func (o oddity) listen(t *testing.T) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for conn, err := l.Accept(); err == nil; conn, err = l.Accept() {
			go o.serve(conn)
		}
	}()
	return l.Addr().String()
}

func (o oddity) serve(conn net.Conn) {
	defer conn.Close()
	c := textproto.NewConn(conn)
	c.PrintfLine("220 mx.example.com")
	for line, err := c.ReadLine(); err == nil; line, err = c.ReadLine() {
		command, _, _ := strings.Cut(line, " ")
		answer, odd := o[command]
		switch {
		case odd && answer == "":
			return
		case odd:
			c.PrintfLine("%s", answer)
			if command == "STARTTLS" {
				c = textproto.NewConn(tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{trusted}}))
			}
		case command == "DATA":
			c.PrintfLine("354 go on")
			c.ReadDotBytes()
			c.PrintfLine("250 taken")
		default:
			c.PrintfLine("250 fine")
		}
	}
}

func TestAnSMTPServerWithAnOddHello(t *testing.T) {
	for _, row := range []struct {
		what    string
		server  oddity
		numbers string
		log     string
	}{
		{"keywords may be spelt in any case", oddity{"EHLO": "250-mx\r\n250 StartTLS", "STARTTLS": "454 later"}, "sent 0, failed 0", "454 later"},
		{"what is put in behind the go-ahead is not heard", oddity{"EHLO": "250-mx\r\n250 STARTTLS", "STARTTLS": "220 go on\r\n250 injected"}, "sent 1, failed 0", ""},
		{"one without EHLO", oddity{"EHLO": "502 what?"}, "sent 1, failed 0", ""},
		{"who is refused for good is told by EHLO", oddity{"EHLO": "521 5.7.1 not you", "HELO": ""}, "sent 0, failed 1", "521 5.7.1 not you"},
		{"so is who comes too often", oddity{"EHLO": "421 4.7.0 too often", "HELO": ""}, "sent 0, failed 0", "421 4.7.0 too often"},
		{"one without EHLO that is busy", oddity{"EHLO": "502 what?", "HELO": "450 busy"}, "sent 0, failed 0", "450 busy"},
	} {
		inPlace(t, atOnce(quota(fmt.Sprintf("mail: postmaster@example.com, smtp: %q, starttls: offered", row.server.listen(t)))), func(p *place) {
			p.rcpt("alice")
			p.settle()
			if got := p.numbers(); !strings.HasPrefix(got, row.numbers) {
				p.Errorf("%s: %s, want %s", row.what, got, row.numbers)
			}
			if log := p.log.take(); row.log == "" && log != "" || !strings.Contains(log, row.log) {
				p.Errorf("%s: logged %s, want %q in it", row.what, log, row.log)
			}
		})
	}
}

// What a mail server takes and seems not to have taken comes twice; by the
// message's id it can know that.
func TestAnAttemptKeepsItsMessageID(t *testing.T) {
	b := newPostbox(t, nil)
	b.atData = []error{&smtp.SMTPError{Code: 451, Message: "lost"}}
	inPlace(t, atOnce(b.quota("")), func(p *place) {
		p.rcpt("alice")
		p.pass(time.Second)
		p.rcpt("bob")
		p.settle()
		var ids []string
		for _, l := range b.took() {
			header, _ := l.read(t)
			id, err := header.MessageID()
			if err != nil || !strings.HasSuffix(id, "@mx1.example.com") {
				p.Errorf("the id is %q, %v", id, err)
			}
			ids = append(ids, id)
		}
		if len(ids) != 3 || ids[0] != ids[1] || ids[1] == ids[2] {
			p.Errorf("the ids are %v", ids)
		}
	})
}

// Whatever a client calls itself, nothing of it is obeyed.
func TestWhatAClientSendsEndsHarmless(t *testing.T) {
	for _, user := range []string{
		"x\r\nBcc: all@example.com\r\n\r\nhello", "\x1b[2Jx\u009b", "<!channel> @all `x`", "a\u202egpj", "\xff\xfe",
		"$(reboot) `reboot` ; reboot", "-x", "grüße", strings.Repeat("x", 10_000), strings.Repeat("ü", 10_000),
		"=?utf-8?q?=1b]0;x=0d=0abcc:_all?=", strings.Repeat("=?utf-8?b?yaaa?= ü", 100),
	} {
		h, b := newHook(t, 200), newPostbox(t, nil)
		inPlace(t, h.everyone(""), func(p *place) { p.rcpt(user); p.settle() })
		inPlace(t, atOnce(b.quota("")), func(p *place) { p.rcpt(user); p.settle() })

		text := h.told(t, "text")
		if strings.ContainsAny(text, "<>") || strings.Count(text, "`") != 4 {
			t.Errorf("%q: the text is %q", user, text)
		}
		letter := b.took()[0]
		for line := range bytes.Lines(letter.text) {
			if len(line) > 998 || bytes.IndexFunc(bytes.TrimRight(line, "\r\n"), func(r rune) bool { return r > '~' || r < ' ' }) >= 0 {
				t.Errorf("%q: a line of the mail is %q", user, line)
			}
		}
		header, body := letter.read(t)
		subject, err := header.Subject()
		if err != nil || header.Has("Bcc") {
			t.Errorf("%q: the subject is %q, %v; the header %v", user, subject, err, header)
		}
		if told, _, _ := strings.Cut(body, "\n"); "[audit-milter] "+told != subject+"." {
			t.Errorf("%q: the subject is %q, and the body begins with %q", user, subject, told)
		}
		for _, shown := range append(strings.Split(body, "\n"), subject, text) {
			if strings.IndexFunc(shown, func(r rune) bool { return !unicode.IsPrint(r) }) >= 0 || len(shown) > 1500 {
				t.Errorf("%q: shown as %q", user, shown)
			}
		}
	}
}

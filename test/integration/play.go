package integration

import (
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

var recording = flag.Bool("record", false, "record the dialogues for the milter room to replay")

// play is one dialogue on one mail server.
type play struct {
	*bed
	mta      *mta
	dialogue *dialogue
	clock    clock

	tap     *tap    // nil when nothing is recorded
	milter  *daemon // its policy is policy.yaml
	scanner *daemon // stands before it on port 26, behind it on port 27, with scanner.yaml; nil without that

	client  *client // the one who speaks
	named   map[string]*client
	clients []*client
}

// Where the programs listen.
const (
	inetSocket    = "inet:127.0.0.1:9900"
	scannerSocket = "inet:[::1]:9901"
	socketName    = "/audit.sock"
)

// newPlay starts the milters with the dialogue's policies.
func (b *bed) newPlay(m *mta, d *dialogue) (*play, error) {
	p := &play{bed: b, mta: m, dialogue: d, named: make(map[string]*client)}
	p.clock.path = m.path(clockFile)
	return p, errors.Join(p.clock.set(noon), m.forget(), p.startTap(), p.startMilters())
}

func (p *play) startTap() (err error) {
	if *recording {
		p.tap, err = openTap(p.mta.inet)
	}
	return err
}

func (p *play) startMilters() (err error) {
	inet := p.mta.inet
	if p.tap != nil {
		inet = tappedSocket
	}
	if p.milter, err = p.daemon("policy.yaml", []any{inet, p.mta.unixSocket()}); err != nil {
		return err
	}
	if _, ok := p.dialogue.files["scanner.yaml"]; ok {
		p.scanner, err = p.daemon("scanner.yaml", scannerSocket)
	}
	return err
}

func (p *play) daemon(config string, listen any) (*daemon, error) {
	d, err := newDaemon(p.mta, strings.TrimSuffix(config, ".yaml"), p.dialogue.files, config, listen)
	if err != nil {
		return nil, err
	}
	return d, d.start()
}

// connect makes a new client the one who speaks.
func (p *play) connect(from netip.Addr, service, name string) error {
	c, err := dial(p.mta, service, from)
	if err != nil {
		return err
	}
	p.client, p.named[name] = c, c
	p.clients = append(p.clients, c)
	return nil
}

// perform plays all steps and compares what was counted and logged.
func (p *play) perform() error {
	for _, s := range p.dialogue.steps {
		if !s.concerns(p.mta) {
			continue
		}
		if p.client == nil && !beforeClient(s.text) {
			return fmt.Errorf("%s: no client has connected yet", s.where)
		}
		if err := s.do(p); err != nil {
			return fmt.Errorf("%s: %s: %w%s", s.where, s.text, err, p.heard())
		}
	}
	if err := p.finish(); err != nil {
		return err
	}
	if err := p.compare(); err != nil || p.tap == nil {
		return err
	}
	return p.record()
}

// heard is what the client in hand was told last.
func (p *play) heard() string {
	if p.client == nil {
		return ""
	}
	last := p.client.replies[max(0, len(p.client.replies)-10):]
	return "\nit was told:\n\t" + strings.Join(last, "\n\t")
}

// beforeClient reports whether a statement needs no client.
func beforeClient(text string) bool {
	verb, _, _ := strings.Cut(text, " ")
	return verb == "client" || verb == "clock" || verb == "milter"
}

// finish ends everything, clients first: the milters must see their ends.
func (p *play) finish() error {
	p.dropClients()
	var errs []error
	for _, d := range p.daemons() {
		errs = append(errs, d.idle(), d.stop())
	}
	return errors.Join(errs...)
}

func (p *play) dropClients() {
	for _, c := range p.clients {
		c.drop()
	}
}

// daemons are those that were started, whether they run or not.
func (p *play) daemons() []*daemon {
	return slices.DeleteFunc([]*daemon{p.milter, p.scanner}, func(d *daemon) bool { return d == nil })
}

// compare holds what was counted and logged against the dialogue. No milter
// may have failed in anything.
func (p *play) compare() error {
	lines := p.milter.log.all()
	errs := []error{p.dialogue.checkSums(p.mta, lines), p.dialogue.checkLogs(p.mta, lines)}
	for _, d := range p.daemons() {
		for _, e := range d.log.all() {
			if e.fields == nil || e.field("level") == "ERROR" && e.field("msg") != notReloaded {
				errs = append(errs, fmt.Errorf("audit-milter logged: %s", e.text))
			}
		}
	}
	return errors.Join(errs...)
}

// abandon ends what may still run after a failure.
func (p *play) abandon() {
	p.dropClients()
	if p.tap != nil {
		p.tap.listener.Close()
	}
	for _, d := range p.daemons() {
		d.kill()
	}
}

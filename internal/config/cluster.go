package config

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/audit-milter/audit-milter/policy"
)

// Cluster is how several nodes count as one.
type Cluster struct {
	Name   string // keeps several clusters on one server apart
	Node   string // this node's name, which no other one has; what Parse returns may have none: Load takes that of the host
	Role   Role
	Valkey Valkey
}

// Role is what a node is in its cluster.
type Role uint8

// The roles.
const (
	RoleNode    Role = iota
	RoleManager      // it also has the series with `replicate: manager`
)

var roleNames = []string{"node", "manager"}

func (r Role) String() string { return roleNames[r] }

func parseRole(name string) (Role, bool) {
	i := slices.Index(roleNames, name)
	return Role(max(i, 0)), i >= 0
}

// Valkey is the server through which the nodes of a cluster hear of each other, Valkey
// or Redis.
type Valkey struct {
	Addresses []string    // host:port: of one server, of some of the nodes of Valkey Cluster, or of Sentinels
	Sentinel  string      // the name under which the Sentinels know the server; "": the addresses are servers
	Username  string      // "" for the default user
	Password  string      // "" for none
	TLS       *tls.Config // nil: the connection is not encrypted
}

// defaultCluster is the name of a cluster that is alone on its server.
const defaultCluster = "main"

// decodeCluster decodes how this node counts with others.
//
//	key     default        what, and what follows
//	name    main           keeps several clusters on one server apart: a name
//	node    the host name  this node's name, which no other one may have; the attribute node is it too
//	role    node           node, or manager: has the series with replicate: manager too
//	valkey  required       the server: decodeValkey
//
// A name has 1 to 64 letters, digits, dots, dashes and underscores; capital letters
// count as small ones.
func (d *decoder) decodeCluster(n node) {
	c := &Cluster{Name: defaultCluster}
	d.config.Cluster = c
	n.mapping("a mapping such as {node: mx1, valkey: {addresses: valkey.example.com:6379}}",
		optional("name", set(&c.Name, clusterName)),
		optional("node", set(&c.Node, clusterName)),
		optional("role", set(&c.Role, choice("role", roleNames, parseRole))),
		required("valkey", "valkey: {addresses: valkey.example.com:6379}", func(n node) { d.decodeValkey(n, &c.Valkey) }),
	)
}

func clusterName(n node) string {
	text := n.text("a name, such as mx1")
	name := strings.ToLower(text)
	if text != "" && !policy.IsNodeName(name) {
		n.errorf("%s needs 1 to 64 letters, digits, dots, dashes and underscores, such as mx1, not %q", n.name, text)
	}
	return name
}

// decodeValkey decodes where the server is.
//
//	key            default   what, and what follows
//	addresses      required  host:port, or a list: one server; some nodes of Valkey Cluster; or Sentinels
//	sentinel       none      the name under which the Sentinels know the server; the addresses are theirs
//	username       default   the user
//	password_file  none      a file whose text, without the end of its line, is the password; other users must not be
//	                         able to read it
//	tls            false     true: encrypted, and the certificate must be one that this system trusts; or {ca: file.pem}:
//	                         one that is signed by these
func (d *decoder) decodeValkey(n node, v *Valkey) {
	n.mapping("a mapping such as {addresses: valkey.example.com:6379}",
		required("addresses", "addresses: valkey.example.com:6379", func(n node) {
			for _, item := range n.items() {
				if address := server("valkey.example.com:6379")(item); slices.Contains(v.Addresses, address) {
					item.errorf("%s is named twice", address)
				} else {
					v.Addresses = append(v.Addresses, address)
				}
			}
		}),
		optional("sentinel", func(n node) { v.Sentinel = n.text("the name of a server, such as mymaster") }),
		optional("username", func(n node) { v.Username = n.text("the name of a user") }),
		optional("password_file", set(&v.Password, d.password)),
		optional("tls", set(&v.TLS, d.tls)),
	)
}

// password is the text of a private file.
func (d *decoder) password(n node) string {
	path, data, ok := d.contents(n)
	text := string(bytes.TrimRight(data, "\r\n"))
	switch {
	case !ok:
	case text == "" || strings.ContainsAny(text, "\r\n\x00"):
		n.errorf("%s does not hold a password, which is one line", path)
	default:
		if err := private(path); err != nil {
			n.errorf("cannot trust %s: %s", path, reason(err))
		}
	}
	return text
}

// tls is nil for an open connection.
func (d *decoder) tls(n node) *tls.Config {
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if n.Kind != yaml.MappingNode {
		if !n.boolean() {
			return nil
		}
		return conf
	}
	n.mapping("true, or a mapping such as {ca: valkey-ca.pem}",
		required("ca", "ca: valkey-ca.pem", func(n node) {
			path, data, ok := d.contents(n)
			conf.RootCAs = x509.NewCertPool()
			if ok && !conf.RootCAs.AppendCertsFromPEM(data) {
				n.errorf("%s holds no certificate; it needs one or more as PEM, which begin with -----BEGIN CERTIFICATE-----", path)
			}
		}),
	)
	return conf
}

// String tells all of it but the password, as `check` shows it.
func (c *Cluster) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: node %s, role %s, valkey %s", c.Name, c.Node, c.Role, strings.Join(c.Valkey.Addresses, " "))
	if c.Valkey.Sentinel != "" {
		fmt.Fprintf(&b, " (Sentinels of %s)", c.Valkey.Sentinel)
	}
	if c.Valkey.Username != "" {
		fmt.Fprintf(&b, ", user %s", c.Valkey.Username)
	}
	if c.Valkey.TLS != nil {
		b.WriteString(", TLS")
	}
	return b.String()
}

// name gives the node the host's name, unless it has one of its own, and returns it.
func (c *Cluster) name(host string) (node string, err error) {
	switch {
	case c.Node != "":
	case policy.IsNodeName(host):
		c.Node = host
	default:
		return host, fmt.Errorf("the name of this host, %q, cannot be a node's; write cluster: {node: mx1, …}", host)
	}
	return c.Node, nil
}

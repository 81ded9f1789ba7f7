package config

import "crypto/tls"

// Cluster is how several nodes count as one.
type Cluster struct {
	Name   string // keeps several clusters on one server apart
	Node   string // this node's name, which no other one has; "" in what Parse returns: Load sets the host name
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

// Valkey is the server through which the nodes of a cluster hear of each other, Valkey
// or Redis.
type Valkey struct {
	Addresses []string    // host:port: of one server, of some of the nodes of Valkey Cluster, or of Sentinels
	Sentinel  string      // the name under which the Sentinels know the server; "": the addresses are servers
	Username  string      // "" for the default user
	Password  string      // "" for none
	TLS       *tls.Config // nil: the connection is not encrypted
}

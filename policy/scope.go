package policy

// Scope says whose counts of a series that replicates are read.
type Scope uint8

// The scopes. WholeScope is where none is given: all that the series counts.
const (
	WholeScope   Scope = iota
	ClusterScope       // all nodes
	NodeScope          // this node alone
)

var scopeNames = [...]string{"", "cluster", "node"}

func (s Scope) String() string { return scopeNames[s] }

// ParseScope understands what a condition says.
func ParseScope(name string) (Scope, bool) {
	switch name {
	case "cluster":
		return ClusterScope, true
	case "node":
		return NodeScope, true
	}
	return 0, false
}

// ScopeNames are the spellings.
func ScopeNames() []string { return scopeNames[ClusterScope:] }

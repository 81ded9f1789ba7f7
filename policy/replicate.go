package policy

import "slices"

// Replicate says to which other nodes of the cluster a series' counts go.
type Replicate uint8

// The values.
const (
	None Replicate = iota
	Cluster
	Manager // only to those whose role it is
)

var replicateNames = [...]string{"none", "cluster", "manager"}

func (r Replicate) String() string { return replicateNames[r] }

// ParseReplicate understands what the configuration says.
func ParseReplicate(name string) (Replicate, bool) {
	i := slices.Index(replicateNames[:], name)
	return Replicate(max(i, 0)), i >= 0
}

// ReplicateNames are the spellings.
func ReplicateNames() []string { return replicateNames[:] }

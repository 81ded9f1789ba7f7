package admin

import (
	"fmt"
	"net/http"
)

// Reload is what /api/v1/reload takes: nothing.
type Reload struct{}

// Reloaded is the answer of /api/v1/reload.
type Reloaded struct {
	Done []string `json:"done"` // what the reload did, in sentences
}

func reload(q *question, _ Reload) (Reloaded, error) {
	if q.Reload == nil {
		return Reloaded{}, fail(http.StatusNotFound, "this daemon has no configuration to read again")
	}
	done, err := q.Reload()
	if err != nil {
		return Reloaded{}, failure{http.StatusUnprocessableEntity, fmt.Errorf("not reloaded, the old configuration stays:\n%w", err)}
	}
	return Reloaded{done}, nil
}

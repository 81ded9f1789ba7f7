package policy

// A `when` whose attributes all stay as they are for a while is asked once in
// that while: in a session, in its greeting, or in its message.

// scope is how long an attribute keeps its value. Each one lies within those
// before it.
type scope uint8

const (
	perSession scope = iota
	perGreeting
	perMessage
	perEvent // the next event may have another one
)

// scope tells an attribute that comes with one command, and stays until the
// next command of its kind, from those that grow, come late or change.
func (a Attribute) scope() scope {
	if a == QueueID {
		return perEvent // Postfix has it from some recipient on
	}
	switch a.KnownAt() {
	case fromConnect:
		return perSession
	case fromHelo:
		return perGreeting
	case inMessage:
		return perMessage
	}
	return perEvent
}

// begins is the scope that begins anew when the stage is judged.
func (s Stage) begins() scope {
	switch s {
	case Connect:
		return perSession
	case Helo:
		return perGreeting
	case Mail:
		return perMessage
	}
	return perEvent
}

// answers are what was said by each `when` that reads nothing narrower than
// the scope. One that failed has said nothing and is asked again.
type answers [perEvent]map[*When]bool

// keep notes an answer for as long as it holds.
func (a *answers) keep(w *When, holds bool) {
	if a[w.scope] == nil {
		a[w.scope] = make(map[*When]bool)
	}
	a[w.scope][w] = holds
}

// forget ends a scope, and with it those within.
func (a *answers) forget(from scope) {
	for s := from; s < perEvent; s++ {
		clear(a[s])
	}
}

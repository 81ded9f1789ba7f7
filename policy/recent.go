package policy

import (
	"strings"
	"sync/atomic"
	"time"
)

// MaxRecent is how many decisions a [Recent] holds. They take 6 MB as they
// mostly are, and 25 MB when their texts are as long as may be (BenchmarkRecent).
const MaxRecent = 10_000

// Recent holds the last decisions: each verdict that a rule gave, also accept,
// shadow, and those that the log leaves out. The zero Recent is empty. Who adds
// waits for nobody, and neither does who reads.
type Recent struct {
	last  atomic.Uint64 // the number of the newest one; they begin at 1
	slots [MaxRecent]atomic.Pointer[recorded]
}

// Decision is a verdict of a rule as it was taken, and what was known of the
// dialogue then. Texts are cut as those of the log are.
type Decision struct {
	Time    time.Time
	Verdict // without its headers

	Session       string
	QueueID       string // of the message, also where it became known later; "" before mail
	ClientAddress string
	HeloName      string
	SASLUsername  string
	Sender        string
	Recipient     string
}

// recorded is a decision in its slot, not changed any more.
type recorded struct {
	number uint64
	lateID *lateID // nil where there is no message
	Decision
}

// lateID is the queue id that the decisions of one message share: Postfix has
// none before the first recipient.
type lateID = atomic.Pointer[string]

// add keeps a decision in the place of the oldest one.
func (r *Recent) add(ev *Event, v *Verdict, now time.Time) {
	d := &recorded{Decision: Decision{
		Time: now, Verdict: *v,
		Session: ev.Session, ClientAddress: ev.ClientAddress,
		HeloName: boundedKey(ev.HeloName), SASLUsername: boundedKey(ev.SASLUsername),
		Sender: boundedKey(ev.Sender), Recipient: boundedKey(ev.Recipient),
	}}
	d.Headers = nil // of any number
	d.pack()
	if messageStage.Has(v.Stage) {
		d.lateID = ev.lateID()
	}
	d.number = r.last.Add(1)
	r.slots[d.number%MaxRecent].Store(d)
}

// texts are those that are not the policy's own.
func (d *Decision) texts() [11]*string {
	return [...]*string{
		&d.Session, &d.QueueID, &d.ClientAddress, &d.HeloName, &d.SASLUsername, &d.Sender, &d.Recipient,
		&d.Key, &d.Network, &d.Reply.Text, &d.Reason,
	}
}

// pack copies the texts into one piece: they may be parts of longer ones, which
// would stay with them.
func (d *Decision) pack() {
	size := 0
	for _, text := range d.texts() {
		size += len(*text)
	}
	var b strings.Builder
	b.Grow(size)
	for _, text := range d.texts() {
		from := b.Len()
		b.WriteString(*text)
		*text = b.String()[from:]
	}
}

// lateID is where the decisions about the message in hand find its queue id.
func (ev *Event) lateID() *lateID {
	m := &ev.state.message
	if m.lateID == nil {
		m.lateID = new(lateID)
		m.noteQueueID(ev.QueueID)
	}
	return m.lateID
}

// noteQueueID tells the decisions that were taken before.
func (m *messageState) noteQueueID(id string) {
	if m.lateID != nil && m.lateID.Load() == nil && id != "" {
		known := boundedKey(id)
		m.lateID.Store(&known)
	}
}

// Query says which decisions are asked for. What is empty does not matter.
type Query struct {
	Session string
	QueueID string
	Key     string // the key or the network that was counted, or the client's address
	Limit   int    // how many at most; 0 for all
}

// Find returns decisions, the newest one first. Its texts hold nothing that a
// terminal obeys.
func (r *Recent) Find(q Query) (found []Decision) {
	q.QueueID, q.Key = boundedKey(q.QueueID), boundedKey(q.Key)
	newest := r.last.Load()
	for n := newest; n > 0 && newest-n < MaxRecent; n-- {
		d := r.slots[n%MaxRecent].Load()
		if d == nil || d.number != n { // not yet there, or gone meanwhile
			continue
		}
		if one := d.read(); q.matches(&one) {
			found = append(found, one.legible())
		}
		if q.Limit > 0 && len(found) == q.Limit {
			break
		}
	}
	return found
}

// Since is the time of the oldest decision that is kept; false when there is none.
func (r *Recent) Since() (time.Time, bool) {
	newest := r.last.Load()
	for n := newest - min(newest, MaxRecent) + 1; n <= newest; n++ {
		if d := r.slots[n%MaxRecent].Load(); d != nil {
			return d.Time, true
		}
	}
	return time.Time{}, false
}

// read is the decision with the queue id as far as it is known by now.
func (d *recorded) read() Decision {
	one := d.Decision
	if d.lateID != nil {
		if id := d.lateID.Load(); id != nil {
			one.QueueID = *id
		}
	}
	return one
}

func (q *Query) matches(d *Decision) bool {
	return (q.Session == "" || q.Session == d.Session) &&
		(q.QueueID == "" || q.QueueID == d.QueueID) &&
		(q.Key == "" || q.Key == d.Key || q.Key == d.Network || q.Key == d.ClientAddress)
}

// legible makes the texts safe to show.
func (d Decision) legible() Decision {
	for _, text := range d.texts() {
		*text = Printable(*text)
	}
	return d
}

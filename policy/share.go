package policy

import (
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/audit-milter/audit-milter/series"
)

// parts are what the total of a series that replicates consists of, beside its own.
type parts struct {
	sharing sync.Mutex                         // held by who changes a part and the total, which may take seconds; locked before mu
	wished  []series.Delta                     // the last removals by hand; under sharing
	mu      sync.Mutex                         // held for a moment by who changes the ledger: a tick waits for it
	wishes  []series.Delta                     // of removals by hand since the last tick; under mu
	others  atomic.Pointer[map[string]Counter] // by node; the map is never changed
	own     Counter                            // what this node has counted, the event in hand included
}

// shares are those of the other nodes.
func (l *Lasting) shares() map[string]Counter {
	if shares := l.parts.others.Load(); shares != nil {
		return *shares
	}
	return nil
}

// ShareNodes are the other nodes that have counted something, sorted.
func (l *Lasting) ShareNodes() []string {
	return slices.Sorted(maps.Keys(l.shares()))
}

// Share is what a node has counted; that of "" is this node itself, up to the event in
// hand. Nil for none. It is to be read only.
func (l *Lasting) Share(node string) Counter {
	if node != "" {
		return l.shares()[node]
	}
	if l.parts.own == nil {
		return l.Counter
	}
	return l.parts.own
}

// replicate lets a series of which nobody knows yet replicate: what it counts is this
// node's own.
func (l *Lasting) replicate() {
	if l.distinct != nil {
		own := l.distinct.Beside()
		own.PutIn(l.distinct)
		l.Own, l.parts.own = own, own
		return
	}
	own := l.series.Beside()
	own.PutIn(l.series)
	l.Own, l.parts.own = own, &ownCount{l.series, l}
}

// ledger is where all stands that this node has counted.
func (l *Lasting) ledger() Counter {
	if l.Own == nil {
		return l.Counter
	}
	l.parts.mu.Lock()
	defer l.parts.mu.Unlock()
	l.enter()
	return l.Own
}

// enter puts into the ledger what was added to the total since the last time.
// Different values are in both from the beginning: the total does not know who has
// shown one that several nodes have.
func (l *Lasting) enter() {
	if own, ok := l.Own.(*series.Series); ok {
		l.series.Deltas(func(d series.Delta) { own.Apply(d) })
	}
}

// Show notes that a key has shown a value here. The ledger has it first: what it has
// finds its way into the total whenever that is put together anew.
func (l *Lasting) Show(k series.Key, value string, now time.Time) {
	if own, ok := l.Own.(*series.Distinct); ok {
		own.Add(k, value, now)
	}
	l.distinct.Add(k, value, now)
}

// Follow lets Deltas tell what this node counts from now on.
func (l *Lasting) Follow() {
	if l.Own == nil || l.series != nil {
		l.Counter.Follow()
	}
	if l.Own != nil {
		l.Own.Follow()
	}
}

// Unfollow ends that, and forgets what was not told.
func (l *Lasting) Unfollow() {
	l.Counter.Unfollow()
	if l.Own != nil {
		l.Own.Unfollow()
	}
}

// Deltas tells what this node has counted since it was called last, as
// [series.Series.Deltas] does; before that what others are to take back, if the series
// replicates. One asker only, who calls Snapshot too.
func (l *Lasting) Deltas(yield func(series.Delta)) {
	if l.Own == nil {
		l.Counter.Deltas(yield)
		return
	}
	p := &l.parts
	p.mu.Lock()
	wishes := p.wishes
	p.wishes = nil
	l.enter()
	p.mu.Unlock()
	for _, d := range wishes {
		yield(d)
	}
	l.Own.Deltas(yield)
}

// Snapshot tells all that this node counts.
func (l *Lasting) Snapshot() series.Snapshot {
	if l.Own == nil {
		return l.Counter.Snapshot()
	}
	return l.Own.Snapshot()
}

// maxWished is how many removals by hand a series remembers. They need to be there only
// while what a node has told before its start is put in.
const maxWished = 1000

// MergeShare puts in what another node has told, which this one does not tell again;
// of the node "" what this one has told before it was started anew, but for what was
// removed since then. A
// [series.Wish] of another node takes this one's own counts of the key or block back,
// which it tells. It does nothing to a series that does not replicate.
func (l *Lasting) MergeShare(node string, d series.Delta, now time.Time) {
	p := &l.parts
	p.sharing.Lock()
	defer p.sharing.Unlock()
	switch {
	case l.Own == nil, d.IsWish() && (node == "" || d.Bits > hostBits(d.Key)):
	case node == "" && p.hasRemoved(&d):
	case d.IsWish():
		l.takeBack(d.Key, d.Bits)
	case d.Removed && l.distinct != nil:
		l.share(node).Merge(d, now)
		l.distinct.Rebuild(d.Key, l.shown())
	case l.settles(&d, now):
		l.share(node).Merge(d, now) // first, so that this node's part never seems larger than it is
		l.Counter.Merge(d, now)
	}
}

// settles is the counter's Settle.
func (l *Lasting) settles(d *series.Delta, now time.Time) bool {
	if l.distinct != nil {
		return l.distinct.Settle(d, now)
	}
	return l.series.Settle(d, now)
}

// share is what a node has counted, which may be new.
func (l *Lasting) share(node string) Counter {
	if node == "" {
		return l.Own
	}
	share := l.shares()[node]
	if share == nil {
		share = l.beside()
		l.putShare(node, share)
	}
	return share
}

// beside is an empty share.
func (l *Lasting) beside() Counter {
	if l.distinct != nil {
		return l.distinct.Beside()
	}
	return l.series.Beside()
}

// putShare sets the share of a node, nil for none: in a copy, since readers do not wait.
func (l *Lasting) putShare(node string, share Counter) {
	shares := maps.Clone(l.shares())
	if shares == nil {
		shares = make(map[string]Counter)
	}
	shares[node] = share
	if share == nil {
		delete(shares, node)
	}
	l.parts.others.Store(&shares)
}

// shown are all parts of a series of different values.
func (l *Lasting) shown() []*series.Distinct {
	parts := []*series.Distinct{l.Own.(*series.Distinct)}
	for _, share := range l.shares() {
		parts = append(parts, share.(*series.Distinct))
	}
	return parts
}

// DropShare takes all that another node has counted out of the total.
func (l *Lasting) DropShare(node string, now time.Time) {
	p := &l.parts
	p.sharing.Lock()
	defer p.sharing.Unlock()
	l.Counter.Begin(now) // what has left by now needs no taking out
	switch share := l.shares()[node].(type) {
	case *series.Distinct:
		l.putShare(node, nil)
		l.distinct.TakeOut(share, l.shown())
	case *series.Series:
		l.series.TakeOut(share)
		l.putShare(node, nil)
	}
}

// Renewal is what another node counts, told anew while what it had told before still
// counts.
type Renewal struct {
	of    *Lasting
	node  string
	share Counter
}

// Renew begins to put a new share of another node together, for a series that replicates.
func (l *Lasting) Renew(node string) *Renewal { return &Renewal{l, node, l.beside()} }

// Merge is [Lasting.MergeShare], without wishes, which are no counts.
func (r *Renewal) Merge(d series.Delta, now time.Time) {
	if d.Removed && r.of.distinct != nil || !d.IsWish() && r.of.settles(&d, now) {
		r.share.Merge(d, now)
	}
}

// Done puts the new share in the place of the one before. Whatever is in both counts on
// meanwhile.
func (r *Renewal) Done(now time.Time) {
	l, p := r.of, &r.of.parts
	p.sharing.Lock()
	defer p.sharing.Unlock()
	l.Counter.Begin(now) // what has left by now needs no taking out
	put := func() { l.putShare(r.node, r.share) }
	switch before := l.share(r.node).(type) {
	case *series.Distinct:
		put()
		l.distinct.Replace(before, r.share.(*series.Distinct), l.shown())
	case *series.Series:
		l.series.Replace(before, r.share.(*series.Series), put) // so that this node's part never seems larger than it is
	}
}

// SetShare replaces what another node has in a gauge by what it has now.
func (l *Lasting) SetShare(node string, counts map[series.Key]int64, now time.Time) {
	p := &l.parts
	p.sharing.Lock()
	defer p.sharing.Unlock()
	share := l.share(node)
	changes := maps.Clone(counts)
	if changes == nil {
		changes = make(map[series.Key]int64)
	}
	for k, had := range share.All(now) {
		changes[k] -= had[0]
	}
	for k, n := range changes {
		d := series.Delta{Key: k, Bits: hostBits(k), Amount: n}
		share.Merge(d, now)
		l.Counter.Merge(d, now)
	}
	if len(counts) == 0 {
		l.putShare(node, nil)
	}
}

// Remove forgets a key and reports whether there was anything to forget. Of a series
// that replicates it takes back what this node has counted, and tells the others to do
// the same: until they have, their shares count on.
func (l *Lasting) Remove(k series.Key, now time.Time) bool {
	if l.Own == nil {
		return l.Counter.Remove(k)
	}
	counts, _ := l.Counter.Counts(nil, k, series.Host, now)
	l.wish(k, hostBits(k))
	return anyCounts(counts)
}

// RemoveBlock is Remove of all addresses of a block; it returns how many there were. Of
// different values no block can be removed.
func (l *Lasting) RemoveBlock(block netip.Prefix, now time.Time) (keys int) {
	if l.series == nil {
		return 0
	}
	if l.Own == nil {
		return l.series.RemoveBlock(block)
	}
	for range l.series.Within(block, now) {
		keys++
	}
	l.wish(series.AddrKey(block.Masked().Addr()), uint8(block.Bits()))
	return keys
}

// hostBits is the Bits of a key's deltas.
func hostBits(k series.Key) uint8 { return uint8(k.Addr().BitLen()) }

// wish takes back what this node has counted, and lets the others hear of it.
func (l *Lasting) wish(k series.Key, bits uint8) {
	p := &l.parts
	p.sharing.Lock()
	defer p.sharing.Unlock()
	wish := series.Wish(k, bits)
	l.takeBack(k, bits)
	p.mu.Lock()
	p.wishes = append(p.wishes, wish)
	p.mu.Unlock()
	if p.wished = append(p.wished, wish); len(p.wished) > maxWished {
		p.wished = p.wished[1:]
	}
}

// hasRemoved reports whether a removal by hand was about what the delta is about.
func (p *parts) hasRemoved(d *series.Delta) bool {
	return slices.ContainsFunc(p.wished, func(w series.Delta) bool {
		inBlock := w.Bits <= d.Bits && netip.PrefixFrom(w.Key.Addr(), int(w.Bits)).Contains(d.Key.Addr())
		return inBlock || w.Key == d.Key && w.Bits == d.Bits
	})
}

// takeBack takes out what this node has counted for a key or a block.
func (l *Lasting) takeBack(k series.Key, bits uint8) {
	l.parts.mu.Lock()
	defer l.parts.mu.Unlock()
	switch own := l.Own.(type) {
	case *series.Distinct:
		own.Remove(k)
		l.distinct.Rebuild(k, l.shown())
	case *series.Series:
		l.enter()
		if bits < hostBits(k) {
			l.series.TakeBackBlock(own, netip.PrefixFrom(k.Addr(), int(bits)))
		} else {
			l.series.TakeBack(own, k)
		}
	}
}

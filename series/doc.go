// Package series counts keys in rolling windows: audit series. Any number of
// sessions add to a [Series] and count in it at the same time, in memory.
//
// It is not for judging what a count means, and knows nothing of SMTP, YAML,
// disks or networks. It never reads a clock: the time comes with every call.
//
// # Windows
//
// A window is one interval long and begins at a multiple of the interval since
// 1970-01-01 00:00 UTC. Window 0 is the one that the present lies in, 1 the one
// before it, up to the number of windows less one. The very moment at which a
// window ends belongs to the next one: with an interval of 5 minutes, what is
// added at 10:04:59.999 and at 10:05:00 is in two windows. At 10:05:00 every
// window has moved up by one number and the oldest has gone. A series therefore
// covers between windows-1 and windows intervals of the past, by how much of
// window 0 has passed (which [Series.Counts] tells).
//
// # Steps of the clock
//
// A step forward is time that passed: windows expire. A step back by less than
// one interval holds the newest window until the clock has caught up. A larger
// one keeps all windows in their order, and makes the newest the one that the
// clock now shows: nothing is lost and nothing stands still. (That one window
// is longer or shorter than the others.) Since the same time can come twice,
// windows have numbers of their own ([Window]), which never go back. Nothing here can tell a step back from
// a reading of the clock that comes an interval late; so read it for every call.
//
// # Addresses
//
// One counter answers for an address, and with it for every block that the
// address is in: the mask is chosen when the count is asked for, and any mask
// costs one descent of a tree (one in each part of the series for blocks larger
// than an IPv4 /8 or an IPv6 /24), however many addresses the block holds.
// IPv4-mapped IPv6 addresses are IPv4 addresses.
//
// # Different values
//
// A [Distinct] counts how many different values a key showed. Its windows, keys and
// clock are the same; what it counts over several windows or in a block is a union,
// which cannot be told from sums, so it keeps the blocks that it is defined with. It
// also tells what is new in it, for others to merge.
//
// # Walks
//
// [Series.All], [Series.Within] and [Series.Blocks] go through what counts while
// others add, and [Series.RemoveBlock] clears a network of any size; none of them
// makes anybody wait for more than a moment.
//
// # What is new
//
// Who keeps the counts elsewhere follows a series ([Series.Follow]) and is told
// what was added and removed since he asked last ([Series.Deltas]), in amounts that may
// be added up in any order. A [Snapshot] tells all there is, a few keys at a time,
// in between. Another series of the same definition merges both ([Series.Merge]).
//
// # Parts
//
// What several nodes count is a total and, for each node, a part of it. They share a
// clock ([Series.Beside]), so each window is the same one in all of them, and what a
// part has can be taken out of the total ([Series.TakeOut]) to the last count. A key that
// had to leave the total counts on in its networks, and takes less than nothing out when
// its part does; put in again, it is right again.
//
// # Limits
//
// Counts are 64 bits wide, stop at ±(2⁶³-1), and may be negative. A count or the
// sum of a block that was cut at the limit ([Stats].Saturated) is not exact
// until the window has gone.
//
// # Memory
//
// A key takes 8 bytes for each window and some room for the next ones, and
// besides them about 15 bytes for an IPv4 address, its share in the blocks above
// included, 40 for an IPv6 address or a text, and the text itself, in steps of 32
// bytes: BenchmarkMemory has the figures. Keys chosen to share as little as
// possible take up to three and a half times that (IPv4) or nine times (IPv6),
// since each has a node and a leaf nearly to itself.
//
// MaxKeys bounds how many keys there are. A key leaves when all its windows have
// expired: each add looks at a few others while there may be some, so no call
// ever waits for a clean-up. When there would still be too many, those worth
// least are evicted, as evict.go says, and [Series.Evictions] tells what became
// of their counts. Memory is used again for other keys and not given back. It is
// taken in pieces, of which each part of the series that has its own lock (4 per
// processor and kind of key, 64 at the most, fewer for a small MaxKeys) needs about
// 50 kB.
package series

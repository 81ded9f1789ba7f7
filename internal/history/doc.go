// Package history keeps what series counted, window by window, in Parquet files that
// other programs can read, and answers questions about it.
//
// Every series has a directory of its own. A file holds rows of one series and one
// node: how much a key counted in a window. Rows are additive: what a window counted
// is the sum of all rows there are of it, in whatever files. A file appears whole or
// not at all, and is never changed.
//
// Several files become one by a file that names those it replaces. While any of them
// is still there, readers ignore it, so that nothing is counted twice and nothing is
// ever missing.
package history

package forward

import "io"

// Stream is one connection to a peer, as its user sees it. The contract, held by [TestStreamContract] for every implementation:
//
//   - Read returns io.EOF only after an orderly end of the peer's direction; a torn connection is another error.
//   - CloseWrite ends our direction in order; Read goes on. A second call is harmless.
//   - Abort ends both directions at once, without blocking, and lets the peer know that it was no orderly end. It unblocks
//     Read and Write. It may be called at any time, from any goroutine, more than once.
//   - Close releases everything. After both directions ended in order it loses nothing. Before that it may be an orderly end or
//     an abort; [Splice] does not call it then.
//
// If a Stream implements io.ReaderFrom or io.WriterTo, [Splice] calls these with the local connection itself, so that the
// implementation can choose its buffers or let the kernel copy.
type Stream interface {
	io.Reader
	io.Writer
	CloseWrite() error
	Abort()
	Close() error
}

// Watched is the optional part of a Stream that can die while nobody reads or writes it, as when its peer is revoked: Done is
// closed by an abort from either side and by Close, and not by orderly ends alone.
type Watched interface {
	Done() <-chan struct{}
}

// Package load is the two ends of a measurement: a server, and the clients that send to it, ask it and connect to it.
//
// The first byte of a connection says what it is for:
//
//	'S'  sink: read blocks, each u32 length || bytes, to one of length 0; then answer the number of bytes after the kind, u64, and close
//	'P'  ping-pong: answer each byte with itself; both ends sleep in the kernel, not in a scheduler of their own
//	'E'  echo: answer the next byte with itself, then wait for the end
//	'W'  slow: read [slowChunk] bytes every [slowEvery] to the end
//
// Numbers are big-endian. The end of a transfer is said in the stream, because not every forwarder passes on that only one direction has
// ended. A bulk client counts what it sent and takes the time when the server's count has come back: a byte counts when it has arrived,
// and a count that differs is an error. The CPU time of a measurement is the whole machine's, from /proc/stat, from before the
// first byte to the server's answer: client, daemons, server and the kernel's work for them. Time at a nice level is not counted; the
// program that keeps the cores awake for latencies runs there.
package load

import "time"

// Kinds of connections.
const (
	kindSink = 'S'
	kindPing = 'P'
	kindEcho = 'E'
	kindSlow = 'W'
)

const (
	// bufferSize is what the ends hand to the kernel at once: as much as the forwarders take.
	bufferSize = 256 << 10
	// slowChunk and slowEvery are the pace of a slow receiver: 40 kB/s.
	slowChunk = 4 << 10
	slowEvery = 100 * time.Millisecond
	// stuck is how long one step may take before a measurement fails instead of hanging.
	stuck = 30 * time.Second
)

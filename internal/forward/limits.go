package forward

import "time"

const (
	// copyBuffer is one buffer of the plain copy, used where neither side brings its own: four stream records, small enough
	// for a thousand idle connections.
	copyBuffer = 64 << 10

	// DialTimeout bounds connecting to a target. Targets are on this machine or its network; a caller waits meanwhile.
	DialTimeout = 5 * time.Second

	// MaxActive bounds the connections one entrance serves at a time: twice as many descriptors, and far below the 4,096
	// streams a peer accepts from us.
	MaxActive = 1024

	// acceptPause is the wait after a failed accept, which means that descriptors or memory have run out.
	acceptPause = 50 * time.Millisecond

	// diagTimeout bounds the kernel's answer to one socket look-up; it answers in microseconds or never.
	diagTimeout = time.Second

	// diagReply is the space for one answer: 72 bytes of socket and the attributes a kernel may add.
	diagReply = 4 << 10

	// maxProcLines bounds how much of /proc/net/tcp is read: more sockets than one machine has ports for one address pair.
	maxProcLines = 1 << 20

	// maxProcLine bounds one line of it; the kernel pads to 150 (IPv4) and prints up to 200 characters (IPv6).
	maxProcLine = 512

	// maxTarget bounds the text of a target: a unix path has at most 108 bytes, a DNS name 253.
	maxTarget = 300

	// maxUnixPath is sun_path of the smallest system we build for (darwin, freebsd: 104 with the final zero).
	maxUnixPath = 103
)

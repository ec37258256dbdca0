package netns

import "time"

const (
	// dadWait is how long duplicate address detection may take: 1 s by RFC 4862, 1.5 s measured after link-up, and a loaded CI.
	dadWait = 10 * time.Second
	// commandTime bounds one command that configures the network: none of them waits for anything.
	commandTime = 30 * time.Second
	// maxPacket is the longest packet of a capture: segments that the kernel has not cut yet have up to 64 KiB and more.
	maxPacket = 256 << 10
	// maxCapture bounds a capture's memory: some minutes of idle traffic, or the beginning of a bulk transfer.
	maxCapture = 64 << 20
	// maxFilter is the kernel's own limit for a socket filter.
	maxFilter = 4096
	// captureBuffer is what is asked for between the kernel and the reader; the kernel gives what it allows.
	captureBuffer = 8 << 20
	// pollStep is the distance of two looks at a state that the kernel does not announce.
	pollStep = 20 * time.Millisecond
)

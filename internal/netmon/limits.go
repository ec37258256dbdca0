package netmon

import "time"

const (
	// MaxInterfaces bounds a snapshot: more than any host has that is not a container host, whose bridges are ignored anyway.
	MaxInterfaces = 64
	// MaxPrefixes bounds the addresses kept per interface and family: each IPv4 prefix costs one datagram per beacon.
	MaxPrefixes = 16
	// MaxEndpoints is the most addresses a beacon lists (protocol §8).
	MaxEndpoints = 8
	// DefaultPoll is how often the interfaces are read when nothing said that they changed.
	DefaultPoll = 15 * time.Second
	// DefaultDebounce is the least distance of two looks caused by events: a flapping link is reported once a second.
	DefaultDebounce = time.Second
	// settleTime is how long the first event of a batch waits for the others, after a quiet time: a link that comes up sends about
	// ten within milliseconds, and an address that is renewed vanishes and returns. With the 1.9 s of IPv6 address detection and a
	// beacon's 250 ms this keeps a new interface below the 3 s within which its host must be found.
	settleTime = 200 * time.Millisecond
	// eventBuffer is one read from the netlink socket; a message that does not fit is cut, which is harmless as content is not used.
	eventBuffer = 16 << 10
)

// DefaultIgnore returns the interface name patterns that are ignored if the configuration names none: what container engines,
// hypervisors and other overlays make. A pattern ends in "*" or is a whole name.
func DefaultIgnore() []string {
	return []string{
		"veth*", "docker*", "br-*", "cni*", "virbr*", "tun*", "tap*", "wg*", "tailscale*", "zt*",
		"utun*", "awdl*", "llw*", // the same kinds on macOS
	}
}

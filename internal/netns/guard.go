package netns

import (
	"fmt"
	"net"
	"net/netip"
)

// Guard returns nil if a test may listen on addr here or start a daemon that does: any address inside a test's namespace, only
// loopback literals outside. addr is an address with or without a port; a name, or nothing, counts as not loopback.
func Guard(addr string) error {
	host := addr
	if h, _, err := net.SplitHostPort(addr); err == nil {
		host = h
	}
	if a, err := netip.ParseAddr(host); err == nil && a.Unmap().IsLoopback() {
		return nil
	}
	if err := Inside(); err != nil {
		return fmt.Errorf("refusing to open %q outside a test network: %w", addr, err)
	}
	return nil
}

package control

import "net/netip"

// ParseListen is for the tests outside.
func ParseListen(s string) (netip.AddrPort, error) { return parseListen(s) }

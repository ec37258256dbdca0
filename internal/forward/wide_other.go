//go:build !linux

package forward

// ListensWide reports whether something on this machine listens on port on every address, so that the network reaches it past
// the mesh. known is false where the system does not tell.
func ListensWide(port uint16) (found, known bool) { return false, false }

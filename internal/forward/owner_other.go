//go:build !linux

package forward

import (
	"errors"
	"net/netip"
)

// socketOwner: the BSDs tell the owner of a socket to root only, or in structures that change between releases. So the entrance
// is refused there unless it is opened to every user; --stdio works everywhere.
func socketOwner(client, server netip.AddrPort) (socket, error) {
	return socket{}, errors.New("not available on this system")
}

// KnowsUsers reports whether PeerUID can work on this system.
func KnowsUsers() bool { return false }

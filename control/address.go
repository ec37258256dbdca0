package control

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"syscall"
)

// parseListen reads -L: PORT, ADDRESS or ADDRESS:PORT, on loopback only: an entrance speaks for this node, and whoever is not
// on this machine has no user that could be known. Port 0 is any.
func parseListen(s string) (netip.AddrPort, error) {
	bad := Errorf(Usage, "-L 127.0.0.1:PORT, or another address in 127.0.0.0/8", "%q is no loopback address to listen on", clip(s))
	if n, err := strconv.ParseUint(s, 10, 16); err == nil {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(n)), nil
	}
	if rest, ok := strings.CutPrefix(s, "localhost:"); ok {
		s = "127.0.0.1:" + rest
	}
	a, err := netip.ParseAddrPort(s)
	if err != nil {
		ip, ipErr := netip.ParseAddr(s)
		if ipErr != nil {
			return netip.AddrPort{}, bad
		}
		a = netip.AddrPortFrom(ip, 0)
	}
	if !a.Addr().IsLoopback() || a.Addr().Is4In6() || a.Addr().Zone() != "" {
		return netip.AddrPort{}, bad
	}
	return a, nil
}

// aliasNet is where the addresses of services lie: 127.77.0.0/16, on systems where all of 127.0.0.0/8 is configured.
var aliasNet = [2]byte{127, 77}

// serviceHash places a service: the same service of the same node gets the same address every time, on every machine.
func serviceHash(e *Endpoint) uint32 {
	h := fnv.New32a()
	fmt.Fprintf(h, "%s/%s", e.Node.ID, e.Service)
	return h.Sum32()
}

// aliasAddr returns the i-th candidate address of a service; 127.77.0.0 and .255.255 are left out because they look like a
// network's own.
func aliasAddr(hash uint32, i int) netip.Addr {
	n := 1 + (hash+uint32(i))%(1<<16-2)
	return netip.AddrFrom4([4]byte{aliasNet[0], aliasNet[1], byte(n >> 8), byte(n)})
}

// Stable ports lie between the usual services and the ephemeral ports of Linux (32768 and up).
const (
	portBase  = 10000
	portRange = 20000
)

// fallbackPort is the port where the service's own cannot be used: 10000 + port where that is a port, else one of the service's
// own between 10000 and 30000.
func fallbackPort(e *Endpoint, hash uint32) uint16 {
	if e.Port != 0 && e.Port < 1<<16-portBase {
		return portBase + e.Port
	}
	return uint16(portBase + hash%portRange)
}

// listenFunc is net.ListenConfig.Listen for TCP; tests replace it to see what is asked of the system.
type listenFunc func(ctx context.Context, addr netip.AddrPort) (net.Listener, error)

func listenTCP(ctx context.Context, addr netip.AddrPort) (net.Listener, error) {
	var lc net.ListenConfig
	lc.SetMultipathTCP(false)
	return lc.Listen(ctx, "tcp", addr.String())
}

// listenFor opens the entrance of a service: where the user said, or on a loopback address of the service's own with the
// service's own port if the system allows it. aliases tells whether all of 127/8 is there. The note says aloud what is not as
// one would expect.
func listenFor(ctx context.Context, listen listenFunc, aliases bool, want string, e *Endpoint) (ln net.Listener, note string, err error) {
	hash := serviceHash(e)
	fallback := fallbackPort(e, hash)
	if want != "" {
		at, err := parseListen(want)
		if err != nil {
			return nil, "", err
		}
		if at.Port() == 0 && e.Port != 0 {
			at = netip.AddrPortFrom(at.Addr(), e.Port)
		}
		ln, err := listen(ctx, at)
		if err != nil {
			return nil, "", listenError(at, err)
		}
		return ln, "", nil
	}
	port := e.Port
	if port == 0 {
		port = fallback
	}
	addr := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	if aliases {
		addr = aliasAddr(hash, 0)
	}
	next := 1
	for range maxProbes {
		at := netip.AddrPortFrom(addr, port)
		ln, err = listen(ctx, at)
		switch {
		case err == nil:
			return ln, note, nil
		case errors.Is(err, fs.ErrPermission) && port != fallback:
			note = fmt.Sprintf("port %d needs privileges here, so it is %d", port, fallback)
			port = fallback
		case errors.Is(err, syscall.EADDRINUSE) && aliases:
			// Another service with the same hash, or another daemon's entrance to the same one.
			addr = aliasAddr(hash, next)
			next++
		case errors.Is(err, syscall.EADDRINUSE) && port != fallback:
			note = fmt.Sprintf("port %d is in use here, so it is %d", port, fallback)
			port = fallback
		case errors.Is(err, syscall.EADDRINUSE) && port != 0:
			note = fmt.Sprintf("port %d is in use here, so it is another one each time", port)
			port, fallback = 0, 0
		default:
			return nil, "", listenError(at, err)
		}
	}
	return nil, "", Errorf(Failed, "choose one with -L", "no free loopback address for %s/%s", e.Node.Name, e.Service)
}

func listenError(at netip.AddrPort, err error) error {
	next := "choose another with -L"
	if errors.Is(err, syscall.EADDRINUSE) {
		return Errorf(InUse, next, "another program listens on %s: %w", at, err)
	}
	if errors.Is(err, fs.ErrPermission) {
		next = "choose a port of 1024 or more with -L, or lower net.ipv4.ip_unprivileged_port_start"
	}
	return Errorf(Failed, next, "cannot listen on %s: %w", at, err)
}

package forward

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path"
	"strconv"
	"strings"
)

// Target is where a service listens: a TCP address or a unix socket. The zero value is no target.
type Target struct {
	network string // tcp or unix
	address string
}

// ErrTarget is returned for text that is no target.
var ErrTarget = errors.New("not a target: use PORT, HOST:PORT, [IPV6]:PORT or unix:/PATH")

// ParseTarget reads PORT (on 127.0.0.1), HOST:PORT, [IPV6]:PORT or unix:/PATH. One target has one text, that of String.
func ParseTarget(s string) (Target, error) {
	if len(s) > maxTarget {
		return Target{}, fmt.Errorf("%w: too long", ErrTarget)
	}
	if p, ok := strings.CutPrefix(s, "unix:"); ok {
		if !path.IsAbs(p) || path.Clean(p) != p || p == "/" || len(p) > maxUnixPath || hasControl(p) {
			return Target{}, fmt.Errorf("%w: %q: want a clean absolute path of at most %d bytes", ErrTarget, s, maxUnixPath)
		}
		return Target{"unix", p}, nil
	}
	host, port := "127.0.0.1", s
	if strings.Contains(s, ":") {
		var err error
		if host, port, err = net.SplitHostPort(s); err != nil {
			return Target{}, fmt.Errorf("%w: %q", ErrTarget, s)
		}
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return Target{}, fmt.Errorf("%w: %q: the port is a number from 1 to 65535", ErrTarget, s)
	}
	host, err = normalHost(host)
	if err != nil {
		return Target{}, fmt.Errorf("%w: %q: %w", ErrTarget, s, err)
	}
	return Target{"tcp", net.JoinHostPort(host, strconv.FormatUint(n, 10))}, nil
}

// normalHost accepts an IP literal that a service can have, or a DNS name.
func normalHost(h string) (string, error) {
	if a, err := netip.ParseAddr(h); err == nil {
		if a.IsUnspecified() || a.IsMulticast() || a.Is4In6() {
			return "", errors.New("no address of one host")
		}
		return a.String(), nil
	}
	if h == "" || len(h) > 253 {
		return "", errors.New("no host")
	}
	h = strings.ToLower(h)
	numeric := true
	for i := 0; i < len(h); i++ {
		c := h[i]
		if !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || strings.IndexByte("-._", c) >= 0) {
			return "", errors.New("no host name")
		}
		numeric = numeric && (c >= '0' && c <= '9' || c == '.')
	}
	// "127.1" or "300.1.1.1": resolvers disagree about what such names mean.
	if numeric {
		return "", errors.New("no IP address")
	}
	return h, nil
}

func hasControl(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\uFFFD' })
}

// String returns the one text of the target.
func (t Target) String() string {
	if t.network == "unix" {
		return "unix:" + t.address
	}
	return t.address
}

// IsZero reports whether t was never set.
func (t Target) IsZero() bool { return t == Target{} }

// Port returns the TCP port, or 0 for a unix socket.
func (t Target) Port() uint16 {
	if t.network != "tcp" {
		return 0
	}
	_, p, _ := net.SplitHostPort(t.address)
	n, _ := strconv.ParseUint(p, 10, 16)
	return uint16(n)
}

// Dial connects to the target within DialTimeout. TCP_NODELAY is set, multipath TCP is off: its sockets lack options we use.
func (t Target) Dial(ctx context.Context) (Local, error) {
	if t.IsZero() {
		return nil, ErrTarget
	}
	d := net.Dialer{Timeout: DialTimeout}
	d.SetMultipathTCP(false)
	c, err := d.DialContext(ctx, t.network, t.address)
	if err != nil {
		return nil, err
	}
	return c.(Local), nil
}

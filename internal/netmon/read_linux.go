package netmon

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// read asks the kernel for the links and, because the standard library hides the state of IPv6 addresses, for the addresses
// with their flags. Without netlink it takes what the standard library has.
func read() ([]net.Interface, []address, error) {
	links, err := net.Interfaces()
	if err != nil {
		return nil, nil, err
	}
	rib, err := syscall.NetlinkRIB(syscall.RTM_GETADDR, syscall.AF_UNSPEC)
	if err != nil {
		addresses, err := readPortable(links)
		return links, addresses, err
	}
	messages, err := syscall.ParseNetlinkMessage(rib)
	if err != nil {
		return nil, nil, fmt.Errorf("reading addresses: %w", err)
	}
	var out []address
	for _, m := range messages {
		if m.Header.Type != syscall.RTM_NEWADDR {
			continue
		}
		if a, ok := parseAddress(m); ok {
			out = append(out, a)
		}
	}
	return links, out, nil
}

// parseAddress reads one RTM_NEWADDR: ifaddrmsg{family, prefixlen, flags, scope u8; index u32} and its attributes.
func parseAddress(m syscall.NetlinkMessage) (address, bool) {
	const header = syscall.SizeofIfAddrmsg
	if len(m.Data) < header {
		return address{}, false
	}
	family, bits, flags := m.Data[0], int(m.Data[1]), uint32(m.Data[2])
	a := address{index: int(binary.NativeEndian.Uint32(m.Data[4:8]))}
	attrs, err := syscall.ParseNetlinkRouteAttr(&m)
	if err != nil {
		return address{}, false
	}
	var ip netip.Addr
	for _, at := range attrs {
		switch at.Attr.Type {
		case syscall.IFA_LOCAL: // our end; on a point-to-point link IFA_ADDRESS is the other one
			ip, _ = netip.AddrFromSlice(at.Value)
		case syscall.IFA_ADDRESS:
			if !ip.IsValid() {
				ip, _ = netip.AddrFromSlice(at.Value)
			}
		case unix.IFA_FLAGS: // 32 bits wide, replaces the eight of the header
			if len(at.Value) == 4 {
				flags = binary.NativeEndian.Uint32(at.Value)
			}
		}
	}
	if !ip.IsValid() || ip.Is4() != (family == syscall.AF_INET) || bits > ip.BitLen() {
		return address{}, false
	}
	a.prefix = netip.PrefixFrom(ip, bits)
	if ip.Is6() {
		// The bit that means "privacy address" on IPv6 means "secondary" on IPv4, which is as good as any.
		a.tentative = flags&(unix.IFA_F_TENTATIVE|unix.IFA_F_DADFAILED) != 0 && flags&unix.IFA_F_OPTIMISTIC == 0
		a.fading = flags&(unix.IFA_F_DEPRECATED|unix.IFA_F_TEMPORARY) != 0
	}
	return a, true
}

// subscribe opens a netlink socket in the groups of links and addresses.
func subscribe() (subscription, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("netlink socket: %w", err)
	}
	groups := uint32(unix.RTMGRP_LINK | unix.RTMGRP_IPV4_IFADDR | unix.RTMGRP_IPV6_IFADDR)
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("netlink subscription: %w", err)
	}
	f := os.NewFile(uintptr(fd), "netlink")
	return func(ctx context.Context, event func()) error { return notices(ctx, f, event) }, nil
}

// notices reads until f fails, and closes it when ctx ends.
func notices(ctx context.Context, f *os.File, event func()) error {
	defer f.Close()
	stop := context.AfterFunc(ctx, func() { f.Close() })
	defer stop()
	buf := make([]byte, eventBuffer)
	for {
		_, err := f.Read(buf)
		switch {
		case err == nil, errors.Is(err, unix.ENOBUFS): // notices were lost: that is a change too
			event()
		case ctx.Err() != nil:
			return ctx.Err()
		default:
			return fmt.Errorf("netlink: %w", err)
		}
	}
}

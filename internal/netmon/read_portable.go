package netmon

import (
	"net"
	"net/netip"
)

// readPortable takes the addresses from the standard library, which does not say whether duplicate address detection has
// finished: every address counts as finished. An interface that vanished meanwhile is passed over.
func readPortable(links []net.Interface) ([]address, error) {
	var out []address
	for _, l := range links {
		list, err := l.Addrs()
		if err != nil {
			continue
		}
		for _, a := range list {
			n, ok := a.(*net.IPNet)
			if !ok {
				continue
			}
			ip, ok := netip.AddrFromSlice(n.IP)
			if !ok {
				continue
			}
			ones, _ := n.Mask.Size()
			out = append(out, address{index: l.Index, prefix: netip.PrefixFrom(ip.Unmap(), ones)})
		}
	}
	return out, nil
}

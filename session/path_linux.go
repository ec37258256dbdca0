package session

import (
	"golang.org/x/sys/unix"
)

// pathInfo asks the kernel how sending goes.
func (s *Stream) pathInfo() (i pathInfo, ok bool) {
	raw := s.src.raw
	if raw == nil {
		return i, false
	}
	var info *unix.TCPInfo
	var err error
	if raw.Control(func(fd uintptr) { info, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO) }) != nil || err != nil {
		return i, false
	}
	return pathInfo{
		unsent: info.Notsent_bytes > 0, unacked: info.Unacked > 0, acked: info.Bytes_acked, retransmits: int(info.Retransmits), probes: int(info.Probes),
	}, true
}

// leaveToKernel bounds how long the kernel keeps a connection that is closed here: until what is on its way is acknowledged, or the path
// is dead.
func (s *Stream) leaveToKernel() {
	if raw := s.src.raw; raw != nil {
		raw.Control(func(fd uintptr) {
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(DeadPath.Milliseconds()))
		})
	}
}

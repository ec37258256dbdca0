package netns

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// tap is an open packet socket and the goroutine that reads it.
type tap struct {
	// Immutable.
	file *os.File
	add  func(Packet) error
	done chan struct{} // closed when the reader has ended

	stopOnce sync.Once

	// Owned by the reader until done is closed.
	buf []byte
	oob []byte
	err error
}

// openTap opens a packet socket in the calling thread's network. The socket hears nothing before it is bound, so no packet passes
// unfiltered.
func openTap(dev string, prog []instruction, add func(Packet) error) (*tap, error) {
	index := 0
	if dev != "any" {
		i, err := net.InterfaceByName(dev)
		if err != nil {
			return nil, fmt.Errorf("interface %s: %w", dev, err)
		}
		index = i.Index
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	t := &tap{
		file: os.NewFile(uintptr(fd), "packets of "+dev), add: add, done: make(chan struct{}),
		buf: make([]byte, maxPacket), oob: make([]byte, unix.CmsgSpace(int(unsafe.Sizeof(unix.Timespec{})))),
	}
	if err := setUp(fd, index, prog); err != nil {
		t.file.Close()
		return nil, err
	}
	go t.run()
	return t, nil
}

func setUp(fd, index int, prog []instruction) error {
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1); err != nil {
		return os.NewSyscallError("SO_TIMESTAMPNS", err)
	}
	// As much as an unprivileged process may have; what is lost nevertheless is counted.
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, captureBuffer); err != nil {
		return os.NewSyscallError("SO_RCVBUF", err)
	}
	if len(prog) > 0 {
		filter := make([]unix.SockFilter, len(prog))
		for i, p := range prog {
			filter[i] = unix.SockFilter{Code: p.code, Jt: p.jt, Jf: p.jf, K: p.k}
		}
		fprog := &unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
		if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, fprog); err != nil {
			return os.NewSyscallError("SO_ATTACH_FILTER", err)
		}
	}
	all := uint16(unix.ETH_P_ALL)<<8 | uint16(unix.ETH_P_ALL)>>8 // network order
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: index}); err != nil {
		return os.NewSyscallError("bind", err)
	}
	return nil
}

func (t *tap) run() {
	defer close(t.done)
	raw, err := t.file.SyscallConn()
	if err != nil {
		t.err = err
		return
	}
	for t.err == nil {
		err = raw.Read(func(fd uintptr) bool { return t.drain(int(fd)) })
		if err != nil {
			break
		}
	}
	// Told to stop: what the kernel holds already was seen before.
	if t.err == nil && errors.Is(err, os.ErrDeadlineExceeded) {
		err = raw.Control(func(fd uintptr) {
			t.drain(int(fd))
			if s, err := unix.GetsockoptTpacketStats(int(fd), unix.SOL_PACKET, unix.PACKET_STATISTICS); err == nil && s.Drops > 0 {
				t.err = fmt.Errorf("capture lost %d of %d packets: use a filter", s.Drops, s.Packets)
			}
		})
	}
	if t.err == nil {
		t.err = err
	}
}

// drain reads until nothing is left and reports whether anything final happened; false means to wait for more.
func (t *tap) drain(fd int) bool {
	for {
		n, oobn, _, _, err := unix.Recvmsg(fd, t.buf, t.oob, unix.MSG_DONTWAIT)
		switch {
		case err == unix.EAGAIN:
			return false
		case err == unix.EINTR:
			continue
		case err != nil: // ENETDOWN when the interface goes: later packets may come
			if err == unix.ENETDOWN {
				continue
			}
			t.err = os.NewSyscallError("recvmsg", err)
			return true
		}
		at, err := stamp(t.oob[:oobn])
		if err == nil {
			err = t.add(Packet{Time: at, Data: append([]byte(nil), t.buf[:n]...)})
		}
		if err != nil {
			t.err = err
			return true
		}
	}
}

// stamp reads the kernel's time of arrival.
func stamp(oob []byte) (time.Time, error) {
	msgs, err := syscall.ParseSocketControlMessage(oob)
	if err != nil {
		return time.Time{}, err
	}
	for _, m := range msgs {
		if m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SCM_TIMESTAMPNS {
			var ts unix.Timespec
			if _, err := binary.Decode(m.Data, binary.NativeEndian, &ts); err != nil {
				return time.Time{}, err
			}
			return time.Unix(ts.Unix()), nil
		}
	}
	return time.Time{}, errors.New("packet without a time stamp")
}

// stop ends the reader and returns its verdict; more than once is fine.
func (t *tap) stop() error {
	t.stopOnce.Do(func() {
		_ = t.file.SetReadDeadline(time.Now()) // fails only if the reader cannot be waiting
		<-t.done
		t.file.Close()
	})
	<-t.done
	return t.err
}

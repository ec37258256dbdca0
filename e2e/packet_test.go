package e2e

import (
	"bytes"
	be "encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/sovereignmesh/meshkey/internal/netns"
)

// packet is a captured UDP datagram or TCP segment.
type packet struct {
	at       time.Time
	src, dst netip.AddrPort
	tcp      bool
	seq      uint32
	data     []byte
}

// group is where IPv6 beacons go.
var group = netip.MustParseAddr("ff02::6d6b")

// parse reads an Ethernet frame; ok is false for everything that is neither UDP nor TCP.
func parse(p netns.Packet) (_ packet, ok bool) {
	b := p.Data
	if len(b) < 14 {
		return packet{}, false
	}
	var proto byte
	var src, dst netip.Addr
	kind, b := be.BigEndian.Uint16(b[12:]), b[14:]
	switch {
	case kind == 0x0800 && len(b) >= 20:
		head, total := int(b[0]&15)*4, int(be.BigEndian.Uint16(b[2:]))
		if total < head || len(b) < total {
			return packet{}, false
		}
		proto, src, dst = b[9], netip.AddrFrom4([4]byte(b[12:])), netip.AddrFrom4([4]byte(b[16:]))
		b = b[head:total]
	case kind == 0x86dd && len(b) >= 40:
		total := 40 + int(be.BigEndian.Uint16(b[4:]))
		if len(b) < total {
			return packet{}, false
		}
		proto, src, dst = b[6], netip.AddrFrom16([16]byte(b[8:])), netip.AddrFrom16([16]byte(b[24:]))
		b = b[40:total]
	default:
		return packet{}, false
	}
	if len(b) < 8 || proto != 6 && proto != 17 {
		return packet{}, false
	}
	out := packet{
		at: p.Time, src: netip.AddrPortFrom(src, be.BigEndian.Uint16(b)), dst: netip.AddrPortFrom(dst, be.BigEndian.Uint16(b[2:])),
	}
	if proto == 17 {
		out.data = b[8:]
		return out, true
	}
	if len(b) < 20 || len(b) < int(b[12]>>4)*4 {
		return packet{}, false
	}
	out.tcp, out.seq, out.data = true, be.BigEndian.Uint32(b[4:]), b[int(b[12]>>4)*4:]
	return out, true
}

// packets parses what a capture holds so far.
func packets(c *netns.Capture) []packet {
	var out []packet
	for _, p := range c.Packets() {
		if q, ok := parse(p); ok {
			out = append(out, q)
		}
	}
	return out
}

// flows puts the TCP payloads of each direction of each connection in order, so that nothing hides at the border of two segments.
func flows(ps []packet) map[string][]byte {
	segments := map[string][]packet{}
	for _, p := range ps {
		if p.tcp && len(p.data) > 0 {
			key := fmt.Sprintf("%s > %s", p.src, p.dst)
			segments[key] = append(segments[key], p)
		}
	}
	out := map[string][]byte{}
	for key, list := range segments {
		first := list[0].seq
		slices.SortStableFunc(list, func(a, b packet) int { return int(int32(a.seq-first)) - int(int32(b.seq-first)) })
		var stream []byte
		base := list[0].seq
		for _, p := range list {
			if at := int(int32(p.seq - base)); at <= len(stream) && at+len(p.data) > len(stream) {
				stream = append(stream, p.data[len(stream)-at:]...)
			}
		}
		out[key] = stream
	}
	return out
}

// broadcast reports whether it is a datagram to all hosts of a /24 or of the IPv6 group.
func (p packet) broadcast() bool {
	to := p.dst.Addr()
	return !p.tcp && (to == group || to.Is4() && to.As4()[3] == 255)
}

// TestPackets checks the reader that the capture tests rely on.
func TestPackets(t *testing.T) {
	frame := func(seq uint32, payload string) netns.Packet {
		tcp := make([]byte, 20, 20+len(payload))
		be.BigEndian.PutUint16(tcp, 1)
		be.BigEndian.PutUint16(tcp[2:], 2)
		be.BigEndian.PutUint32(tcp[4:], seq)
		tcp[12] = 5 << 4
		tcp = append(tcp, payload...)
		ip := make([]byte, 20)
		ip[0], ip[9] = 0x45, 6
		be.BigEndian.PutUint16(ip[2:], uint16(20+len(tcp)))
		copy(ip[12:], []byte{10, 0, 0, 1, 10, 0, 0, 2})
		eth := append(make([]byte, 12), 8, 0)
		return netns.Packet{Data: append(append(append(eth, ip...), tcp...), 0, 0)} // and padding
	}
	var ps []packet
	for _, f := range []netns.Packet{frame(0xfffffffe, "abc"), frame(4, "ghi"), frame(1, "def"), frame(1, "de"), {Data: []byte("short")}} {
		if p, ok := parse(f); ok {
			ps = append(ps, p)
		}
	}
	if got := flows(ps)["10.0.0.1:1 > 10.0.0.2:2"]; len(ps) != 4 || !bytes.Equal(got, []byte("abcdefghi")) {
		t.Fatalf("%d packets, stream %q", len(ps), got)
	}
}

package netns

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Packet is one captured frame, from its Ethernet header on, stamped by the kernel.
type Packet struct {
	Time time.Time
	Data []byte
}

// Capture is a running observation of one host's interfaces. It reads a packet socket itself: tcpdump insists on becoming another
// user, and inside there is none. tcpdump's filter language is used by having tcpdump compile it.
type Capture struct {
	tap *tap // immutable

	mu      sync.Mutex
	packets []Packet // guarded by mu
	size    int      // guarded by mu
}

// Capture observes an interface of the host, "any" for all, in both directions. The filter is in tcpdump's language; without one
// every packet is kept. Packets are seen from the moment it returns until the test ends or [Capture.Stop].
func (h *Host) Capture(dev string, filter ...string) *Capture {
	t := h.net.t
	t.Helper()
	var prog []instruction
	if len(filter) > 0 {
		args := append([]string{"-ddd", "-y", "EN10MB"}, filter...)
		var err error
		if prog, err = parseFilter(h.net.run("tcpdump", args...)); err != nil {
			t.Fatalf("filter %q: %v", filter, err)
		}
	}
	c := new(Capture)
	var err error
	h.Do(func() { c.tap, err = openTap(dev, prog, c.add) })
	if err != nil {
		t.Fatalf("capture on %s: %v", h.Name, err)
	}
	t.Cleanup(func() { c.tap.stop() })
	return c
}

func (c *Capture) add(p Packet) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.size += len(p.Data); c.size > maxCapture {
		return fmt.Errorf("capture longer than %d bytes: use a filter", maxCapture)
	}
	c.packets = append(c.packets, p)
	return nil
}

// Packets returns what was seen so far.
func (c *Capture) Packets() []Packet {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]Packet(nil), c.packets...)
}

// Contains reports whether the bytes were seen within one packet so far.
func (c *Capture) Contains(b []byte) bool {
	for _, p := range c.Packets() {
		if bytes.Contains(p.Data, b) {
			return true
		}
	}
	return false
}

// Stop ends the capture and returns everything it saw. An error means that packets are missing.
func (c *Capture) Stop() ([]Packet, error) {
	err := c.tap.stop()
	return c.Packets(), err
}

// instruction is one of classic BPF.
type instruction struct {
	code   uint16
	jt, jf uint8
	k      uint32
}

// parseFilter reads what `tcpdump -ddd` prints: the number of instructions and, a line each, their four numbers.
func parseFilter(text string) ([]instruction, error) {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	count, err := strconv.Atoi(lines[0])
	if err != nil || count != len(lines)-1 || count == 0 || count > maxFilter {
		return nil, fmt.Errorf("%d lines after the count %q", len(lines)-1, lines[0])
	}
	prog := make([]instruction, 0, count)
	for _, line := range lines[1:] {
		f := strings.Fields(line)
		if len(f) != 4 {
			return nil, fmt.Errorf("line %q", line)
		}
		var v [4]uint64
		var errs [4]error
		for i, bits := range []int{16, 8, 8, 32} {
			v[i], errs[i] = strconv.ParseUint(f[i], 10, bits)
		}
		if err := errors.Join(errs[:]...); err != nil {
			return nil, err
		}
		prog = append(prog, instruction{uint16(v[0]), uint8(v[1]), uint8(v[2]), uint32(v[3])})
	}
	return prog, nil
}

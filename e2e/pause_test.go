package e2e

import (
	be "encoding/binary"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sovereignmesh/meshkey/internal/testrun"
)

// counts serves 8-byte numbers, in order, as many as a stream takes.
func (h *host) counts() (port string) {
	return h.tcp(func(c *net.TCPConn) {
		block := make([]byte, 64<<10)
		for n := uint64(0); ; {
			for i := 0; i < len(block); i += 8 {
				be.BigEndian.PutUint64(block[i:], n)
				n++
			}
			if _, err := c.Write(block); err != nil {
				return
			}
		}
	})
}

// counted reads and checks numbers that begin with from.
func counted(r io.Reader, from *uint64, size int) error {
	block := make([]byte, 64<<10)
	for range size / len(block) {
		if _, err := io.ReadFull(r, block); err != nil {
			return err
		}
		for i := 0; i < len(block); i += 8 {
			if got := be.BigEndian.Uint64(block[i:]); got != *from {
				return fmt.Errorf("number %d came as %d", *from, got)
			}
			*from++
		}
	}
	return nil
}

// TestStalledReader (T-41) lets a program stop reading in the middle of a transfer, as a pager or a browser does, while another reads on.
//
//	nas ──┐
//	gpu1 ─┼─ br0     gpu1 sends to laptop all it can, over two streams; the reader of one pauses for 40 s
//	laptop┘
//
// Promise: the other keeps 90 % of the throughput at least (it gains the share of the first), the one that waits is not cut, and every byte
// of it comes when its reader goes on.
func TestStalledReader(t *testing.T) {
	testrun.Scenario(t)
	t.Parallel()
	nas, gpu, laptop := mesh3(t)
	addr := allow(t, nas, gpu, laptop, "count", gpu.counts())
	stalled, other := laptop.dial(addr), laptop.dial(addr)
	var at, otherAt uint64
	if err := counted(stalled, &at, 8<<20); err != nil {
		t.Fatal(err)
	}
	var moved atomic.Uint64
	quit, done := make(chan struct{}), make(chan error, 1)
	go func() {
		for {
			if err := counted(other, &otherAt, 64<<10); err != nil {
				done <- err
				return
			}
			moved.Add(64 << 10)
			select {
			case <-quit:
				done <- nil
				return
			default:
			}
		}
	}()
	rate := func(d time.Duration, holds func()) float64 {
		before, began := moved.Load(), time.Now()
		rest(t, d, holds)
		return float64(moved.Load()-before) / time.Since(began).Seconds()
	}
	both := make(chan error, 1)
	stop := time.Now().Add(3 * time.Second)
	go func() {
		for err := error(nil); ; {
			if time.Now().After(stop) || err != nil {
				both <- err
				return
			}
			err = counted(stalled, &at, 64<<10)
		}
	}()
	before := rate(3*time.Second, func() {})
	if err := <-both; err != nil {
		t.Fatal(err)
	}
	during := rate(40*time.Second, func() {})
	t.Logf("the other stream: %.0f MB/s beside a reader, %.0f MB/s beside one that pauses: %.2f (promised 0.9)", before/1e6, during/1e6, during/before)
	if during < before/10 {
		t.Error("a reader that pauses holds the other up")
	}
	if err := counted(stalled, &at, 64<<20); err != nil {
		t.Errorf("after the pause: %v", err)
	}
	close(quit)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

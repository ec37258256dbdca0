package load

import (
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"
)

func serve(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- Serve(ln) }()
	t.Cleanup(func() {
		ln.Close()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return ln.Addr().String()
}

// longer repeats a measurement, each time longer, until it has seen enough: a machine that does something else for a while may measure
// nothing in a short one.
func longer(least time.Duration, enough func(d time.Duration) bool) {
	for d := least; !enough(d) && d < 10*time.Second; d *= 4 {
	}
}

func TestBulkCountsWhatArrives(t *testing.T) {
	addr := serve(t)
	var b Bulk
	var err error
	var took time.Duration
	longer(50*time.Millisecond, func(d time.Duration) bool {
		took = d
		b, err = SendBulk(addr, 4, d, 0)
		return err != nil || b.Bytes >= 4*bufferSize
	})
	if err != nil || b.Bytes < 4*bufferSize || b.Seconds < took.Seconds() {
		t.Fatalf("%+v, %v", b, err)
	}
	b, err = SendBulk(addr, 2, 200*time.Millisecond, 200e6)
	if got := float64(b.Bytes) * 8 / b.Seconds; err != nil || got > 220e6 {
		t.Fatalf("%.0f bit/s, 200 Mbit/s were asked for: %v", got, err)
	}
}

// thief forwards to the server and takes n bytes away behind the first block.
func thief(t *testing.T, target string, n int64) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		a, err := ln.Accept()
		if err != nil {
			return
		}
		defer a.Close()
		b, err := net.Dial("tcp", target)
		if err != nil {
			return
		}
		defer b.Close()
		go func() {
			defer b.(*net.TCPConn).CloseWrite()
			io.CopyN(b, a, 1+bufferSize)
			io.CopyN(io.Discard, a, n)
			io.Copy(b, a)
		}()
		io.Copy(a, b)
	}()
	t.Cleanup(func() { ln.Close(); <-done })
	return ln.Addr().String()
}

func TestLostBytesFail(t *testing.T) {
	var err error
	longer(20*time.Millisecond, func(d time.Duration) bool {
		_, err = SendBulk(thief(t, serve(t), bufferSize), 1, d, 0)
		return err != nil
	})
	if err == nil || !strings.Contains(err.Error(), "arrived of") {
		t.Errorf("a block was lost, and the transfer says %v", err)
	}
	if _, err := SendBulk(thief(t, serve(t), 0), 1, 20*time.Millisecond, 0); err != nil {
		t.Errorf("no block was lost: %v", err)
	}
}

func TestBlocks(t *testing.T) {
	stream := []byte("\x00\x00\x00\x05hello\x00\x00\x00\x01!\x00\x00\x00\x00")
	for step := 1; step <= len(stream); step++ {
		var s blocks
		for i := 0; i < len(stream); i += step {
			if s.done {
				t.Fatalf("in pieces of %d: done at %d of %d", step, i, len(stream))
			}
			s.add(stream[i:min(i+step, len(stream))])
		}
		if !s.done || s.total != uint64(len(stream)) {
			t.Errorf("in pieces of %d: %+v", step, s)
		}
	}
}

func TestLatencies(t *testing.T) {
	addr := serve(t)
	var l Latency
	var err error
	longer(50*time.Millisecond, func(d time.Duration) bool {
		l, err = Ping(addr, 10*time.Millisecond, d)
		return err != nil || l.Count > 0
	})
	if err != nil || l.Count == 0 || l.P50 <= 0 || l.P99 < l.P50 {
		t.Errorf("ping: %+v, %v", l, err)
	}
	longer(50*time.Millisecond, func(d time.Duration) bool {
		l, err = Open(addr, d)
		return err != nil || l.Count > 0
	})
	if err != nil || l.Count == 0 || l.P50 <= 0 || l.P99 < l.P50 {
		t.Errorf("open: %+v, %v", l, err)
	}
}

func TestSlow(t *testing.T) {
	held := false
	var n uint64
	var err error
	longer(300*time.Millisecond, func(d time.Duration) bool {
		n, err = Slow(serve(t), 20, d, func() error { held = true; return nil })
		return err == nil && n >= 20*slowChunk // a stream that did not get on had no turn in so short a time
	})
	if err != nil || !held || n < 20*slowChunk {
		t.Errorf("%d bytes, %v", n, err)
	}
}

func TestParse(t *testing.T) {
	d, err := parseBusy([]byte("cpu  100 7000 200 90000 500 3 4 60 0 0\ncpu0 1 2\n"))
	if err != nil || d != 3070*time.Millisecond {
		t.Errorf("busy %v, %v; nice, idle, iowait and steal do not count", d, err)
	}
	if _, err := parseBusy([]byte("intr 5")); err == nil {
		t.Error("read nonsense")
	}
	d, err = parseUsed("42 (a ) b) S 1 42 42 0 -1 4194560 1 2 3 4 150 50 0 0 20 0")
	if err != nil || d != 2*time.Second {
		t.Errorf("used %v, %v", d, err)
	}
	if _, err := parseUsed("42"); err == nil {
		t.Error("read nonsense")
	}
}

func TestOwnProcess(t *testing.T) {
	if n, err := Resident(os.Getpid()); err != nil || n < 1<<20 {
		t.Errorf("%d bytes, %v", n, err)
	}
	if _, err := Used(os.Getpid()); err != nil {
		t.Error(err)
	}
	if b, err := Busy(20 * time.Millisecond); err != nil || b < 0 {
		t.Errorf("%v, %v", b, err)
	}
}

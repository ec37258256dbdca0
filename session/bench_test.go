package session

import (
	"fmt"
	"io"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/sovereignmesh/meshkey/keys"
)

// discard is a connection that takes everything at once.
type discard struct{ net.Conn }

func (discard) Write(p []byte) (int, error)      { return len(p), nil }
func (discard) SetWriteDeadline(time.Time) error { return nil }
func (discard) Close() error                     { return nil }

// loop yields the same records for ever, as if sealed anew: the reader's counter is turned back at the seam.
type loop struct {
	discard
	records []byte
	at      int
	seam    func()
}

func (l *loop) Read(p []byte) (int, error) {
	if l.at == len(l.records) {
		l.seam()
		l.at = 0
	}
	n := copy(p, l.records[l.at:])
	l.at += n
	return n, nil
}

func (l *loop) SetReadDeadline(time.Time) error { return nil }

func idleSession(suite keys.Suite, n int) int {
	measure := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc + m.StackInuse
	}
	tags := NewTags()
	all := make([]any, 0, 2*n)
	before := measure()
	for range n {
		k := testSession(suite)
		ring := NewKeyring(k, keys.RoleDialer, nil)
		tags.Register(ring, nil, time.Now())
		all = append(all, NewControl(discard{}, k, keys.RoleDialer), ring)
	}
	after := measure()
	runtime.KeepAlive(all)
	runtime.KeepAlive(tags)
	return int(after-before) / n
}

func BenchmarkIdleSession(b *testing.B) {
	for _, suite := range suites {
		b.Run(suite.String(), func(b *testing.B) {
			n := 0
			for b.Loop() {
				n = idleSession(suite, 500)
			}
			b.ReportMetric(float64(n), "bytes/session")
		})
	}
}

func BenchmarkSeal(b *testing.B) {
	for _, suite := range suites {
		b.Run(suite.String(), func(b *testing.B) {
			h := newHalf(suite, testSession(suite).K1)
			src, dst := make([]byte, 1+MaxData), make([]byte, streamFrame)
			b.SetBytes(MaxData)
			b.ReportAllocs()
			for b.Loop() {
				h.bytes = 0
				h.seal(dst, src)
			}
		})
	}
}

func BenchmarkOpen(b *testing.B) {
	for _, suite := range suites {
		b.Run(suite.String(), func(b *testing.B) {
			out, in := newHalf(suite, testSession(suite).K1), newHalf(suite, testSession(suite).K1)
			rec := make([]byte, streamFrame)
			out.seal(rec, make([]byte, 1+MaxData))
			dst := make([]byte, 0, streamFrame)
			b.SetBytes(MaxData)
			b.ReportAllocs()
			for b.Loop() {
				in.counter, in.bytes = 0, 0
				if _, err := in.open(dst, rec); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkForward is the whole path of a port forwarder over loopback TCP: client → stream → server, five sockets' worth of copies
// in one process. "plain" is the same path without a stream, the limit of any forwarder here.
func BenchmarkForward(b *testing.B) {
	run := func(b *testing.B, a, z interface {
		io.ReadWriter
		CloseWrite() error
	},
	) {
		clientA, clientB := tcpPair(b)
		serverA, serverB := tcpPair(b)
		var wg sync.WaitGroup
		wg.Go(func() { io.Copy(a, clientB); a.CloseWrite() })
		wg.Go(func() { io.Copy(serverA, z); serverA.CloseWrite() })
		const chunk = 1 << 20
		wg.Go(func() {
			buf := make([]byte, 256<<10)
			for {
				if _, err := serverB.Read(buf); err != nil {
					return
				}
			}
		})
		b.SetBytes(chunk)
		b.ReportAllocs()
		buf := make([]byte, chunk)
		for b.Loop() {
			if _, err := clientA.Write(buf); err != nil {
				b.Fatal(err)
			}
		}
		clientA.CloseWrite()
		wg.Wait()
	}
	for _, suite := range suites {
		b.Run(suite.String(), func(b *testing.B) {
			opened, accepted := streamPair(b, suite)
			run(b, opened, accepted)
		})
	}
	b.Run("plain", func(b *testing.B) {
		c1, c2 := tcpPair(b)
		// Hidden, so that the kernel does not splice: a forwarder that encrypts cannot either.
		run(b, copied{c1}, copied{c2})
	})
}

type copied struct{ c *net.TCPConn }

func (c copied) Read(p []byte) (int, error)  { return c.c.Read(p) }
func (c copied) Write(p []byte) (int, error) { return c.c.Write(p) }
func (c copied) CloseWrite() error           { return c.c.CloseWrite() }

// The plain forwarder uses buffers of the same size.
func (c copied) ReadFrom(r io.Reader) (int64, error) {
	return io.CopyBuffer(struct{ io.Writer }{c.c}, struct{ io.Reader }{r}, make([]byte, 256<<10))
}

func (c copied) WriteTo(w io.Writer) (int64, error) {
	return io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{c.c}, make([]byte, 256<<10))
}

func BenchmarkRoundTrip(b *testing.B) {
	for _, suite := range suites {
		b.Run(suite.String(), func(b *testing.B) {
			opened, accepted := streamPair(b, suite)
			go io.Copy(accepted, accepted)
			buf := make([]byte, 64)
			b.ReportAllocs()
			for b.Loop() {
				opened.Write(buf)
				if _, err := io.ReadFull(opened, buf); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("plain", func(b *testing.B) {
		c1, c2 := tcpPair(b)
		go io.Copy(struct{ io.Writer }{c2}, struct{ io.Reader }{c2})
		buf := make([]byte, 64)
		for b.Loop() {
			c1.Write(buf)
			io.ReadFull(c1, buf)
		}
	})
}

func BenchmarkOpenStream(b *testing.B) {
	e := newEnds(keys.SuiteAES)
	for b.Loop() {
		c1, c2 := tcpPair(b)
		opened, accepted := e.connect(b, c1, c2)
		opened.Reset(CodeNormal)
		accepted.Reset(CodeNormal)
	}
}

func BenchmarkTags(b *testing.B) {
	for _, burst := range []int{1, 4096} {
		b.Run(fmt.Sprint(burst), func(b *testing.B) {
			k := testSession(keys.SuiteAES)
			tags, ring := NewTags(), NewKeyring(k, keys.RoleAcceptor, nil)
			now := time.Unix(1e9, 0)
			tags.Register(ring, nil, now)
			c := uint64(0)
			for b.Loop() {
				tag := k.Exporter.StreamTag(keys.RoleDialer, c)
				f, ok := tags.lookup(tag, now)
				if !ok || !tags.claim(tag, f, now) {
					b.Fatal(c)
				}
				c++
				if burst == 1 {
					now = now.Add(windowEpoch)
				}
			}
		})
	}
}

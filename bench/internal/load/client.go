package load

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/sovereignmesh/meshkey/bench/internal/stats"
)

// Bulk is what a transfer moved, in which time, and what it cost the machine.
type Bulk struct {
	Bytes   uint64  `json:"bytes"`
	Seconds float64 `json:"seconds"`
	CPU     float64 `json:"cpu_seconds"`
}

// Latency is a distribution in microseconds.
type Latency struct {
	P50   float64 `json:"p50_us"`
	P99   float64 `json:"p99_us"`
	Count int     `json:"count"`
}

// SendBulk sends on so many connections for a time, at a rate in bits per second over all of them, 0 for as fast as it goes.
func SendBulk(addr string, streams int, d time.Duration, rate float64) (Bulk, error) {
	conns := make([]*net.TCPConn, streams)
	for i := range conns {
		c, err := dial(addr, kindSink)
		if err != nil {
			return Bulk{}, err
		}
		defer c.Close()
		conns[i] = c
	}
	sent, errs := make([]uint64, streams), make([]error, streams)
	cpu, err := busy()
	if err != nil {
		return Bulk{}, err
	}
	began := time.Now()
	var wg sync.WaitGroup
	for i, c := range conns {
		wg.Go(func() { sent[i], errs[i] = send(c, began, d, rate/float64(streams)) })
	}
	wg.Wait()
	took := time.Since(began)
	after, err := busy()
	if err := errors.Join(append(errs, err)...); err != nil {
		return Bulk{}, err
	}
	b := Bulk{Seconds: took.Seconds(), CPU: (after - cpu).Seconds()}
	for _, n := range sent {
		b.Bytes += n
	}
	return b, nil
}

// send sends, ends, and takes the receiver's count.
func send(c *net.TCPConn, began time.Time, d time.Duration, rate float64) (sent uint64, err error) {
	block := make([]byte, bufferSize)
	if rate > 0 {
		block = block[:64<<10]
	}
	binary.BigEndian.PutUint32(block, uint32(len(block)-4))
	for {
		passed := time.Since(began)
		if passed >= d {
			break
		}
		if ahead := time.Duration(float64(sent)*8/rate*1e9) - passed; rate > 0 && ahead > 0 {
			time.Sleep(min(ahead, d-passed))
			continue
		}
		c.SetWriteDeadline(time.Now().Add(stuck))
		n, err := c.Write(block)
		sent += uint64(n)
		if err != nil {
			return sent, fmt.Errorf("after %d bytes: %w", sent, err)
		}
	}
	if _, err := c.Write(make([]byte, 4)); err != nil {
		return sent, err
	}
	sent += 4
	c.SetReadDeadline(time.Now().Add(stuck))
	var count [8]byte
	if _, err := io.ReadFull(c, count[:]); err != nil {
		return sent, fmt.Errorf("the count of what arrived: %w", err)
	}
	if got := binary.BigEndian.Uint64(count[:]); got != sent {
		return sent, fmt.Errorf("%d bytes arrived of %d sent", got, sent)
	}
	return sent, nil
}

// Ping asks and waits for the answer, one byte each, over and over. What happens in the first part, warm, does not count.
func Ping(addr string, warm, d time.Duration) (Latency, error) {
	c, err := dial(addr, kindPing)
	if err != nil {
		return Latency{}, err
	}
	defer c.Close()
	// A descriptor that blocks has no deadlines of the runtime: closing it from here ends a ping that hangs.
	watch := time.AfterFunc(warm+d+stuck, func() { shutdown(c) })
	defer watch.Stop()
	took := make([]float64, 0, 1<<17)
	err = blocking(c, func(fd int) error {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		b := [1]byte{'x'}
		began := time.Now()
		for at := began; at.Sub(began) < warm+d; {
			if err := writeByte(fd, &b); err != nil {
				return err
			}
			if err := readByte(fd, &b); err != nil {
				return err
			}
			now := time.Now()
			if at.Sub(began) >= warm {
				took = append(took, micros(now.Sub(at)))
			}
			at = now
		}
		return nil
	})
	if err != nil {
		return Latency{}, fmt.Errorf("ping: %w", err)
	}
	return distribution(took), nil
}

func shutdown(c *net.TCPConn) {
	if raw, err := c.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { _ = syscall.Shutdown(int(fd), syscall.SHUT_RDWR) })
	}
}

// Open opens connections one after the other, asks on each for one byte, and times from before the connect to the answer.
func Open(addr string, d time.Duration) (Latency, error) {
	var took []float64
	for began := time.Now(); time.Since(began) < d; {
		at := time.Now()
		if err := First(addr); err != nil {
			return Latency{}, fmt.Errorf("connection %d: %w", len(took)+1, err)
		}
		took = append(took, micros(time.Since(at)))
	}
	return distribution(took), nil
}

// First opens one connection and gets one byte back over it.
func First(addr string) error {
	c, err := net.DialTimeout("tcp", addr, stuck)
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(stuck))
	if _, err := c.Write([]byte{kindEcho, '!'}); err != nil {
		return err
	}
	var b [1]byte
	if _, err := io.ReadFull(c, b[:]); err != nil {
		return err
	}
	if b[0] != '!' {
		return fmt.Errorf("another byte came back: %q", b[0])
	}
	return nil
}

// Slow holds so many connections whose receivers are slow, with senders that always have more, for a time, and returns how many bytes the
// senders could hand over. Once each has handed over its first block, up is called and the time begins. Each must get on by then at least
// as far as one read of its receiver.
func Slow(addr string, streams int, d time.Duration, up func() error) (uint64, error) {
	conns := make([]*net.TCPConn, 0, streams)
	defer func() {
		for _, c := range conns {
			c.Close()
		}
	}()
	sent := make([]uint64, streams)
	block := make([]byte, 16<<10)
	for i := range streams {
		c, err := dial(addr, kindSlow)
		if err != nil {
			return 0, fmt.Errorf("stream %d of %d: %w", i+1, streams, err)
		}
		conns = append(conns, c)
		c.SetWriteDeadline(time.Now().Add(stuck))
		n, err := c.Write(block)
		sent[i] = uint64(n)
		if err != nil {
			return 0, fmt.Errorf("stream %d of %d: %w", i+1, streams, err)
		}
	}
	if err := up(); err != nil {
		return 0, err
	}
	end := time.Now().Add(d)
	errs := make([]error, streams)
	var wg sync.WaitGroup
	for i, c := range conns {
		wg.Go(func() {
			c.SetWriteDeadline(end)
			for errs[i] == nil {
				n, err := c.Write(block)
				sent[i] += uint64(n)
				errs[i] = err
			}
		})
	}
	wg.Wait()
	var total uint64
	failed, why := 0, error(nil)
	for i, n := range sent {
		total += n
		if isTimeout(errs[i]) && n >= uint64(len(block)+slowChunk) {
			continue
		}
		if failed++; why == nil {
			why = fmt.Errorf("stream %d, after %d bytes: %w", i+1, n, errs[i])
		}
	}
	if failed > 0 {
		return total, fmt.Errorf("%d of %d streams did not get on: %w", failed, streams, why)
	}
	return total, nil
}

func isTimeout(err error) bool {
	e, ok := errors.AsType[net.Error](err)
	return ok && e.Timeout()
}

func dial(addr string, kind byte) (*net.TCPConn, error) {
	c, err := net.DialTimeout("tcp", addr, stuck)
	if err != nil {
		return nil, err
	}
	if _, err := c.Write([]byte{kind}); err != nil {
		c.Close()
		return nil, err
	}
	return c.(*net.TCPConn), nil
}

func micros(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 }

func distribution(took []float64) Latency {
	slices.Sort(took)
	return Latency{P50: stats.Percentile(took, 0.5), P99: stats.Percentile(took, 0.99), Count: len(took)}
}

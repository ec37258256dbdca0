package session

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sovereignmesh/meshkey/internal/testrun"
)

// crumbs is a connection that takes and gives a few bytes at a time, at moments of its own.
type crumbs struct {
	net.Conn
	mu  sync.Mutex
	rng *rand.Rand
}

func (c *crumbs) draw(n int) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.rng.IntN(n)
}

func (c *crumbs) Write(p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		if c.draw(4) == 0 {
			time.Sleep(time.Duration(c.draw(50)) * time.Millisecond)
		}
		var m int
		m, err = c.Conn.Write(p[n : n+min(len(p)-n, 1+c.draw(700))])
		n += m
	}
	return n, err
}

func (c *crumbs) Read(p []byte) (int, error) {
	if c.draw(4) == 0 {
		time.Sleep(time.Duration(c.draw(50)) * time.Millisecond)
	}
	return c.Conn.Read(p)
}

// TestBackPressure (T-42) sends as much as there is in both directions of a stream at once, through connections that buffer nothing, with
// readers and writers that stop at moments of their own, new keys in the middle, and one direction that ends before the other. In virtual
// time a deadlock is seen at once: everybody waits and no clock is left to ring.
func TestBackPressure(t *testing.T) {
	n := testrun.Cases(10_000, 300)
	for seed := range n {
		if t.Failed() {
			t.Fatalf("schedule %d of %d", seed-1, n)
		}
		synctest.Test(t, func(t *testing.T) { backPressure(t, uint64(seed)) })
	}
}

func backPressure(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 42))
	shake := func(c net.Conn) *crumbs { return &crumbs{Conn: c, rng: rand.New(rand.NewPCG(seed, rng.Uint64()))} }
	near, far := net.Pipe()
	e := newEnds(suites[seed%2])
	a, b := e.connect(t, shake(near), shake(far))
	streams, sizes := [2]*Stream{a, b}, [2]int{rng.IntN(20_000), rng.IntN(20_000)}
	var sent, got [2][]byte
	var all sync.WaitGroup
	for i, s := range streams {
		// program → ReadFrom → the stream → WriteTo → program, as it is between two daemons
		toMesh, fromProgram := net.Pipe()
		toProgram, fromMesh := net.Pipe()
		program, reader := shake(fromProgram), shake(fromMesh)
		sent[i] = make([]byte, sizes[i])
		for j := range sent[i] {
			sent[i][j] = byte(rng.Uint32())
		}
		all.Go(func() {
			if _, err := program.Write(sent[i]); err != nil {
				t.Error(seed, i, "program", err)
			}
			program.Close()
		})
		all.Go(func() {
			if _, err := s.ReadFrom(toMesh); err != nil {
				t.Error(seed, i, "to the mesh", err)
			}
			if err := s.CloseWrite(); err != nil {
				t.Error(seed, i, "end", err)
			}
		})
		all.Go(func() {
			if _, err := s.WriteTo(toProgram); err != nil {
				t.Error(seed, i, "from the mesh", err)
			}
			toProgram.Close()
		})
		all.Go(func() {
			var err error
			if got[i], err = io.ReadAll(reader); err != nil {
				t.Error(seed, i, "to the program", err)
			}
		})
	}
	all.Go(func() {
		for g := range uint64(seed % 4) {
			time.Sleep(time.Duration(seed%500) * time.Millisecond)
			e.advance(t, g+1)
		}
	})
	all.Wait()
	for i := range streams {
		if !bytes.Equal(sent[i], got[1-i]) {
			t.Error(seed, i, "sent", len(sent[i]), "bytes, and others came:", len(got[1-i]))
		}
	}
	for _, s := range streams {
		if err := s.Close(); err != nil {
			t.Error(seed, "close", err)
		}
	}
}

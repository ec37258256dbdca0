package mesh

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	mrand "math/rand/v2"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sovereignmesh/meshkey/internal/testrun"
	"github.com/sovereignmesh/meshkey/session"
	"github.com/sovereignmesh/meshkey/trust"
)

// stormEnv is how many MiB the storm carries: the long run sets it.
const stormEnv = "MESHKEY_STORM_MIB"

// How one transfer goes.
const (
	bothWays    = iota // up and down at the same time
	oneByOne           // up, half-close, then down
	clientCuts         // the client resets in the middle of its upload
	serverCuts         // the server resets in the middle of its download
	stormModes         //
	stormStream = 64
	maxTransfer = 4 << 20
)

// transfer is one stream's task, and the seed of the bytes of both directions.
type transfer struct {
	seed     uint64
	up, down uint32
	mode     byte
}

func (x transfer) header() []byte {
	b := binary.BigEndian.AppendUint64(nil, x.seed)
	b = binary.BigEndian.AppendUint32(b, x.up)
	b = binary.BigEndian.AppendUint32(b, x.down)
	return append(b, x.mode)
}

func readTransfer(r io.Reader) (x transfer, err error) {
	var b [17]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return x, err
	}
	return transfer{binary.BigEndian.Uint64(b[:]), binary.BigEndian.Uint32(b[8:]), binary.BigEndian.Uint32(b[12:]), b[16]}, nil
}

// noise is the bytes of one direction of a transfer.
func (x transfer) noise(dir byte) *mrand.ChaCha8 {
	var seed [32]byte
	binary.BigEndian.PutUint64(seed[:], x.seed)
	seed[8] = dir
	return mrand.NewChaCha8(seed)
}

// send writes n bytes of a direction in pieces of all sizes, now and then with a pause, and adds them to moved.
func (x transfer) send(w io.Writer, dir byte, n uint32, moved *atomic.Int64) error {
	src, sizes := x.noise(dir), mrand.New(mrand.NewPCG(x.seed, uint64(dir)))
	buf := make([]byte, 128<<10)
	for n > 0 {
		k := min(uint32(1+sizes.IntN(1<<(1+sizes.IntN(17)))), n)
		src.Read(buf[:k])
		if _, err := w.Write(buf[:k]); err != nil {
			return err
		}
		n -= k
		moved.Add(int64(k))
		if sizes.IntN(64) == 0 {
			pause(context.Background(), time.Duration(sizes.IntN(3000))*time.Microsecond) // of an application that thinks
		}
	}
	return nil
}

// errBytes is the failure this test is for.
var errBytes = errors.New("other bytes than were sent")

// receive reads n bytes of a direction and then its end.
func (x transfer) receive(r io.Reader, dir byte, n uint32) error {
	want, sizes := x.noise(dir), mrand.New(mrand.NewPCG(x.seed, uint64(dir)+10))
	got, exp := make([]byte, 96<<10), make([]byte, 96<<10)
	for left := n; ; {
		k, err := r.Read(got[:1+sizes.IntN(len(got))])
		if uint32(k) > left {
			return fmt.Errorf("%w: %d too many", errBytes, uint32(k)-left)
		}
		want.Read(exp[:k])
		if !bytes.Equal(got[:k], exp[:k]) {
			return fmt.Errorf("%w: within %d of %d", errBytes, n-left, n)
		}
		left -= uint32(k)
		switch {
		case err == io.EOF && left > 0:
			return fmt.Errorf("%w: a clean end with %d of %d missing", errBytes, left, n)
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		}
	}
}

// stormServer is the service all transfers go to.
type stormServer struct {
	t     *testing.T
	moved atomic.Int64
	wg    sync.WaitGroup
}

// serve does the other half of a transfer. A torn one must have been torn on purpose, or by the revocation.
func (s *stormServer) serve(c *Conn, revoked func() bool) {
	defer c.Close()
	x, err := readTransfer(c)
	if err != nil {
		return // cut before it began
	}
	fail := func(what string, err error) {
		if errors.Is(err, errBytes) || x.mode != clientCuts && x.mode != serverCuts && !revoked() {
			s.t.Errorf("server, mode %d, %s: %v", x.mode, what, err)
		}
	}
	down := func() error { return x.send(c, 1, x.down, &s.moved) }
	switch x.mode {
	case serverCuts:
		x.send(c, 1, x.down/2, &s.moved)
		c.Abort()
		return
	case bothWays:
		var wg sync.WaitGroup
		defer wg.Wait()
		wg.Go(func() {
			if err := down(); err != nil {
				fail("download", err)
			} else if err := c.CloseWrite(); err != nil {
				fail("end of the download", err)
			}
		})
		if err := x.receive(c, 0, x.up); err != nil {
			fail("upload", err)
		}
		return
	}
	if err := x.receive(c, 0, x.up); err != nil {
		fail("upload", err)
		return
	}
	if x.mode == clientCuts {
		s.t.Error("a stream that was reset in the middle had a clean end")
	}
	if err := down(); err != nil {
		fail("download", err)
	}
}

// do is the client's half. It returns an error if the transfer did not end as its mode has it.
func (x transfer) do(c *Conn, moved *atomic.Int64) error {
	defer c.Close()
	if _, err := c.Write(x.header()); err != nil {
		return err
	}
	switch x.mode {
	case clientCuts:
		x.send(c, 0, x.up/2, moved)
		c.Abort()
		return nil
	case serverCuts:
		switch err := x.receive(c, 1, x.down); {
		case errors.Is(err, errBytes):
			return err
		case err == nil:
			return fmt.Errorf("%w: a stream that was reset had a clean end", errBytes)
		}
		return nil
	case bothWays:
		sent := make(chan error, 1)
		go func() {
			err := x.send(c, 0, x.up, moved)
			if err == nil {
				err = c.CloseWrite()
			}
			sent <- err
		}()
		err := x.receive(c, 1, x.down)
		if err != nil {
			c.Abort()
		}
		return errors.Join(err, <-sent)
	}
	if err := x.send(c, 0, x.up, moved); err != nil {
		return err
	}
	if err := c.CloseWrite(); err != nil {
		return err
	}
	return x.receive(c, 1, x.down)
}

// Sixty-four streams at a time, of all sizes and manners, under new keys each second, while one of two clients is revoked in the middle:
// what survives is exact to the byte, what is cut says so, and nothing is left behind.
func TestStorm(t *testing.T) {
	before := session.Buffered() // earlier tests end sessions in ways no node does
	total := int64(testrun.Cases(1024, 64)) << 20
	if v := os.Getenv(stormEnv); v != "" {
		n, err := strconv.Atoi(v)
		ok(t, err)
		total = int64(n) << 20
	}
	w := newWorld(t)
	a, b, thief := w.member("a"), w.member("b"), w.member("thief")
	w.allow(a, b, "storm")
	w.allow(thief, b, "storm")
	for _, h := range []*host{a, b, thief} {
		h.run()
	}
	var isRevoked atomic.Bool
	srv := &stormServer{t: t}
	ln, err := b.Listen(t.Context(), "storm")
	ok(t, err)
	accepting := make(chan struct{})
	go func() {
		defer close(accepting)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			conn := c.(*Conn)
			srv.wg.Go(func() {
				srv.serve(conn, func() bool { return conn.Caller().Node == thief.key.NodeID() && isRevoked.Load() })
			})
		}
	}()
	full(a, b)
	full(thief, b)

	var moved atomic.Int64
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var keys sync.WaitGroup
	keys.Go(func() {
		for pause(ctx, time.Second) {
			for _, h := range []*host{a, b} {
				for _, o := range []*host{a, b, thief} {
					if l := h.link(o); o != h && l != nil && l.usable() && l.role == 0 {
						h.beginRekey(l)
					}
				}
			}
		}
	})
	carried := func() int64 { return moved.Load() + srv.moved.Load() }
	began := time.Now()
	var transfers, cut atomic.Int64
	var clients, thieves sync.WaitGroup
	for i := range stormStream {
		h, wg := a, &clients
		if i%4 == 3 {
			h, wg = thief, &thieves
		}
		wg.Go(func() {
			rng := mrand.New(mrand.NewPCG(uint64(i), 7))
			for h == thief || carried() < total { // the thief goes on until it is cut, however late the machine is with that
				x := transfer{rng.Uint64(), uint32(rng.IntN(maxTransfer)), uint32(rng.IntN(maxTransfer)), byte(rng.IntN(stormModes))}
				c, err := h.DialTarget(t.Context(), Target{Node: b.key.NodeID(), Service: "storm"})
				if err == nil {
					err = x.do(c, &moved)
				}
				switch {
				case err == nil:
					transfers.Add(1)
				case h == thief && !errors.Is(err, errBytes) && isRevoked.Load():
					if c != nil {
						cut.Add(1)
					}
					return
				default:
					t.Errorf("client %d, mode %d: %v; sessions %d, here %v, there %v", i, x.mode, err, h.sessionSeq.Load(), h.Counters(), b.Counters())
					return
				}
			}
		})
	}
	eventually(t, "half of it", 30*time.Minute, func() bool { return carried() >= total/2 || t.Failed() })
	isRevoked.Store(true)
	b.learn(w.sign(trust.OpRevokeNode{Node: thief.key.NodeID()}))
	thieves.Wait()
	clients.Wait()
	took := time.Since(began)
	// The server may still be reading what its clients have sent whole. A service that goes cuts its streams.
	eventually(t, "the last bytes read", patience, func() bool { return b.streams.count(a.key.NodeID()) == 0 })
	ln.Close()
	<-accepting
	srv.wg.Wait()
	cancel()
	keys.Wait()
	eventually(t, "no stream and no buffer left", patience, func() bool {
		return a.streams.count(b.key.NodeID()) == 0 && b.streams.count(a.key.NodeID()) == 0 && b.streams.count(thief.key.NodeID()) == 0 &&
			session.Buffered() <= before
	})
	rekeys := a.Counters()["session.rekeyed"] + thief.Counters()["session.rekeyed"]
	if cut.Load() == 0 || transfers.Load() < stormStream/4 || took > 3*time.Second && rekeys == 0 {
		t.Fatalf("no storm: %d transfers, %d cut, %d rekeys", transfers.Load(), cut.Load(), rekeys)
	}
	t.Logf("%d MiB in %d transfers and %v, %d streams cut by the revocation, %d rekeys", carried()>>20, transfers.Load(), took.Round(time.Millisecond), cut.Load(), rekeys)
}

package handshake

import (
	"context"
	"io"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sovereignmesh/meshkey/internal/testrun"
	"github.com/sovereignmesh/meshkey/keys"
)

// listener is a daemon's accept loop: budget, first byte, Accept. known says which addresses are in the peer table.
type listener struct {
	*net.TCPListener
	budget *Budget
	acc    *Acceptor
	known  func(netip.Addr) bool
	wg     sync.WaitGroup
	peak   atomic.Int64 // most places held at once
	done   atomic.Int64 // handshakes that succeeded
}

func listen(t *testing.T, budget *Budget, acc *Acceptor, known func(netip.Addr) bool) *listener {
	t.Helper()
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	s := &listener{TCPListener: l, budget: budget, acc: acc, known: known}
	s.wg.Go(s.run)
	t.Cleanup(func() { l.Close(); s.wg.Wait() })
	return s
}

func (s *listener) run() {
	for {
		conn, err := s.Accept()
		if err != nil {
			return
		}
		accepted := time.Now()
		src := conn.RemoteAddr().(*net.TCPAddr).AddrPort().Addr()
		release, ok := s.budget.Enter(src, s.known(src), false)
		if !ok {
			conn.Close()
			continue
		}
		strangers, known, _ := s.budget.Held()
		s.peak.Store(max(s.peak.Load(), int64(strangers+known)))
		s.wg.Go(func() {
			defer release()
			defer conn.Close()
			var first [1]byte
			conn.SetReadDeadline(accepted.Add(TimeoutM1))
			if _, err := io.ReadFull(conn, first[:]); err != nil {
				return
			}
			if _, err := s.acc.Accept(context.Background(), conn, keys.Suite(first[0]), src, accepted); err == nil {
				s.done.Add(1)
			}
		})
	}
}

// dialFrom connects to l from an address of 127/8.
func dialFrom(l net.Listener, src netip.Addr) (net.Conn, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: src.AsSlice()}, Timeout: 30 * time.Second}
	return d.Dial("tcp", l.Addr().String())
}

// TestHalfOpen: 500 connections of strangers from all over 127/8 that send a part of M1 and then nothing hold at most their part of
// the budget, for at most 2 s, get no byte; and a member of the peer table gets in meanwhile.
func TestHalfOpen(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux has all of 127/8 on its loopback")
	}
	w := newWorld("home")
	d, a := w.member("nas"), w.member("gpu1")
	m1 := honestM1(t, w, d, a, keys.SuiteAES, w.gate())
	memberAddr := addr("127.77.0.9")
	budget := NewBudget(BudgetLimits{})
	cfg := w.acceptorConfig(a)
	cfg.Budget = budget
	s := listen(t, budget, NewAcceptor(cfg), func(a netip.Addr) bool { return a == memberAddr })

	start, stalls := time.Now(), testrun.Stalls(t)
	var wg sync.WaitGroup
	var bytesGot, ended atomic.Int64
	held := func() int { n, _, _ := budget.Held(); return n }
	sent := 0
	// 500, and on until the member comes among them: a machine that stood still may have seen all of them off.
	for ; sent < 500 || held() == 0; sent++ {
		i := sent
		if time.Since(start) > time.Minute {
			t.Fatal("no stranger holds a place")
		}
		src := netip.AddrFrom4([4]byte{127, byte(1 + i%50), byte(i / 50), byte(1 + i)})
		conn, err := dialFrom(s, src)
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			defer conn.Close()
			conn.Write(m1[:1+i%500*2]) // errors are those who were turned away
			conn.SetReadDeadline(time.Now().Add(time.Minute))
			n, err := io.Copy(io.Discard, conn)
			bytesGot.Add(n)
			if ne, ok := err.(net.Error); !ok || !ne.Timeout() {
				ended.Add(1)
			}
		})
	}
	strangers := held()
	conn, err := dialFrom(s, memberAddr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := Dial(t.Context(), conn, w.dialConfig(d, a, keys.SuiteAES)); err != nil {
		t.Errorf("member beside the flood: %v", err)
	}
	t.Logf("%d strangers held, at most %d places, member in after %v", strangers, s.peak.Load(), time.Since(start))
	wg.Wait()
	if d := time.Since(start) - stalls(); d > 10*time.Second {
		t.Errorf("the flood lasted %v", d)
	}
	if bytesGot.Load() != 0 || ended.Load() != int64(sent) {
		t.Errorf("%d bytes sent to strangers, %d of %d ended", bytesGot.Load(), ended.Load(), sent)
	}
	if most := int64(budgetTotal*(100-budgetKept)/100 + budgetPerSource); s.peak.Load() > most {
		t.Errorf("%d places held at once, at most %d are theirs", s.peak.Load(), most)
	}
	deadline := time.Now().Add(30 * time.Second)
	for {
		if strangers, known, _ := budget.Held(); strangers+known == 0 {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("%d places are still held", strangers+known)
		}
		runtime.Gosched()
	}
	if s.done.Load() != 1 {
		t.Errorf("%d handshakes succeeded, want 1", s.done.Load())
	}
	if c := budget.Counts(); c.Early == 0 {
		t.Errorf("counts %+v", c)
	}
}

// TestManyAtOnce: honest dialers beside each other, both suites, through a real listener.
func TestManyAtOnce(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux has all of 127/8 on its loopback")
	}
	w := newWorld("home")
	a := w.member("gpu1")
	budget := NewBudget(BudgetLimits{})
	cfg := w.acceptorConfig(a)
	cfg.Budget = budget
	s := listen(t, budget, NewAcceptor(cfg), func(netip.Addr) bool { return true })
	var wg sync.WaitGroup
	for i := range 40 {
		d := w.member("nas")
		wg.Go(func() {
			conn, err := dialFrom(s, netip.AddrFrom4([4]byte{127, 9, 0, byte(1 + i)}))
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			r, err := Dial(t.Context(), conn, w.dialConfig(d, a, suites[i%2]))
			if err != nil || r.Peer.Node != a.key.NodeID() {
				t.Errorf("dialer %d: %v", i, err)
			}
		})
	}
	wg.Wait()
}

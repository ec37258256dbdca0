package e2e

import (
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/sovereignmesh/meshkey/internal/netns"
	"github.com/sovereignmesh/meshkey/internal/testrun"
)

// twoPaths is a pair of machines that reach each other over two switches.
type twoPaths struct {
	nas, gpu *host
	dev      string // the interface of both on the path in use
	subnet   string // of that path
}

func newTwoPaths(t *testing.T) *twoPaths {
	t.Helper()
	n := netns.New(t)
	nas, gpu := newHost(t, n, "nas"), newHost(t, n, "gpu1")
	subnets := map[string]string{}
	for i, subnet := range []string{"10.9.0.", "10.8.0."} {
		br := n.Bridge([]string{"br0", "br1"}[i])
		subnets[subnet] = br.Attach(nas.Host, subnet+"1/24").Dev
		if dev := br.Attach(gpu.Host, subnet+"2/24").Dev; dev != subnets[subnet] {
			t.Fatal(dev)
		}
	}
	for _, h := range []*host{nas, gpu} {
		// Without IPv6 an address tells the path.
		h.Sysctl("net.ipv6.conf.all.disable_ipv6", "1")
		h.Sysctl("net.ipv6.conf.default.disable_ipv6", "1")
	}
	nas.found("homelab")
	nas.start()
	gpu.join(nas, "gpu1")
	gpu.start()
	full(t, 1500*time.Millisecond, nas, gpu)
	w := &twoPaths{nas: nas, gpu: gpu}
	p, _ := nas.peer("gpu1")
	for subnet, dev := range subnets {
		if strings.HasPrefix(p.Address, subnet) {
			w.dev, w.subnet = dev, subnet
		}
	}
	if w.dev == "" {
		t.Fatalf("gpu1 is at %q", p.Address)
	}
	return w
}

// swallow makes packets on the path in use vanish without a word: those to gpu1, or those to nas as well. They vanish on arrival: dropped
// where they are sent, TCP would know that they never left.
func (w *twoPaths) swallow(oneWay bool) {
	rules := "table inet hole { chain i { type filter hook input priority 0; iifname " + w.dev + " drop; }; }"
	w.gpu.NFT(rules)
	if !oneWay {
		w.nas.NFT(rules)
	}
}

// elsewhere reports whether both have a full session over the other path.
func (w *twoPaths) elsewhere() bool {
	for a, b := range map[*host]*host{w.nas: w.gpu, w.gpu: w.nas} {
		if p, ok := a.peer(b.name); !ok || p.State != "up" || p.Session != "full" || p.Address == "" || strings.HasPrefix(p.Address, w.subnet) {
			return false
		}
	}
	return true
}

// TestBlackhole (T-17) lets one of two paths between two machines swallow everything, in both directions or in one, while a stream is
// busy on it and while one is silent.
//
//	nas ═╤═ br0 ═╤═ gpu1     the hole is on the path their session uses
//	     └─ br1 ─┘
//
// Promise: the session over it is closed and one over the other path is there after 20 s with data in flight, 25 s without; the stream
// ends by then, with an error and never a clean end, and a new one works.
func TestBlackhole(t *testing.T) {
	for name, c := range map[string]struct {
		oneWay, busy bool
		promise      time.Duration
	}{
		"both ways, data in flight": {false, true, 20 * time.Second},
		"one way, data in flight":   {true, true, 20 * time.Second},
		"both ways, idle":           {false, false, 25 * time.Second},
		"one way, idle":             {true, false, 25 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			testrun.Scenario(t)
			t.Parallel()
			w := newTwoPaths(t)
			addr := allow(t, w.nas, w.gpu, w.nas, "clock", w.gpu.tcp(func(c *net.TCPConn) {
				go io.Copy(io.Discard, c)
				for {
					if _, err := c.Write([]byte("tick\n")); err != nil {
						return
					}
					pace(50 * time.Millisecond)
				}
			}))
			quiet := allow(t, w.nas, w.gpu, w.nas, "quiet", w.gpu.tcp(func(c *net.TCPConn) {
				_, _ = io.WriteString(c, "tick\n")
				_, _ = io.Copy(io.Discard, c)
			}))
			ended := make(chan error, 1)
			s := w.nas.dial(map[bool]string{true: addr, false: quiet}[c.busy])
			if _, err := io.ReadFull(s, make([]byte, 5)); err != nil {
				t.Fatal(err)
			}
			go func() {
				_, err := io.Copy(io.Discard, s)
				ended <- err
			}()
			if c.busy {
				go func() {
					for {
						if _, err := s.Write([]byte("tock\n")); err != nil {
							return
						}
						pace(50 * time.Millisecond)
					}
				}()
			}
			began := time.Now()
			w.swallow(c.oneWay)
			eventually(t, "a session over the other path", c.promise, w.elsewhere)
			select {
			case err := <-ended:
				t.Logf("the stream ended: %v (promised %v): %v", time.Since(began).Round(time.Millisecond), c.promise, err)
				if err == nil {
					t.Error("a stream that was swallowed ended clean")
				}
			case <-time.After(10 * c.promise):
				t.Error("the stream did not end")
			}
			eventually(t, "a new stream", time.Second, func() bool {
				s := w.nas.dial(addr)
				defer s.Close()
				s.SetDeadline(time.Now().Add(5 * time.Second))
				_, err := io.ReadFull(s, make([]byte, 5))
				return err == nil
			})
		})
	}
}

// pace is the beat of a test's program.
func pace(d time.Duration) { <-time.After(d) }

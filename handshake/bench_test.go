package handshake

import (
	"context"
	"syscall"
	"testing"
	"time"

	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/keys"
)

// cpu is the processor time this process has used, garbage collection included. It is what the figures here are made of: on a shared
// machine elapsed time says more about the neighbours.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// reportCPU reports the processor time since start per operation.
func reportCPU(b *testing.B, start time.Duration) {
	b.Helper()
	b.ReportMetric(float64((cpu(b)-start).Nanoseconds())/1e3/float64(b.N), "cpu-µs/op")
}

// BenchmarkHandshake is the processor time of a whole handshake, both sides, certificates verified, ML-KEM included, no network.
// Target: at most 1.3 ms.
func BenchmarkHandshake(b *testing.B) {
	for _, suite := range suites {
		b.Run(suite.String(), func(b *testing.B) {
			w := newWorld("bench")
			d, a := w.member("nas"), w.member("gpu1")
			c := w.dialConfig(d, a, suite)
			b.ReportAllocs()
			start := cpu(b)
			for b.Loop() {
				benchOnce(b, &c, a, nil)
			}
			reportCPU(b, start)
		})
	}
}

// BenchmarkHandshakeSide is one side's share, as handshakes per second and core. Target: at least 2,000.
func BenchmarkHandshakeSide(b *testing.B) {
	for _, suite := range suites {
		for name, acceptor := range map[string]bool{"acceptor": true, "dialer": false} {
			b.Run(suite.String()+"/"+name, func(b *testing.B) {
				w := newWorld("bench")
				d, a := w.member("nas"), w.member("gpu1")
				c := w.dialConfig(d, a, suite)
				var spent [2]time.Duration // dialer, acceptor
				for b.Loop() {
					benchOnce(b, &c, a, &spent)
				}
				side := 0
				if acceptor {
					side = 1
				}
				b.ReportMetric(float64(b.N)/spent[side].Seconds(), "handshakes/s")
				b.ReportMetric(float64(spent[side].Microseconds())/float64(b.N), "cpu-µs/op")
			})
		}
	}
}

func benchOnce(b *testing.B, c *DialConfig, a *member, spent *[2]time.Duration) {
	var last time.Duration
	if spent != nil {
		last = cpu(b)
	}
	lap := func(side int) {
		if spent != nil {
			now := cpu(b)
			spent[side] += now - last
			last = now
		}
	}
	i, m1, err := initiate(c, c.Suite, c.Gate, identity.InviteID{})
	if err != nil {
		b.Fatal(err)
	}
	lap(0)
	r := must(openM1(&a.local, c.Suite, c.Gate, m1[1:], nil))
	m2 := must(r.answer(nil, must(r.encapsulationKey()), testNow))
	lap(1)
	_, m3, err := i.finish(m2, testNow)
	if err != nil {
		b.Fatal(err)
	}
	lap(0)
	must(r.finish(m3, full, testNow))
	lap(1)
}

// BenchmarkRekey is a rekey, both sides.
func BenchmarkRekey(b *testing.B) {
	dc, ac := rekeyPair(b, keys.SuiteAES)
	b.ReportAllocs()
	start := cpu(b)
	for b.Loop() {
		rekeyOnce(b, dc, ac)
	}
	reportCPU(b, start)
}

// BenchmarkOutsider is what an M1 that no gate opens costs: with the two current gates, and with all old ones.
func BenchmarkOutsider(b *testing.B) {
	for name, gates := range map[string]int{"2 gates": 2, "182 gates": 182} {
		b.Run(name, func(b *testing.B) {
			w := newWorld("bench")
			d, a := w.member("nas"), w.member("gpu1")
			c := w.dialConfig(d, a, keys.SuiteChaCha)
			_, m1, err := initiate(&c, c.Suite, testPSK("foreign"), identity.InviteID{})
			if err != nil {
				b.Fatal(err)
			}
			local := a.local
			b.ReportAllocs()
			start := cpu(b)
			for b.Loop() {
				for range gates {
					if _, err := openM1(&local, c.Suite, c.Gate, m1[1:], nil); err == nil {
						b.Fatal("opened")
					}
				}
			}
			reportCPU(b, start)
		})
	}
}

// BenchmarkAccept is a whole handshake over loopback TCP, both ends in this process.
func BenchmarkAccept(b *testing.B) {
	w := newWorld("bench")
	d, a := w.member("nas"), w.member("gpu1")
	c := w.dialConfig(d, a, keys.SuiteAES)
	start := cpu(b)
	for b.Loop() {
		client, server := pair(b)
		done := serve(w.acceptor(a), server)
		if _, err := Dial(context.Background(), client, c); err != nil {
			b.Fatal(err)
		}
		if o := <-done; o.err != nil {
			b.Fatal(o.err)
		}
		client.Close()
		server.Close()
	}
	reportCPU(b, start)
}

package e2e

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// TestBurst opens 1,000 streams at once from one address, through one entrance.
//
//	nas ──┐
//	gpu1 ─┼─ br0     laptop: 1,000 clients ── connect ══ gpu1: echo
//	laptop┘
//
// Promise: none is refused, and each gets its own bytes back.
func TestBurst(t *testing.T) {
	const clients = 1000
	nas, gpu, laptop := mesh3(t)
	addr := allow(t, nas, gpu, laptop, "echo", gpu.tcp(func(c *net.TCPConn) { io.Copy(c, c) }))
	conns, errs := make([]net.Conn, clients), make([]error, clients)
	start := make(chan struct{})
	var wg sync.WaitGroup
	for i := range clients {
		wg.Go(func() {
			<-start
			errs[i] = func() error {
				text := bytes.Repeat(fmt.Appendf(nil, "client %d;", i), 100)
				if _, err := conns[i].Write(text); err != nil {
					return err
				}
				if err := conns[i].(*net.TCPConn).CloseWrite(); err != nil {
					return err
				}
				got, err := io.ReadAll(conns[i])
				if err == nil && !bytes.Equal(got, text) {
					err = fmt.Errorf("got %d bytes, not the %d sent", len(got), len(text))
				}
				return err
			}()
		})
	}
	// Threads enter a host's network; connecting there in parallel needs some of them, not a thousand.
	began := time.Now()
	const dialers = 8
	var dialing sync.WaitGroup
	for d := range dialers {
		dialing.Go(func() {
			laptop.Do(func() {
				for i := d; i < clients; i += dialers {
					if conns[i], errs[i] = net.DialTimeout("tcp", addr, patience); errs[i] != nil {
						return
					}
					conns[i].SetDeadline(time.Now().Add(2 * patience))
				}
			})
		})
	}
	dialing.Wait()
	for i, err := range errs {
		if err != nil {
			t.Fatalf("client %d: %v", i, err)
		}
	}
	connected := time.Since(began)
	close(start)
	wg.Wait()
	took := time.Since(began)
	refused := 0
	for i, err := range errs {
		conns[i].Close()
		if err != nil {
			if refused++; refused <= 5 {
				t.Errorf("client %d: %v", i, err)
			}
		}
	}
	if refused > 0 {
		t.Fatalf("%d of %d clients failed", refused, clients)
	}
	if denied := gpu.audit("stream.deny"); len(denied) > 0 {
		t.Errorf("streams were refused: %+v", denied[0])
	}
	st, err := laptop.client.Status(t.Context())
	if err != nil || len(st.Connections) != 1 || st.Connections[0].Refused != 0 || st.Connections[0].Total != clients {
		t.Errorf("the entrance: %v, %+v", err, st.Connections)
	}
	t.Logf("%d clients connected after %v, all echoed after %v (%v each), none refused", clients, connected.Round(time.Millisecond),
		took.Round(time.Millisecond), (took / clients).Round(time.Microsecond))
	if opened := gpu.audited("stream.close", clients); len(opened) != clients {
		t.Errorf("%d streams in the audit log", len(opened))
	}
}

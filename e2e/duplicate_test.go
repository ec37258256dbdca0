package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/sovereignmesh/meshkey/internal/testrun"
)

// typist uses an interactive session on c: a short line now and then, and each must come back before the next.
func typist(t *testing.T, c *net.TCPConn) (stop func() (lines int, longest time.Duration, err error)) {
	t.Helper()
	type result struct {
		lines   int
		longest time.Duration
		err     error
	}
	quit, done := make(chan struct{}), make(chan result, 1)
	go func() {
		var r result
		in := bufio.NewReader(c)
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for r.err == nil {
			select {
			case <-quit:
				done <- r
				return
			case <-tick.C:
			}
			line := fmt.Sprintf("line %d\n", r.lines)
			began := time.Now()
			c.SetDeadline(began.Add(patience))
			if _, r.err = io.WriteString(c, line); r.err != nil {
				break
			}
			got, err := in.ReadString('\n')
			if r.err = err; err == nil && got != line {
				r.err = fmt.Errorf("typed %q, got %q", line, got)
			}
			r.lines++
			r.longest = max(r.longest, time.Since(began))
		}
		done <- r
	}()
	return func() (int, time.Duration, error) {
		close(quit)
		r := <-done
		return r.lines, r.longest, r.err
	}
}

// control returns the host's one connection of the mesh to another host, while no stream runs between them.
func (h *host) control(to *host) (local, remote string) {
	h.t.Helper()
	theirs := to.addresses()
	await(h.t, "one connection to "+to.name, func() bool {
		found := 0
		for _, c := range h.meshTCP() {
			f := strings.Fields(c)
			// fe80::1%eth0 in brackets, or an IPv4 address; either may be written as mapped.
			for a := range theirs {
				if strings.Contains(f[1], a.String()) {
					found++
					local, remote = f[0], f[1]
				}
			}
		}
		return found == 1
	})
	return local, remote
}

// duplicates counts the sessions with b that a closed as duplicates.
func duplicates(a, b *host) (n int) {
	for _, r := range a.audit("session.close") {
		if r.Actor == b.name && r.Reason == "duplicate" {
			n++
		}
	}
	return n
}

func portOf(addr string) string { return addr[strings.LastIndexByte(addr, ':')+1:] }

// TestStreamSurvivesControlReset resets the control session under a stream.
//
//	nas ──┐
//	gpu1 ─┼─ br0     laptop types into gpu1; the TCP connection of their control session is reset
//	laptop┘
func TestStreamSurvivesControlReset(t *testing.T) {
	t.Parallel()
	nas, gpu, laptop := mesh3(t)
	local, remote := laptop.control(gpu)
	addr := allow(t, nas, gpu, laptop, "shell", gpu.tcp(func(c *net.TCPConn) { io.Copy(c, c) }))
	stop := typist(t, laptop.dial(addr))
	rest(t, 1500*time.Millisecond, func() {}) // what has happened so far is in the audit log
	opens := len(laptop.audited("session.open", 2))
	laptop.Run("ss", "-K", "state", "established", "( sport = :"+portOf(local)+" and dport = :"+portOf(remote)+" )")
	eventually(t, "a new control session", 2*time.Second, func() bool {
		return len(laptop.audit("session.open")) > opens && laptop.up("gpu1") && gpu.up("laptop")
	})
	for _, c := range laptop.meshTCP() {
		if f := strings.Fields(c); f[0] == local && f[1] == remote {
			t.Errorf("the connection %s was not reset", c)
		}
	}
	rest(t, 3*time.Second, func() {})
	lines, longest, err := stop()
	if err != nil {
		t.Fatalf("the stream broke after %d lines: %v", lines, err)
	}
	t.Logf("%d lines through one stream, the longest echo %v", lines, longest.Round(time.Millisecond))
}

// TestStreamSurvivesDuplicate makes a second session beside a silent one; the rule for duplicates ends the old one.
//
//	nas ──┐
//	gpu1 ─┼─ br0     laptop types into gpu1; the packets of their control connection vanish until a second one is there
//	laptop┘
func TestStreamSurvivesDuplicate(t *testing.T) {
	testrun.Scenario(t)
	t.Parallel()
	nas, gpu, laptop := mesh3(t)
	local, remote := laptop.control(gpu)
	addr := allow(t, nas, gpu, laptop, "shell", gpu.tcp(func(c *net.TCPConn) { io.Copy(c, c) }))
	stop := typist(t, laptop.dial(addr))
	rest(t, 1500*time.Millisecond, func() {}) // what has happened so far is in the audit log
	opens, before := len(laptop.audited("session.open", 2)), duplicates(laptop, gpu)
	rule := fmt.Sprintf("tcp sport %s tcp dport %s drop; tcp sport %s tcp dport %s drop;", portOf(local), portOf(remote), portOf(remote), portOf(local))
	laptop.NFT("table inet hole { chain i { type filter hook input priority 0; " + rule + " }; chain o { type filter hook output priority 0; " + rule + " }; }")
	// Silent for 10 s makes it suspect: a parallel dial, and then there are two.
	eventually(t, "a second session", 12*time.Second, func() bool { return len(laptop.audit("session.open")) > opens })
	laptop.NFT("delete table inet hole")
	eventually(t, "one of the two is over", 5*time.Second, func() bool { return duplicates(laptop, gpu) > before })
	var down time.Time
	stalls := testrun.Stalls(t)
	rest(t, 3*time.Second, func() {
		switch up := laptop.up("gpu1") && gpu.up("laptop"); {
		case up:
			down = time.Time{}
		case down.IsZero():
			down = time.Now() // both ends dialled: the winner of three may still be on its way to full
		case time.Since(down) > 2*time.Second+stalls():
			t.Fatal("no session is left")
		}
	})
	for _, h := range []*host{laptop, gpu} {
		for _, r := range h.audit("session.close") {
			t.Logf("%s: closed %s: %s %s", h.name, r.Session, r.Reason, r.After)
		}
	}
	lines, longest, err := stop()
	if err != nil {
		t.Fatalf("the stream broke after %d lines: %v", lines, err)
	}
	t.Logf("%d lines through one stream, the longest echo %v", lines, longest.Round(time.Millisecond))
}

package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sovereignmesh/meshkey/control"
	"github.com/sovereignmesh/meshkey/internal/netns"
	"github.com/sovereignmesh/meshkey/internal/testrun"
)

// death is the end of a stream at the program that served it.
type death struct {
	node string // where
	of   string // the machine that had opened it
	at   time.Time
}

// echoes serves a clock to streams that begin with a line, and tells when each of them ends: on this host, as its program sees it.
func (h *host) echoes(deaths chan<- death) (port string) {
	return h.tcp(func(c *net.TCPConn) {
		of, err := bufio.NewReader(c).ReadString('\n')
		if err != nil {
			return // the daemon looks now and then whether the target is there
		}
		stop := make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() {
			tick := time.NewTicker(50 * time.Millisecond)
			defer tick.Stop()
			for {
				if _, err := io.WriteString(c, "tick\n"); err != nil {
					return
				}
				select {
				case <-tick.C:
				case <-stop:
					return
				}
			}
		})
		_, _ = io.Copy(io.Discard, c)
		deaths <- death{h.name, strings.TrimSpace(of), time.Now()}
		close(stop)
		wg.Wait()
	})
}

// lives opens a stream to a service and reads its clock until it ends; it returns when the clock has ticked.
func (h *host) lives(target string, wg *sync.WaitGroup) error {
	deadline := time.Now().Add(20 * time.Second)
	for {
		s, err := h.client.Stream(h.t.Context(), &control.ConnectRequest{Target: target})
		if err == nil {
			if _, err = fmt.Fprintf(s, "%s\n", h.name); err == nil {
				r := bufio.NewReader(s)
				if _, err = r.ReadString('\n'); err == nil {
					wg.Go(func() {
						_, _ = io.Copy(io.Discard, r)
						s.Close()
					})
					return nil
				}
			}
			s.Close()
		}
		// A session on demand may take the name of a machine that has just begun.
		if time.Now().After(deadline) {
			return fmt.Errorf("%s: a stream to %s: %w", h.name, target, err)
		}
	}
}

// quantile is the smallest value that so much of the sorted list does not exceed.
func quantile(sorted []time.Duration, q float64) time.Duration {
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

// TestRevocationTwelve (T-51) revokes members of a mesh of twelve that have live streams to all the others, one after the other.
//
//	nas ───┐                    nas revokes guest1, guest2, … each a fresh key on the machine guest; the streams end at programs on the
//	host1 ─┤                    eleven others, two on each, and are timed there
//	 …     ├─ br0
//	host10 ┤
//	guest ─┘
//
// Promise: from the start of the command `meshkey revoke` to the end of the last stream, p99 300 ms. 880 samples with MESHKEY_LONG=1.
func TestRevocationTwelve(t *testing.T) {
	testrun.Scenario(t)
	const promise, perHost = 300 * time.Millisecond, 2
	turns := 4
	if os.Getenv("MESHKEY_LONG") == "1" {
		turns = 40
	}
	n := netns.New(t)
	br := n.Bridge("br0")
	var all []*host
	for i := range 12 {
		name := fmt.Sprintf("host%d", i)
		switch i {
		case 0:
			name = "nas"
		case 11:
			name = "guest"
		}
		h := newHost(t, n, name)
		br.Attach(h.Host, fmt.Sprintf("10.9.0.%d/24", i+1))
		all = append(all, h)
	}
	nas, guest := all[0], all[11]
	deaths := make(chan death, 12*perHost)
	for _, h := range all {
		h.WaitDAD()
	}
	nas.found("homelab")
	nas.start()
	for _, h := range all[1:11] {
		h.join(nas, h.name)
		h.start()
	}
	for _, h := range all[:11] {
		h.must("expose", "clock", h.echoes(deaths))
		nas.must("grant", "any", h.name+"/clock")
	}

	var samples, last, applied []time.Duration
	stalls := testrun.Stalls(t)
	where := map[string]time.Duration{}
	for turn := range turns {
		g := *guest
		g.name = fmt.Sprintf("guest%d", turn)
		g.dir = filepath.Join(t.TempDir(), g.name)
		if err := os.Mkdir(g.dir, 0o700); err != nil {
			t.Fatal(err)
		}
		g.client = control.NewClient(g.path("sock"))
		g.join(nas, g.name)
		g.start()
		var streams, opening sync.WaitGroup
		errs := make(chan error, 11*perHost)
		for _, h := range all[:11] {
			for range perHost {
				opening.Go(func() { errs <- g.lives(h.name+"/clock", &streams) })
			}
		}
		opening.Wait()
		for range 11 * perHost {
			if err := <-errs; err != nil {
				t.Fatal(err)
			}
		}
		began, before := time.Now(), stalls()
		nas.must("revoke", g.name, "--yes")
		applied = append(applied, time.Since(began))
		longest := time.Duration(0)
		late := time.NewTimer(patience)
		first := len(samples)
		for i := range 11 * perHost {
			select {
			case d := <-deaths:
				if d.of != g.name {
					t.Fatalf("a stream of %s ended on %s", d.of, d.node)
				}
				took := d.at.Sub(began)
				samples = append(samples, took)
				longest = max(longest, took)
				where[d.node] = max(where[d.node], took)
			case <-late.C:
				t.Fatalf("%s: %d streams go on %v after the revocation", g.name, 11*perHost-i, patience)
			}
		}
		late.Stop()
		if stalled := stalls() - before; stalled > 0 {
			t.Logf("%s: this machine did not run for %v", g.name, stalled)
			for i := range samples[first:] {
				samples[first+i] = max(0, samples[first+i]-stalled)
			}
		}
		last = append(last, longest)
		g.kill()
		streams.Wait()
	}
	slices.Sort(samples)
	slices.Sort(last)
	slices.Sort(applied)
	ms := func(d time.Duration) time.Duration { return d.Round(100 * time.Microsecond) }
	p99 := quantile(samples, 0.99)
	t.Logf("revoke to stream dead, %d samples of %d revocations: median %v, p90 %v, p99 %v, %v to %v (promised p99 %v)", len(samples), turns,
		ms(quantile(samples, 0.5)), ms(quantile(samples, 0.9)), ms(p99), ms(samples[0]), ms(samples[len(samples)-1]), promise)
	t.Logf("to the last stream of each: median %v, %v to %v; the command itself: median %v, %v to %v", ms(quantile(last, 0.5)), ms(last[0]),
		ms(last[len(last)-1]), ms(quantile(applied, 0.5)), ms(applied[0]), ms(applied[len(applied)-1]))
	t.Logf("longest on each node: %v", where)
	// Of less than 200 samples the p99 is the worst one, which on a shared machine says little.
	held, q := p99, 0.99
	if len(samples) < 200 {
		held, q = quantile(samples, 0.9), 0.9
	}
	if held > promise {
		t.Errorf("%v of the streams: %v, promised %v", q, ms(held), promise)
	}
}

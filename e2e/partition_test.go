package e2e

import (
	"bufio"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sovereignmesh/meshkey/internal/netns"
	"github.com/sovereignmesh/meshkey/internal/testrun"
)

// digest is what the host holds of the trust log, in eight bytes.
func (h *host) digest() string {
	st, err := h.client.Status(h.t.Context())
	if err != nil {
		return ""
	}
	return st.Trust.Digest
}

func agree(hosts ...*host) bool {
	for _, h := range hosts {
		if d := h.digest(); d == "" || d != hosts[0].digest() {
			return false
		}
	}
	return true
}

// TestPartition (T-24) revokes on one side of a parted switch a machine on the other one.
//
//	nas ──┐                  ┌─ gpu1       the cable between the switches is out for 30 s; meanwhile nas revokes laptop, which has a
//	 a  ──┼─ br0 ══════ br1 ─┼─ b          live stream to gpu1
//	                         └─ laptop
//
// Promise: gpu1 and b cut laptop off 10 s after the cable is back, and 5 s later all hold the same.
func TestPartition(t *testing.T) {
	testrun.Scenario(t)
	t.Parallel()
	n := netns.New(t)
	left, right := n.Bridge("br0"), n.Bridge("br1")
	cable := left.Trunk(right)
	var all []*host
	for i, name := range []string{"nas", "a", "gpu1", "b", "laptop"} {
		h := newHost(t, n, name)
		br := left
		if i > 1 {
			br = right
		}
		br.Attach(h.Host, fmt.Sprintf("10.9.0.%d/24", i+1))
		all = append(all, h)
	}
	nas, gpu, laptop := all[0], all[2], all[4]
	for _, h := range all {
		h.WaitDAD()
	}
	nas.found("homelab")
	nas.start()
	for _, h := range all[1:] {
		h.join(nas, h.name)
		h.start()
	}
	full(t, 2*time.Second, all...)
	addr := allow(t, nas, gpu, laptop, "web", gpu.web())
	count, broken := ticks(t, laptop.dial(addr))

	cable.Cut()
	parted := time.Now()
	eventually(t, "the sides have lost each other", 25*time.Second, func() bool {
		return !nas.up("gpu1") && !nas.up("b") && !gpu.up("nas") && !gpu.up("a") && nas.up("a") && gpu.up("b")
	})
	nas.must("revoke", "laptop", "--yes", "--wait", "0s")
	before := count.Load()
	rest(t, 30*time.Second-time.Since(parted), func() {
		if err := broken(); err != nil {
			t.Fatalf("the stream on the far side ended in the partition: %v", err)
		}
	})
	if count.Load() == before || !gpu.up("laptop") {
		t.Fatal("the far side was to go on as it was")
	}
	if agree(nas, gpu) {
		t.Fatal("both sides hold the same although they are parted")
	}
	cable.Mend()
	mended, stalls := time.Now(), testrun.Stalls(t)
	eventually(t, "the stream of the revoked machine is dead", 10*time.Second, func() bool { return broken() != nil })
	eventually(t, "and it is no peer of anybody", time.Second, func() bool {
		for _, h := range all[:4] {
			if h.up("laptop") {
				return false
			}
		}
		return true
	})
	if since := time.Since(mended); since-stalls() > 10*time.Second {
		t.Errorf("effective on the other side %v after the cable is back, promised 10 s", since.Round(time.Millisecond))
	}
	eventually(t, "all digests are equal", 5*time.Second, func() bool { return agree(all[:4]...) })
	full(t, 10*time.Second, all[:4]...)
	if _, _, code := laptop.run("connect", "b/web", "--stdio"); code == 0 {
		t.Error("the revoked machine can connect")
	}
}

// TestRouter joins two segments by a router, which passes no broadcast. The members were enrolled on one segment and then moved and
// renumbered, so that what they noted of each other is out of date: b finds nas by its seed alone, and all others by those it knows.
//
//	nas 10.9.0.11 ──┐                                    ┌── a 10.8.0.13
//	gpu 10.9.0.12 ──┴─ br0 ── 10.9.0.1 router 10.8.0.1 ──┼── b 10.8.0.14    seeds = ["10.9.0.11:7477"] on a and b
//	                                                     └── c 10.8.0.15    joins later, by an invite
func TestRouter(t *testing.T) {
	testrun.Scenario(t)
	t.Parallel()
	n := netns.New(t)
	left, right, old := n.Bridge("br0"), n.Bridge("br1"), n.Bridge("br9")
	router := n.Host("router")
	router.Sysctl("net.ipv4.ip_forward", "1")
	left.Attach(router, "10.9.0.1/24")
	right.Attach(router, "10.8.0.1/24")
	var all []*host
	var links []*netns.Link
	for i, name := range []string{"nas", "gpu", "a", "b"} {
		h := newHost(t, n, name)
		links = append(links, old.Attach(h.Host, fmt.Sprintf("10.7.0.%d/24", i+1)))
		all = append(all, h)
	}
	nas := all[0]
	for _, h := range all {
		h.WaitDAD()
	}
	nas.found("homelab")
	nas.start()
	for _, h := range all[1:] {
		h.join(nas, h.name)
	}
	nas.stop()
	for i, h := range all {
		links[i].Down()
		br, net := left, 9
		if i > 1 {
			br, net = right, 8
			h.extra = "[mesh]\nseeds = [\"10.9.0.11:7477\"]\n"
		}
		br.Attach(h.Host, fmt.Sprintf("10.%d.0.%d/24", net, i+11))
		h.Run("ip", "route", "add", "default", "via", fmt.Sprintf("10.%d.0.1", net))
	}
	for _, h := range all {
		h.WaitDAD()
	}
	nas.start()
	all[1].start()
	full(t, 1500*time.Millisecond, all[:2]...)
	for _, h := range all[2:] {
		h.start()
	}
	eventually(t, "b and a meet nas by their seed", 5*time.Second, func() bool { return all[2].up("nas") && all[3].up("nas") })
	full(t, 5*time.Second, all...)
	for _, conn := range all[3].meshTCP() {
		if strings.Contains(conn, "10.7.0.") {
			t.Errorf("a connection of the old segment: %s", conn)
		}
	}
	// A newcomer behind the router joins by an invite that names nas as it is now, and knows nobody but by it.
	c := newHost(t, n, "c")
	right.Attach(c.Host, "10.8.0.15/24")
	c.Run("ip", "route", "add", "default", "via", "10.8.0.1")
	c.WaitDAD()
	c.join(nas, "c")
	c.start()
	full(t, 5*time.Second, append(all, c)...)
	// And streams cross.
	addr := allow(t, nas, all[1], all[3], "web", all[1].web())
	conn := all[3].dial(addr)
	fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n")
	conn.SetReadDeadline(time.Now().Add(patience))
	if line, err := bufio.NewReader(conn).ReadString('\n'); err != nil || !strings.Contains(line, "200") {
		t.Fatalf("through the router: %q, %v", line, err)
	}
}

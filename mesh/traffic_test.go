package mesh

import (
	"encoding/binary"
	"io"
	"testing"

	"github.com/sovereignmesh/meshkey/keys"
)

// What a stream carries is counted for its peer and, where it was served, for its service: while it runs, and after, once.
func TestTraffic(t *testing.T) {
	_, a, b := pair(t)
	c := a.dial(b, "echo")
	_, err := c.Write(make([]byte, 1000))
	ok(t, err)
	_, err = io.ReadFull(c, make([]byte, 1000))
	ok(t, err)
	check := func(when string) {
		t.Helper()
		eventually(t, when, patience, func() bool {
			ap, as := a.Traffic()
			bp, bs := b.Traffic()
			want := Traffic{Streams: 1, In: 1000, Out: 1000}
			return ap[b.key.NodeID()].Traffic == want && bp[a.key.NodeID()].Traffic == want && bs["echo"] == want && len(as) == 0 &&
				ap[b.key.NodeID()].Sessions >= 1 && bp[a.key.NodeID()].Sessions >= 1
		})
	}
	check("counted while it runs")
	ok(t, c.Close())
	eventually(t, "both ends over", patience, func() bool {
		return a.streams.count(b.key.NodeID()) == 0 && b.streams.count(a.key.NodeID()) == 0
	})
	check("counted once after its end")
	if n := len(a.tally.live) + len(b.tally.live); n != 0 {
		t.Error(n, "streams are still looked at")
	}
}

// Whoever comes and goes, the counters of peers and services have a bound, and nothing is left uncounted.
func TestTrafficIsBounded(t *testing.T) {
	var tl tally
	for i := range maxTallied + 10 {
		var id keys.NodeID
		binary.BigEndian.PutUint32(id[:], uint32(i+1))
		tl.session(id)
		tl.serviceLocked(id.Compact()).Streams++
	}
	if len(tl.peers) != maxTallied+1 || tl.peers[keys.NodeID{}].Sessions != 10 || len(tl.services) != maxTallied+1 || tl.services[""].Streams != 10 {
		t.Fatal(len(tl.peers), len(tl.services))
	}
}

package beacon

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sovereignmesh/meshkey/keys"
)

// flood calls one for each of rate·seconds datagrams at their moments.
func (r *rig) flood(rate, seconds int, one func(i int)) {
	began := r.now
	for i := range rate * seconds {
		r.now = began.Add(time.Duration(i) * time.Second / time.Duration(rate))
		one(i)
	}
}

// Noise at 10,000/s from as many forged addresses, for ten seconds: every beacon of a newcomer is heard, and nothing grows.
func TestNoiseFloodDoesNotHideANewcomer(t *testing.T) {
	r := newRig(t)
	noise := make([]byte, Overhead+BlockSize)
	heard := 0
	r.flood(10_000, 10, func(i int) {
		binary.BigEndian.PutUint32(noise, uint32(i))
		if h, _ := r.hear(noise, addr(i)); h != nil {
			t.Fatal("noise was heard")
		}
		if i%10_000 == 5000 { // once a second
			if h, err := r.hear(r.beaconOf(1, uint64(i)), peerAddr); err == nil && h != nil {
				heard++
			}
		}
	})
	if heard != 10 {
		t.Errorf("%d of 10 beacons heard", heard)
	}
	if len(r.sources.slots) > maxSources || len(r.known.nodes) != 1 || len(r.strangers.nodes) != 0 {
		t.Errorf("%d sources, %d nodes", len(r.sources.slots), len(r.known.nodes))
	}
}

// Noise from one address costs that address only, and almost no work.
func TestFloodOfOneSource(t *testing.T) {
	r := newRig(t)
	noise := make([]byte, Overhead+BlockSize)
	heard := 0
	r.flood(10_000, 10, func(i int) {
		r.hear(noise, addr(1))
		if i%10_000 == 0 {
			r.wantHeard(r.beaconOf(1, uint64(i+1)), peerAddr)
			heard++
		}
	})
	c := r.Counters()
	if opened := c.Received - c.Dropped[DropSource]; opened > 10*20+sourceBurst+10 {
		t.Errorf("%d datagrams were opened", opened)
	}
	if heard != 10 {
		t.Errorf("%d of 10 beacons heard", heard)
	}
}

// A member invents nodes, with valid signatures, from forged addresses: work stays under the global rate, memory under its
// bounds, and an enrolled node's replay state is not pushed out.
func TestMemberFloodStaysInBounds(t *testing.T) {
	r := newRig(t)
	mine := r.beaconOf(1, 1)
	r.wantHeard(mine, peerAddr)
	var invented [][]byte
	for n := range uint64(1500) {
		invented = append(invented, r.beaconOf(n+10, 1))
	}
	began := r.now
	for i, d := range invented {
		r.now = began.Add(time.Duration(i) * time.Second / 3000)
		r.hear(d, addr(i))
	}
	if len(r.strangers.nodes) != maxStrangers || len(r.strangers.ids) != maxStrangers {
		t.Errorf("%d strangers remembered", len(r.strangers.nodes))
	}
	r.wantDrop(DropReplay, mine, peerAddr)
}

// The total work of any flood in the good form is bounded by the global rate.
func TestGlobalRateOverTime(t *testing.T) {
	r := newRig(t)
	d := r.beaconOf(1, 1)
	passed := 0
	r.flood(20_000, 3, func(i int) {
		if _, err := r.hear(d, addr(i)); err != error(DropGlobal) {
			passed++
		}
	})
	if limit := globalBurst + 3*2000; passed > limit || passed < limit-10 {
		t.Errorf("%d datagrams were opened in three seconds, want %d", passed, limit)
	}
}

// The same in a bubble with its own clock: what the receiver does is a function of the times it is given.
func TestBudgetsInVirtualTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		noise := make([]byte, Overhead+BlockSize)
		for range 3 {
			for range 100 {
				r.now = time.Now()
				r.hear(noise, peerAddr)
			}
			time.Sleep(10 * time.Second)
		}
		if n := r.Counters().Dropped[DropSource]; n != 3*(100-sourceBurst) {
			t.Errorf("%d dropped", n)
		}
	})
}

func TestBucket(t *testing.T) {
	var b bucket
	for i := range 5 {
		if !b.take(0, time.Second, 5) {
			t.Fatalf("token %d refused", i)
		}
	}
	if b.take(0, time.Second, 5) || b.take(999*time.Millisecond, time.Second, 5) {
		t.Error("a sixth token")
	}
	if !b.take(time.Second, time.Second, 5) || b.take(time.Second, time.Second, 5) {
		t.Error("not exactly one token after a second")
	}
	b.refund(time.Second)
	if !b.take(time.Second, time.Second, 5) {
		t.Error("a refunded token is gone")
	}
	for i := range 5 {
		if !b.take(time.Hour, time.Second, 5) {
			t.Fatalf("token %d refused after an hour", i)
		}
	}
	if b.take(time.Hour, time.Second, 5) {
		t.Error("an hour saved up more than the burst")
	}
}

func TestBucketsForgetTheLeastRecentlyUsed(t *testing.T) {
	b := newBuckets[int](time.Second, 1, 3)
	for _, k := range []int{1, 2, 3} {
		b.take(k, 0)
	}
	b.take(1, 0) // used again: 2 is the oldest now
	b.take(4, 0)
	if len(b.slots) != 3 {
		t.Fatalf("%d buckets", len(b.slots))
	}
	for k, want := range map[int]bool{1: true, 2: false, 3: true, 4: true} {
		if _, ok := b.slots[k]; ok != want {
			t.Errorf("bucket %d kept: %v", k, ok)
		}
	}
	if b.take(1, 0) {
		t.Error("a bucket that was kept is full again")
	}
	n := 0
	for s := b.head.next; s != &b.head; s = s.next {
		if n++; n > 3 || b.slots[s.key] != s {
			t.Fatal("ring and map disagree")
		}
	}
}

func TestMemoryIsBoundedAndConsistent(t *testing.T) {
	m := newMemory(10, rand.New(rand.NewPCG(3, 4)))
	for i := range 1000 {
		id := keys.NodeID{byte(i), byte(i >> 8)}
		m.add(id, &sighting{last: time.Duration(i)})
		if i%7 == 0 {
			m.forget(m.ids[0])
			m.forget(keys.NodeID{0xff, 0xff})
		}
		if len(m.ids) != len(m.nodes) || len(m.ids) > 10 {
			t.Fatalf("%d ids, %d nodes", len(m.ids), len(m.nodes))
		}
		for at, id := range m.ids {
			if m.nodes[id].at != at {
				t.Fatal("index is wrong")
			}
		}
	}
	m.sweep(replayMemory + 2000)
	if len(m.ids) != 0 {
		t.Errorf("%d left after the sweep", len(m.ids))
	}
}

func manyEndpoints() []netip.AddrPort {
	var out []netip.AddrPort
	for i := range 12 {
		out = append(out, netip.AddrPortFrom(netip.AddrFrom16([16]byte{0x20, 1, 15: byte(i + 1)}), 65535))
	}
	return out
}

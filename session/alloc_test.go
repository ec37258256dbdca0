//go:build !race

// The race detector takes memory of its own and makes pools forget.

package session

import (
	"io"
	"testing"

	"github.com/sovereignmesh/meshkey/keys"
)

// No record costs an allocation: not on a stream, in either direction, nor on a control session.
func TestRecordsDoNotAllocate(t *testing.T) {
	ring := NewKeyring(testSession(keys.SuiteAES), keys.RoleDialer, nil)
	for _, suite := range suites {
		k := testSession(suite)
		ring.suite = suite
		t.Run(suite.String()+" write", func(t *testing.T) {
			s := newStream(discard{}, ring, 0, 0, k.K1, k.K2, true)
			for _, n := range []int{1, MaxData, maxGather * MaxData} {
				data := make([]byte, n)
				if a := testing.AllocsPerRun(100, func() { s.Write(data) }); a != 0 {
					t.Errorf("%d bytes: %v allocations", n, a)
				}
			}
		})
		t.Run(suite.String()+" read", func(t *testing.T) {
			out := newHalf(suite, k.K2)
			l := &loop{}
			for range 64 {
				l.records = append(l.records, rawRecord(t, &out, typeData, make([]byte, MaxData))...)
			}
			s := newStream(l, ring, 0, 0, k.K1, k.K2, true)
			defer s.Reset(CodeNormal)
			l.seam = func() { s.in.counter, s.in.bytes = 0, 0 }
			buf := make([]byte, 32<<10)
			if a := testing.AllocsPerRun(200, func() {
				if _, err := s.Read(buf); err != nil {
					t.Fatal(err)
				}
			}); a != 0 {
				t.Errorf("%v allocations", a)
			}
		})
		t.Run(suite.String()+" control", func(t *testing.T) {
			const expanded = 2 // the key, for each record
			out := newHalf(suite, k.K2)
			l := &loop{}
			for range 64 {
				l.records = append(l.records, rawRecord(t, &out, byte(RecordControl), make([]byte, 300))...)
			}
			c := NewControl(l, k, keys.RoleDialer)
			defer c.returnLent()
			l.seam = func() { c.in.counter, c.in.bytes = 0, 0 }
			if a := testing.AllocsPerRun(200, func() {
				if _, _, err := c.Receive(); err != nil {
					t.Fatal(err)
				}
			}); a > expanded {
				t.Errorf("receive: %v allocations", a)
			}
			body := make([]byte, 300)
			if a := testing.AllocsPerRun(200, func() { c.Send(RecordControl, body) }); a > expanded {
				t.Errorf("send: %v allocations", a)
			}
		})
	}
	// And over a socket, waiting for readiness between records.
	opened, accepted := streamPair(t, keys.SuiteAES)
	ping, pong := make([]byte, 100), make([]byte, 100)
	if a := testing.AllocsPerRun(200, func() {
		opened.Write(ping)
		if _, err := io.ReadFull(accepted, pong); err != nil {
			t.Fatal(err)
		}
	}); a != 0 {
		t.Errorf("over a socket: %v allocations", a)
	}
}

// An idle session, both its AEADs and its 32 tags, takes less than half of the 12 KB it may.
func TestIdleSessionMemory(t *testing.T) {
	for _, suite := range suites {
		if n := idleSession(suite, 500); n > 8<<10 {
			t.Errorf("%s: %d bytes per idle session", suite, n)
		}
	}
}

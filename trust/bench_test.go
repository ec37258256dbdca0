package trust

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/sovereignmesh/meshkey/internal/durable"
)

// bigLog is n enrolments, per per entry.
func bigLog(b testing.TB, n, per int) (*world, []*Entry) {
	w := newWorld(b, 1, "a")
	a := w.writer("a")
	for i := 0; i < n; i += per {
		var ops []Op
		for j := range per {
			ops = append(ops, a.enroll(fmt.Sprintf("node-%d", i+j), "gpu", "site:home"))
		}
		a.add(ops...)
	}
	return w, a.all
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// BenchmarkApply10000 applies 10,000 enrolments, one or 64 to an entry, and says what the State takes in memory.
func BenchmarkApply10000(b *testing.B) {
	for _, per := range []int{1, 64} {
		b.Run(fmt.Sprintf("ops=%d", per), func(b *testing.B) {
			w, es := bigLog(b, 10_000, per)
			before := heap()
			var s *State
			for b.Loop() {
				s = w.start
				for _, e := range es {
					n, _, err := s.ApplyEntry(e.raw)
					if err != nil {
						b.Fatal(err)
					}
					s = n
				}
			}
			b.ReportMetric(float64(heap()-before)/1e6, "MB-state")
			runtime.KeepAlive(s)
			runtime.KeepAlive(es)
		})
	}
}

// BenchmarkStoreOpen10000 replays the log of 10,000 members, each enrolled by an entry of its own.
func BenchmarkStoreOpen10000(b *testing.B) {
	w, es := bigLog(b, 10_000, 1)
	dir := b.TempDir() + "/trust"
	if err := durable.MakeDir(dir); err != nil {
		b.Fatal(err)
	}
	fsys, err := durable.OS(dir)
	if err != nil {
		b.Fatal(err)
	}
	var frames []Frame
	for _, e := range es {
		frames = append(frames, rawFrame(KindEntry, e.raw))
	}
	if err := Create(fsys, w.genesis, nil, frames); err != nil {
		b.Fatal(err)
	}
	es, frames = nil, nil
	before := heap()
	var s *Store
	for b.Loop() {
		if s, err = Open(fsys, w.mesh); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(heap()-before)/1e6, "MB-store")
	runtime.KeepAlive(s)
}

// BenchmarkUpdateBigState adds one entry to a State of 10,000 members: the cost of a revocation there, verification included.
func BenchmarkUpdateBigState(b *testing.B) {
	w, es := bigLog(b, 10_000, 64)
	s := must(b, w.start, es...)
	a := w.writer("a")
	last := es[len(es)-1]
	a.seq, a.prev, a.time = last.Seq, last.hash, last.Time
	raw := a.add(revokeNode("node-5000")).raw
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := s.ApplyEntry(raw); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecide(b *testing.B) {
	w, es := bigLog(b, 10_000, 64)
	s := must(b, w.start, es...)
	a := w.writer("a")
	last := es[len(es)-1]
	a.seq, a.prev, a.time = last.Seq, last.hash, last.Time
	for i := range 200 {
		s = must(b, s, a.add(a.grant(NodeTarget(nodeID(fmt.Sprintf("node-%d", i))), AnyNode(), fmt.Sprintf("svc-%d", i))))
	}
	s = must(b, s, a.add(a.grant(TagTarget("gpu"), AnyNode(), "ollama")))
	from, at := nodeID("node-1"), nodeID("node-2")
	b.Run("allowed", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if !s.Decide(from, at, "ollama", epoch0+day).Allowed {
				b.Fatal("denied")
			}
		}
	})
	b.Run("denied", func(b *testing.B) {
		for b.Loop() {
			if s.Decide(from, at, "other", epoch0+day).Allowed {
				b.Fatal("allowed")
			}
		}
	})
	b.Run("next-change", func(b *testing.B) {
		for b.Loop() {
			s.NextChange(epoch0 + day)
		}
	})
}

// BenchmarkAdmit is one certificate against 10,000 members.
func BenchmarkAdmit(b *testing.B) {
	w, es := bigLog(b, 9_984, 64)
	s := must(b, w.start, es...)
	a := w.writer("a")
	c := a.cert("node-1", "node-1", "gpu", "site:home")
	for b.Loop() {
		s.Admit(c, 1, epoch0+day)
	}
}

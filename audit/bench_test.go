package audit

import (
	"os"
	"testing"
	"time"

	"github.com/sovereignmesh/meshkey/internal/durable"
	"github.com/sovereignmesh/meshkey/internal/testrun"
)

// countFS counts what is opened for reading.
type countFS struct {
	*durable.Mem
	opened int
}

func (c *countFS) OpenFile(name string, flag int, perm os.FileMode) (durable.File, error) {
	if flag&(os.O_WRONLY|os.O_RDWR) == 0 {
		c.opened++
	}
	return c.Mem.OpenFile(name, flag, perm)
}

// TestOpenReadsTheEdgeOnly holds the promise that a start does not grow with the log.
func TestOpenReadsTheEdgeOnly(t *testing.T) {
	t.Parallel()
	c := &countFS{Mem: durable.NewMem()}
	l := openLog(t, c)
	n := 70_000 // beyond two levels of tiles
	if testrun.Race {
		n = 7_000
	}
	fill(t, l, n)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	c.opened = 0
	l = openLog(t, c)
	if c.opened > 24 {
		t.Errorf("a start with %d entries opened %d files", n, c.opened)
	}
	if len(l.tail) > tileWidth || len(l.full) != 0 {
		t.Errorf("%d entries and %d tiles in memory", len(l.tail), len(l.full))
	}
	l.Close()
	mustVerify(t, c, uint64(n)+1)
}

func benchLog(b *testing.B, entries int) (durable.FS, *Log) {
	b.Helper()
	fsys, err := durable.OS(dir(b))
	if err != nil {
		b.Fatal(err)
	}
	l := openLog(b, fsys)
	fill(b, l, entries)
	if err := l.Close(); err != nil {
		b.Fatal(err)
	}
	return fsys, openLog(b, fsys)
}

func dir(b *testing.B) string {
	d := b.TempDir()
	if err := os.Chmod(d, 0o700); err != nil {
		b.Fatal(err)
	}
	return d
}

// BenchmarkAppend is the latency of one durable event, on the file system of TMPDIR.
func BenchmarkAppend(b *testing.B) {
	fsys, err := durable.OS(dir(b))
	if err != nil {
		b.Fatal(err)
	}
	l := openLog(b, fsys)
	defer l.Close()
	for b.Loop() {
		if _, err := l.Append(event(1)); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkAppendParallel is the same from 64 goroutines, which share flushes.
func BenchmarkAppendParallel(b *testing.B) {
	fsys, err := durable.OS(dir(b))
	if err != nil {
		b.Fatal(err)
	}
	l := openLog(b, fsys)
	defer l.Close()
	b.SetParallelism(32)
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			if _, err := l.Append(event(1)); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

// BenchmarkAppendMemory is Append without a disk: encoding, tree, signature, frame.
func BenchmarkAppendMemory(b *testing.B) {
	l := openLog(b, durable.NewMem())
	defer l.Close()
	for b.Loop() {
		if _, err := l.Append(event(1)); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkLater is events that become durable in groups, flushes included.
func BenchmarkLater(b *testing.B) {
	fsys, err := durable.OS(dir(b))
	if err != nil {
		b.Fatal(err)
	}
	l := openLog(b, fsys)
	defer l.Close()
	for i := 1; b.Loop(); i++ {
		if err := l.Later(event(1)); err != nil {
			b.Fatal(err)
		}
		if i%maxUnsaved != 0 {
			continue
		}
		if err := l.Flush(); err != nil {
			b.Fatal(err)
		}
	}
	if err := l.Flush(); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
}

func BenchmarkVerify100k(b *testing.B) {
	fsys, l := benchLog(b, 100_000)
	l.Close()
	for b.Loop() {
		r, err := Verify(fsys, testKey(b, 1).NodeID(), testMesh)
		if err != nil || !r.OK() {
			b.Fatal(r.Problems, err)
		}
	}
}

func BenchmarkOpen100k(b *testing.B) {
	fsys, l := benchLog(b, 100_000)
	l.Close()
	for b.Loop() {
		start := time.Now()
		l := openLog(b, fsys)
		if took := time.Since(start); took > time.Second {
			b.Fatalf("a start took %v", took)
		}
		b.StopTimer()
		l.Close()
		b.StartTimer()
	}
}

func BenchmarkCheckpoint(b *testing.B) {
	_, l := benchLog(b, 1000)
	defer l.Close()
	for b.Loop() {
		mustAppend(b, l, 1)
		checkpoint(b, l)
	}
}

func BenchmarkQuery100k(b *testing.B) {
	_, l := benchLog(b, 100_000)
	defer l.Close()
	for b.Loop() {
		n := 0
		for _, err := range l.Query(b.Context(), Filter{Session: "s99999"}) {
			if err != nil {
				b.Fatal(err)
			}
			n++
		}
		if n != 1 {
			b.Fatal(n)
		}
	}
}

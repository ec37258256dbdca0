package durable

import (
	"bytes"
	"sync/atomic"
	"testing"
)

// BenchmarkAppendSync is one frame of a typical size, made durable by a lone caller, on the real disk.
func BenchmarkAppendSync(b *testing.B) {
	l, _, _ := mustOpen(b, openOS(b))
	payload := bytes.Repeat([]byte{7}, 280)
	for b.Loop() {
		if _, err := l.AppendSync(payload); err != nil {
			b.Fatal(err)
		}
	}
	l.Close()
}

// BenchmarkAppendSyncGroup is the same with 64 callers sharing flushes.
func BenchmarkAppendSyncGroup(b *testing.B) {
	l, _, _ := mustOpen(b, openOS(b))
	payload := bytes.Repeat([]byte{7}, 280)
	b.SetParallelism(32)
	var n atomic.Int64
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := l.AppendSync(payload); err != nil {
				b.Error(err)
				return
			}
			n.Add(1)
		}
	})
	l.Close()
}

// BenchmarkAppend is the cost of a frame that nobody waits for.
func BenchmarkAppend(b *testing.B) {
	l, _, _ := mustOpen(b, openOS(b))
	payload := bytes.Repeat([]byte{7}, 280)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := l.Append(payload); err != nil {
			b.Fatal(err)
		}
	}
	l.Close()
}

// BenchmarkOpen100k opens a log of 100,000 frames that was closed in order.
func BenchmarkOpen100k(b *testing.B) {
	fsys := openOS(b)
	l, _, _ := mustOpen(b, fsys)
	payload := bytes.Repeat([]byte{7}, 280)
	for range 100_000 {
		if _, err := l.Append(payload); err != nil {
			b.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		l, rec, err := OpenLog(fsys, "log", testMax, func(uint64, []byte) error { return nil })
		if err != nil || rec.Frames != 100_000 {
			b.Fatal(rec, err)
		}
		l.Close()
	}
}

// BenchmarkRead reads one frame out of the middle of 100,000.
func BenchmarkRead(b *testing.B) {
	l, _, _ := mustOpen(b, openOS(b))
	payload := bytes.Repeat([]byte{7}, 280)
	for range 100_000 {
		if _, err := l.Append(payload); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	i := uint64(0)
	for b.Loop() {
		i = (i + 7919) % 100_000
		if _, err := l.Read(i); err != nil {
			b.Fatal(err)
		}
	}
	l.Close()
}

// BenchmarkWriteFile replaces a file of 1 KiB.
func BenchmarkWriteFile(b *testing.B) {
	fsys := openOS(b)
	data := make([]byte, 1024)
	for b.Loop() {
		if err := WriteFile(fsys, "f", data); err != nil {
			b.Fatal(err)
		}
	}
}

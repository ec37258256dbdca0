package durable

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"testing"
)

// resum gives a changed header a right checksum.
func resum(b []byte) []byte {
	binary.BigEndian.PutUint32(b[28:], crc32.Checksum(b[:28], castagnoli))
	return b
}

func TestParseRecordIsStrict(t *testing.T) {
	good := appendFrame(nil, 3, 77, []byte("payload"))
	if r, err := parseRecord(append(bytes.Clone(good), "more"...), 3, 77, 7); err != nil || string(r.payload) != "payload" || r.size != len(good) {
		t.Fatalf("%+v %v", r, err)
	}
	mark := appendMark(nil, 3, 77, 40)
	if r, err := parseRecord(mark, 3, 77, 1); err != nil || !r.mark || r.durable != 40 || r.size != markSize {
		t.Fatalf("%+v %v", r, err)
	}
	zero := make([]byte, 64)
	for _, c := range []struct {
		name    string
		b       []byte
		segment uint32
		offset  int64
		max     int
		want    error
	}{
		{"another segment", good, 4, 77, 7, errChecksum},
		{"another offset", good, 3, 78, 7, errChecksum},
		{"mark elsewhere", mark, 3, 78, 7, errChecksum},
		{"over the maximum", good, 3, 77, 6, errLength},
		{"zeros", zero, 3, 77, 7, errLength},
		{"empty frame with a right checksum", appendFrame(nil, 3, 77, nil), 3, 77, 7, errLength},
		{"mark of another length", appendRecord(nil, 3, 77, markFlag|4, make([]byte, 4)), 3, 77, 7, errLength},
		{"mark of its own future", appendMark(nil, 3, 77, 78), 3, 77, 7, errMark},
		{"mark of the header", appendMark(nil, 3, 77, segmentHeader-1), 3, 77, 7, errMark},
		{"mark far away", appendMark(nil, 3, 77, -1), 3, 77, 7, errMark},
		{"no header", good[:7], 3, 77, 7, errCut},
		{"no payload", good[:8], 3, 77, 7, errCut},
		{"payload cut", good[:len(good)-1], 3, 77, 7, errCut},
		{"nothing", nil, 3, 77, 7, errCut},
	} {
		r, err := parseRecord(c.b, c.segment, c.offset, c.max)
		if !errors.Is(err, c.want) {
			t.Errorf("%s: error %v, want %v", c.name, err, c.want)
		}
		if r.mark || r.durable != 0 || r.payload != nil || r.size != 0 {
			t.Errorf("%s: a result with the error: %+v", c.name, r)
		}
	}
}

func TestParseHeaderIsStrict(t *testing.T) {
	h := header{segment: 2, base: 1 << 40}
	if got, err := parseHeader(h.encode()); err != nil || got != h {
		t.Fatalf("%+v %v", got, err)
	}
	for i := range segmentHeader {
		b := h.encode()
		b[i] ^= 1
		if got, err := parseHeader(b); err == nil || got != (header{}) {
			t.Errorf("byte %d changed: accepted", i)
		}
	}
	reserved := h.encode()
	reserved[27] = 1
	if _, err := parseHeader(resum(reserved)); !errors.Is(err, errHeader) {
		t.Errorf("a value in the zero field: %v", err)
	}
	magic := h.encode()
	magic[0] = 'M'
	if _, err := parseHeader(resum(magic)); !errors.Is(err, errHeader) {
		t.Errorf("another magic: %v", err)
	}
	version := h.encode()
	version[11] = 2
	if _, err := parseHeader(resum(version)); !errors.Is(err, errVersion) {
		t.Errorf("another version: %v", err)
	}
	for _, n := range []int{0, 31, 33} {
		if _, err := parseHeader(append(h.encode(), 0)[:n]); !errors.Is(err, errHeader) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

// FuzzParseRecord: what parses is what the encoder writes, byte for byte; and the place is part of it.
func FuzzParseRecord(f *testing.F) {
	f.Add(appendFrame(nil, 1, 32, []byte("payload")), uint32(1), int64(32))
	f.Add(appendMark(nil, 2, 99, 64), uint32(2), int64(99))
	f.Add([]byte{0, 0, 0, 0, 0, 0, 0, 0, 0}, uint32(1), int64(32))
	f.Add([]byte{0x80, 0, 0, 8, 1, 2, 3, 4}, uint32(1), int64(1<<62))
	f.Fuzz(func(t *testing.T, b []byte, segment uint32, offset int64) {
		r, err := parseRecord(b, segment, offset, testMax)
		if err != nil {
			if r.mark || r.durable != 0 || r.payload != nil || r.size != 0 {
				t.Fatalf("a result with an error: %+v", r)
			}
			return
		}
		var again []byte
		if r.mark {
			again = appendMark(nil, segment, offset, r.durable)
		} else {
			again = appendFrame(nil, segment, offset, r.payload)
		}
		if !bytes.Equal(again, b[:r.size]) {
			t.Fatalf("%x parses but encodes to %x", b[:r.size], again)
		}
		if _, err := parseRecord(b, segment, offset+1, testMax); err == nil {
			t.Fatal("valid at two offsets")
		}
	})
}

func FuzzParseHeader(f *testing.F) {
	f.Add(header{segment: 1}.encode())
	f.Add(header{segment: 999_999, base: 1 << 63}.encode())
	f.Add(make([]byte, segmentHeader))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := parseHeader(b)
		if err != nil {
			if h != (header{}) {
				t.Fatal("a result with an error")
			}
			return
		}
		if !bytes.Equal(h.encode(), b) {
			t.Fatalf("%x parses but encodes to %x", b, h.encode())
		}
	})
}

// FuzzOpenLog: whatever a segment holds behind its header, opening it is an error or a log, and recovery is final:
// the second opening finds the same frames and nothing to repair.
func FuzzOpenLog(f *testing.F) {
	m := NewMem()
	l, _, _ := mustOpen(f, m)
	mustAppend(f, l, 0, 3)
	l.Sync()
	mustAppend(f, l, 3, 5)
	f.Add([]byte(get(f, m, "log.000001")[segmentHeader:800]))
	f.Add([]byte{})
	f.Add(append(appendFrame(nil, 1, segmentHeader, []byte("one")), 0, 0, 0, 1))
	f.Fuzz(func(t *testing.T, b []byte) {
		m := NewMem()
		put(t, m, "log.000001", string(append(header{segment: 1}.encode(), b...)))
		m.SyncDir(".")
		l, rec, frames, err := tryOpen(m)
		if err != nil {
			if _, ok := errors.AsType[*CorruptError](err); !ok || l != nil || rec != nil {
				t.Fatalf("%v %v %v", l, rec, err)
			}
			return
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		l, rec2, again := mustOpen(t, m)
		defer l.Close()
		if !rec2.Clean || rec2.Torn != nil || len(again) != len(frames) {
			t.Fatalf("first %+v, then %+v", rec, rec2)
		}
		for i := range frames {
			if !bytes.Equal(frames[i], again[i]) {
				t.Fatalf("frame %d changed", i)
			}
		}
	})
}

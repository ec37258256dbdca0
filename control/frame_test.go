package control

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"testing"
	"time"
)

// bytesConn reads fixed bytes and forgets what is written.
type bytesConn struct {
	net.Conn
	r      io.Reader
	w      bytes.Buffer
	closed bool
}

func (c *bytesConn) Read(p []byte) (int, error)  { return c.r.Read(p) }
func (c *bytesConn) Write(p []byte) (int, error) { return c.w.Write(p) }
func (c *bytesConn) Close() error                { c.closed = true; return nil }
func (c *bytesConn) SetDeadline(time.Time) error { return nil }

func spliced(in []byte) (*Spliced, *bytesConn) {
	c := &bytesConn{r: bytes.NewReader(in)}
	return newSpliced(c, bufio.NewReader(c.r)), c
}

func frame(n uint32, data string) []byte {
	return append(binary.BigEndian.AppendUint32(nil, n), data...)
}

func TestFramesEndOnlyInOrder(t *testing.T) {
	whole := append(append(frame(5, "hello"), frame(1, "!")...), frame(0, "")...)
	s, _ := spliced(whole)
	if got, err := io.ReadAll(s); err != nil || string(got) != "hello!" {
		t.Fatalf("%q, %v", got, err)
	}
	if n, err := s.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Fatalf("after the end: %d, %v", n, err)
	}
	for n := range whole {
		s, _ := spliced(whole[:n])
		if got, err := io.ReadAll(s); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatalf("cut after %d bytes: %q, %v", n, got, err)
		}
	}
}

func TestFrameIsBounded(t *testing.T) {
	s, c := spliced(append(frame(maxFrame+1, ""), make([]byte, maxFrame+1)...))
	if n, err := s.Read(make([]byte, 8)); err == nil || n != 0 {
		t.Fatalf("%d bytes of an oversized frame", n)
	}
	if !c.closed {
		t.Fatal("the connection goes on")
	}
}

func TestFramesWritten(t *testing.T) {
	s, c := spliced(nil)
	big := make([]byte, 2*maxFrame+1)
	if n, err := s.Write(big); n != len(big) || err != nil {
		t.Fatal(n, err)
	}
	s.CloseWrite()
	back, _ := spliced(c.w.Bytes())
	if got, err := io.ReadAll(back); err != nil || !bytes.Equal(got, big) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	if want := len(big) + 3*4 + 4; c.w.Len() != want {
		t.Fatalf("%d bytes on the wire, want %d", c.w.Len(), want)
	}
}

func FuzzFrames(f *testing.F) {
	f.Add(append(frame(5, "hello"), frame(0, "")...))
	f.Add(frame(1<<31, "x"))
	f.Fuzz(func(t *testing.T, in []byte) {
		s, _ := spliced(in)
		got, err := io.ReadAll(s)
		if len(got) > len(in) {
			t.Fatal("more out than in")
		}
		if err != nil {
			return
		}
		// What ended in order is made of whole frames: written again it reads the same.
		out, c := spliced(nil)
		out.Write(got)
		out.CloseWrite()
		again, _ := spliced(c.w.Bytes())
		if b, err := io.ReadAll(again); err != nil || !bytes.Equal(b, got) {
			t.Fatalf("%v", err)
		}
	})
}

package session

import (
	"bytes"
	"io"
	"net"
	"testing"
	"time"

	"github.com/sovereignmesh/meshkey/internal/wire"
	"github.com/sovereignmesh/meshkey/keys"
)

// What parses re-encodes to the same bytes, so each value has one form; on error there is no value.
func FuzzParseBody(f *testing.F) {
	for _, b := range bodies() {
		data, err := Encode(b)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add(wire.MustMarshal([]any{uint64(200), "later"}))
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := ParseBody(data)
		if err != nil {
			if b != nil {
				t.Fatal("a body with an error")
			}
			return
		}
		if _, later := b.(Unknown); later {
			return
		}
		again, err := Encode(b)
		if err != nil || !bytes.Equal(again, data) {
			t.Fatalf("%x re-encodes to %x, %v", data, again, err)
		}
	})
}

func FuzzParseHeartbeat(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{0xa0})
	f.Add(wire.MustMarshal(Heartbeat{Health: &Health{Seq: 1, Version: "1", ClockDrift: -1, AuditHead: [32]byte{1}}, Degree: 3, Digest: [8]byte{1}, Ping: 2}))
	f.Add(wire.MustMarshal(map[uint64]any{1: map[uint64]any{1: 1, 200: "x"}, 128: []int{1}}))
	f.Fuzz(func(t *testing.T, data []byte) {
		h, ignored, err := ParseHeartbeat(data)
		if err != nil {
			if h != (Heartbeat{}) || ignored != 0 {
				t.Fatal("a heartbeat with an error")
			}
			return
		}
		again, err := EncodeHeartbeat(h)
		if err != nil {
			t.Fatal(err)
		}
		if ignored == 0 && !isZero(data) && !bytes.Equal(again, data) {
			t.Fatalf("%x re-encodes to %x", data, again)
		}
	})
}

func FuzzStreamBodies(f *testing.F) {
	open, _ := encodeOpen(Request{Service: "echo", Flags: 1})
	relay, _ := encodeOpen(Request{Service: RelayService, Target: keys.NodeID{1}})
	f.Add(open)
	f.Add(relay)
	f.Add(encodeRefuse(RefusedError{CodeNotAdmitted, 9}))
	f.Add(encodeReset(CodeRevoked))
	f.Add(encodeRekey(300))
	f.Add(encodeWarm(true))
	f.Fuzz(func(t *testing.T, data []byte) {
		same := func(name string, again []byte, err error) {
			if err != nil || !bytes.Equal(again, data) {
				t.Fatalf("%s %x re-encodes to %x, %v", name, data, again, err)
			}
		}
		if r, err := parseOpen(data); err == nil {
			again, err := encodeOpen(r)
			same("OPEN", again, err)
		} else if r != (Request{}) {
			t.Fatal("a request with an error")
		}
		if e, err := parseRefuse(data); err == nil {
			same("REFUSE", encodeRefuse(*e), nil)
		} else if e != nil {
			t.Fatal("a refusal with an error")
		}
		if e, err := parseReset(data); err == nil {
			same("RESET", encodeReset(e.Code), nil)
		} else if e != nil {
			t.Fatal("a reset with an error")
		}
		if n, err := parseRekey(data); err == nil {
			same("REKEY", encodeRekey(n), nil)
		}
		if r, err := parseWarm(data); err == nil {
			same("WARM", encodeWarm(r), nil)
		}
		if c, err := ParseClose(data); err == nil {
			same("CLOSE", encodeReset(c), nil)
		}
	})
}

// feed is a connection that yields fixed bytes and then ends, and takes whatever is written.
type feed struct {
	io.Reader
	wrote int
}

func (f *feed) Write(p []byte) (int, error)      { f.wrote += len(p); return len(p), nil }
func (*feed) Close() error                       { return nil }
func (*feed) LocalAddr() net.Addr                { return nil }
func (*feed) RemoteAddr() net.Addr               { return nil }
func (*feed) SetDeadline(time.Time) error        { return nil }
func (*feed) SetReadDeadline(t time.Time) error  { return nil }
func (*feed) SetWriteDeadline(t time.Time) error { return nil }

// Whatever a stranger writes after 0x20, he gets nothing: no stream, no byte.
func FuzzReadS1(f *testing.F) {
	e := newEnds(keys.SuiteAES)
	l := newLiar(f, e.dialer)
	s1 := l.s1(f, typeOpen, openBody(f, "echo"))[1:]
	bad := bytes.Clone(s1)
	bad[len(bad)-1] ^= 1
	f.Add(bad)
	f.Add(s1[:len(s1)-1])
	f.Fuzz(func(t *testing.T, data []byte) {
		if bytes.HasPrefix(data, s1) {
			return // the owner
		}
		c := &feed{Reader: bytes.NewReader(data)}
		if in, err := ReadS1(c, e.acceptorTags, time.Now().Add(time.Second), false); err == nil || in != nil {
			t.Fatal("a stranger has a stream")
		}
		if c.wrote != 0 {
			t.Fatal("a stranger was answered")
		}
	})
}

// The opener of control records: bytes of any kind end in an error, never in a record.
func FuzzControlReceive(f *testing.F) {
	k := testSession(keys.SuiteAES)
	h := newHalf(k.Suite, k.K2) // not the key of this direction: no input can open
	f.Add(rawRecord(f, &h, byte(RecordControl), []byte{0x81, 20}))
	f.Add([]byte{0xff, 0xff, 1})
	f.Add([]byte{0, 16})
	f.Fuzz(func(t *testing.T, data []byte) {
		c := NewControl(&feed{Reader: bytes.NewReader(data)}, k, keys.RoleAcceptor)
		for range 3 {
			if kind, body, err := c.Receive(); err == nil || kind != 0 || body != nil {
				t.Fatalf("type %d, %x", kind, body)
			}
		}
	})
}

// A peer that has the keys may send any record: the stream delivers only data and ends in one of the known errors.
func FuzzStreamRecords(f *testing.F) {
	f.Add([]byte{typeData, 3, 'a', 'b', 'c', typeEOF, 1, 0x80})
	f.Add([]byte{typeReset, 2, 0x81, 5})
	f.Add([]byte{typeRekey, 2, 0x81, 1, 200, 0, typeData, 0})
	k := testSession(keys.SuiteChaCha).K1
	f.Fuzz(func(t *testing.T, script []byte) {
		out := newHalf(keys.SuiteChaCha, k)
		var bytesOn, want []byte
		ended := false
		for len(script) >= 2 {
			kind, n := script[0], min(int(script[1]), len(script)-2)
			body := script[2 : 2+n]
			script = script[2+n:]
			bytesOn = append(bytesOn, rawRecord(t, &out, kind, body)...)
			if !ended && kind == typeData {
				want = append(want, body...)
			}
			if kind != typeData && kind < firstIgnored {
				ended = true
			}
		}
		ring := NewKeyring(testSession(keys.SuiteChaCha), keys.RoleDialer, nil)
		s := newStream(&feed{Reader: bytes.NewReader(bytesOn)}, ring, 0, 0, k, k, true)
		got, err := io.ReadAll(s)
		if !bytes.Equal(got, want) {
			t.Fatalf("delivered %x, want %x (%v)", got, want, err)
		}
		s.Reset(CodeNormal)
	})
}

package session

import (
	"bytes"
	"errors"
	"net"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sovereignmesh/meshkey/internal/wire"
	"github.com/sovereignmesh/meshkey/keys"
)

func controlPair(t testing.TB, suite keys.Suite) (dialer, acceptor *Control) {
	c1, c2 := tcpPair(t)
	k := testSession(suite)
	dialer, acceptor = NewControl(c1, k, keys.RoleDialer), NewControl(c2, k, keys.RoleAcceptor)
	t.Cleanup(func() {
		for _, c := range []*Control{dialer, acceptor} {
			c.Reset()
			for {
				if _, _, err := c.Receive(); err != nil {
					break
				}
			}
		}
	})
	return dialer, acceptor
}

func TestControlRecords(t *testing.T) {
	for _, suite := range append(suites, keys.SuiteEnroll) {
		d, a := controlPair(t, suite)
		bodies := [][]byte{nil, {1}, bytes.Repeat([]byte{2}, 1000), bytes.Repeat([]byte{3}, MaxBody)}
		for _, pair := range [][2]*Control{{d, a}, {a, d}} {
			go func() {
				for _, b := range bodies {
					if err := pair[0].Send(RecordControl, b); err != nil {
						t.Error(err)
					}
				}
			}()
			for _, b := range bodies {
				kind, got, err := pair[1].Receive()
				if err != nil || kind != RecordControl || !bytes.Equal(got, b) {
					t.Fatalf("%s: %d bytes as type %d: %v", suite, len(got), kind, err)
				}
			}
		}
		if err := d.Send(RecordControl, make([]byte, MaxBody+1)); err == nil {
			t.Fatal("sent more than a record holds")
		}
		if err := d.Send(RecordControl, nil); err != nil {
			t.Fatalf("a body too long must not end the session: %v", err)
		}
	}
}

// Await returns when there is something to receive, takes nothing of it, and holds no buffer meanwhile.
func TestControlAwait(t *testing.T) {
	d, a := controlPair(t, keys.SuiteAES)
	for i := range byte(3) {
		if err := d.Send(RecordControl, []byte{i}); err != nil {
			t.Fatal(err)
		}
		a.Await()
		a.Await()
		if a.lent != nil {
			t.Fatal("a buffer is held while waiting")
		}
		if kind, b, err := a.Receive(); err != nil || kind != RecordControl || !bytes.Equal(b, []byte{i}) {
			t.Fatalf("type %d, %x, %v", kind, b, err)
		}
	}
	// The end is told, and the connection still open.
	if err := d.Send(RecordClose, wire.MustMarshal(closeBody{Code: CodeShutdown})); err != nil {
		t.Fatal(err)
	}
	a.Await()
	if kind, _, err := a.Receive(); err != nil || kind != RecordClose {
		t.Fatal(kind, err)
	}
	a.SetReadDeadline(time.Now().Add(patience))
	began := time.Now()
	a.Await() // what is over is not waited for
	if time.Since(began) > patience/2 {
		t.Fatal("waits for a record behind CLOSE")
	}
	var ce *ClosedError
	if _, _, err := a.Receive(); !errors.As(err, &ce) || ce.Code != CodeShutdown {
		t.Fatal(err)
	}
	a.Await()
	d, a = controlPair(t, keys.SuiteAES)
	d.Reset()
	a.Await()
	if _, _, err := a.Receive(); !errors.Is(err, ErrTruncated) {
		t.Fatal(err)
	}
	a.Await()
}

// Records of many senders arrive whole and, of each sender, in order.
func TestControlSendIsOrdered(t *testing.T) {
	d, a := controlPair(t, keys.SuiteAES)
	const senders, each = 8, 200
	var wg sync.WaitGroup
	for s := range senders {
		wg.Go(func() {
			for i := range each {
				if err := d.Send(RecordControl, []byte{byte(s), byte(i)}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	var next [senders]byte
	for range senders * each {
		_, b, err := a.Receive()
		if err != nil || b[1] != next[b[0]] {
			t.Fatalf("%v %v", b, err)
		}
		next[b[0]]++
	}
	wg.Wait()
}

func TestControlTruncation(t *testing.T) {
	for name, cutAt := range map[string]int{"between records": 0, "in the length": 1, "in a record": 10} {
		t.Run(name, func(t *testing.T) {
			d, a := controlPair(t, keys.SuiteAES)
			rec := make([]byte, 64)
			n, err := d.out.seal(rec, []byte{byte(RecordControl), 0x80})
			if err != nil {
				t.Fatal(err)
			}
			d.conn.Write(rec[:min(cutAt, n)])
			d.conn.Close()
			if _, _, err := a.Receive(); !errors.Is(err, ErrTruncated) {
				t.Fatal(err)
			}
			if _, _, err := a.Receive(); !errors.Is(err, ErrTruncated) {
				t.Fatalf("the second time: %v", err)
			}
		})
	}
}

func TestControlClose(t *testing.T) {
	d, a := controlPair(t, keys.SuiteChaCha)
	d.Close(CodeDuplicate)
	d.Close(CodeNormal) // the first wins
	kind, body, err := a.Receive()
	if err != nil || kind != RecordClose {
		t.Fatal(kind, err)
	}
	if code, err := ParseClose(body); err != nil || code != CodeDuplicate {
		t.Fatal(code, err)
	}
	_, _, err = a.Receive()
	if e, ok := errors.AsType[*ClosedError](err); !ok || e.Code != CodeDuplicate {
		t.Fatal(err)
	}
	if err := d.Send(RecordControl, nil); !errors.Is(err, ErrEnded) {
		t.Fatal(err)
	}
	if _, _, err := d.Receive(); !errors.Is(err, ErrEnded) {
		t.Fatal(err)
	}
}

// Close and Reset return at once though a sender is blocked by a peer that reads nothing.
// A close in the middle of others' writes is told all the same.
func TestControlCloseAmongWriters(t *testing.T) {
	for range 50 {
		d, a := controlPair(t, keys.SuiteAES)
		var wg sync.WaitGroup
		began := make(chan struct{}, 3)
		for range 3 {
			wg.Go(func() {
				for d.Send(RecordControl, make([]byte, 1000)) == nil {
					select {
					case began <- struct{}{}:
					default:
					}
				}
			})
		}
		wg.Go(func() {
			<-began
			d.Close(CodeShutdown)
		})
		var ce *ClosedError
		for {
			if _, _, err := a.Receive(); err != nil {
				if !errors.As(err, &ce) || ce.Code != CodeShutdown {
					t.Error("instead of CLOSE:", err)
				}
				break
			}
		}
		a.Reset()
		wg.Wait()
		if t.Failed() {
			return
		}
	}
}

func TestControlCloseDoesNotBlock(t *testing.T) {
	for name, end := range map[string]func(c *Control){"Close": func(c *Control) { c.Close(CodeRevoked) }, "Reset": (*Control).Reset} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c1, c2 := net.Pipe()
				defer c2.Close()
				c := NewControl(c1, testSession(keys.SuiteAES), keys.RoleDialer)
				blocked := make(chan error, 1)
				go func() { blocked <- c.Send(RecordControl, nil) }()
				synctest.Wait()
				began := time.Now()
				end(c)
				if d := time.Since(began); d != 0 {
					t.Fatalf("took %v", d)
				}
				if err := <-blocked; !errors.Is(err, ErrEnded) {
					t.Fatal(err)
				}
			})
		})
	}
	t.Run("Close to a peer that takes nothing", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c1, c2 := net.Pipe()
			defer c2.Close()
			c := NewControl(c1, testSession(keys.SuiteAES), keys.RoleDialer)
			began := time.Now()
			c.Close(CodeRevoked)
			if d := time.Since(began); d > closeWriteTimeout {
				t.Fatalf("took %v", d)
			}
		})
	})
}

// A write the peer does not take within 15 s fails, and the session with it.
func TestControlWriteTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c1, c2 := net.Pipe()
		defer c2.Close()
		c := NewControl(c1, testSession(keys.SuiteAES), keys.RoleDialer)
		defer c.Reset()
		began := time.Now()
		first := c.Send(RecordControl, nil)
		if first == nil || time.Since(began) != writeTimeout {
			t.Fatalf("%v after %v", first, time.Since(began))
		}
		if again := c.Send(RecordControl, nil); again != first {
			t.Fatalf("the error is not final: %v", again)
		}
	})
}

func TestControlResetIsRST(t *testing.T) {
	d, a := controlPair(t, keys.SuiteAES)
	d.Reset()
	if _, _, err := a.Receive(); !errors.Is(err, ErrTruncated) || !errors.Is(err, syscall.ECONNRESET) {
		t.Fatalf("a reset is told as %v", err)
	}
}

// Every byte of a control record matters, in each direction and suite; the first failure closes the connection.
func TestTamperControlRecord(t *testing.T) {
	for _, suite := range suites {
		for _, back := range []bool{false, true} {
			for i := range headerSize + 1 + 3 + tagSize {
				from, to := controlPair(t, suite)
				if back {
					from, to = to, from
				}
				rec := make([]byte, 64)
				n, err := from.out.seal(rec, []byte{byte(RecordControl), 1, 2, 3})
				if err != nil {
					t.Fatal(err)
				}
				rec[i] ^= 1
				from.conn.Write(rec[:n])
				if i < headerSize {
					from.conn.(*net.TCPConn).CloseWrite() // a longer length waits for more
				}
				kind, body, err := to.Receive()
				if err == nil || kind != 0 || body != nil {
					t.Fatalf("byte %d: type %d, %x", i, kind, body)
				}
				if i >= headerSize {
					if !errors.Is(err, ErrRecord) {
						t.Fatalf("byte %d: %v", i, err)
					}
					wait(t, "connection is closed", func() bool {
						_, err := from.conn.Write([]byte{0})
						return err != nil
					})
				}
				from.Reset()
				to.Reset()
			}
		}
	}
}

// Records in another order, or twice, do not open.
func TestControlReplayAndReorder(t *testing.T) {
	seal := func(c *Control, b byte) []byte {
		rec := make([]byte, 64)
		n, err := c.out.seal(rec, []byte{byte(RecordControl), b})
		if err != nil {
			t.Fatal(err)
		}
		return rec[:n]
	}
	d, a := controlPair(t, keys.SuiteAES)
	one := seal(d, 1)
	d.conn.Write(one)
	d.conn.Write(one)
	a.Receive()
	if _, _, err := a.Receive(); !errors.Is(err, ErrRecord) {
		t.Fatalf("replayed: %v", err)
	}
	d, a = controlPair(t, keys.SuiteAES)
	one, two := seal(d, 1), seal(d, 2)
	d.conn.Write(append(two, one...))
	if _, _, err := a.Receive(); !errors.Is(err, ErrRecord) {
		t.Fatalf("reordered: %v", err)
	}
	// A record reflected to its sender.
	d, _ = controlPair(t, keys.SuiteAES)
	in := newHalf(keys.SuiteAES, testSession(keys.SuiteAES).K2)
	if _, err := in.open(nil, seal(d, 1)); !errors.Is(err, ErrRecord) {
		t.Fatal("the directions share a key")
	}
}

func TestControlRules(t *testing.T) {
	for name, plain := range map[string][]byte{
		"type 0":            {0},
		"unknown low type":  {127, 1},
		"CLOSE, no code":    {byte(RecordClose), 0x81, 0},
		"CLOSE, empty":      {byte(RecordClose)},
		"CLOSE, long form":  {byte(RecordClose), 0x81, 0x18, 1},
		"CLOSE, more bytes": {byte(RecordClose), 0x81, 1, 0},
	} {
		t.Run(name, func(t *testing.T) {
			d, a := controlPair(t, keys.SuiteAES)
			rec := make([]byte, 64)
			n, _ := d.out.seal(rec, plain)
			d.conn.Write(rec[:n])
			if _, _, err := a.Receive(); !errors.Is(err, ErrProtocol) {
				t.Fatal(err)
			}
		})
	}
	t.Run("length", func(t *testing.T) {
		d, a := controlPair(t, keys.SuiteAES)
		d.conn.Write([]byte{0, minRecord - 1})
		if _, _, err := a.Receive(); !errors.Is(err, ErrProtocol) {
			t.Fatal(err)
		}
	})
	t.Run("after CLOSE", func(t *testing.T) {
		d, a := controlPair(t, keys.SuiteAES)
		d.Send(RecordClose, []byte{0x81, 1})
		d.Send(RecordControl, []byte{0x80})
		a.Receive()
		if kind, _, err := a.Receive(); err == nil {
			t.Fatalf("type %d after CLOSE", kind)
		}
	})
}

func TestControlIgnoresHighTypes(t *testing.T) {
	d, a := controlPair(t, keys.SuiteAES)
	d.Send(128, []byte("later"))
	d.Send(255, nil)
	d.Send(RecordHeartbeat, nil)
	if kind, body, err := a.Receive(); err != nil || kind != RecordHeartbeat || len(body) != 0 {
		t.Fatal(kind, err)
	}
	if u := a.Limits(time.Now()); u.Ignored != 2 {
		t.Fatalf("ignored %d", u.Ignored)
	}
}

// The switch of keys happens between two records, in one direction at a time.
func TestControlSwitchesKeys(t *testing.T) {
	d, a := controlPair(t, keys.SuiteAES)
	next := keys.TrafficKeyFromBytes(bytes.Repeat([]byte{9}, 32))
	var wg sync.WaitGroup
	for range 4 { // others send meanwhile
		wg.Go(func() {
			for range 50 {
				d.Send(RecordControl, []byte("x"))
			}
		})
	}
	wg.Go(func() { d.SendAndSwitch(RecordRekey, []byte("R3"), next) })
	for range 201 {
		kind, _, err := a.Receive()
		if err != nil {
			t.Fatal(err)
		}
		if kind == RecordRekey {
			a.SwitchReceive(next)
		}
	}
	wg.Wait()
	if err := d.Send(RecordControl, nil); err != nil {
		t.Fatal(err)
	}
	if _, _, err := a.Receive(); err != nil {
		t.Fatalf("after the switch: %v", err)
	}
	if err := a.Send(RecordControl, nil); err != nil {
		t.Fatal(err)
	}
	if _, _, err := d.Receive(); err != nil {
		t.Fatalf("the other direction changed too: %v", err)
	}
	if u := a.Limits(time.Now()); u.KeyRecords > 202 || u.Received == 0 {
		t.Fatalf("%+v", u)
	}
}

func TestLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c1, c2 := net.Pipe()
		d := NewControl(c1, testSession(keys.SuiteAES), keys.RoleDialer)
		a := NewControl(c2, testSession(keys.SuiteAES), keys.RoleAcceptor)
		go d.Send(RecordHeartbeat, nil)
		a.Receive()
		synctest.Wait()
		for _, c := range []*Control{d, a} {
			u := c.Limits(time.Now())
			if u.Busy || u.KeyRecords != 1 || u.KeyBytes != headerSize+minRecord || u.Sent+u.Received != headerSize+minRecord {
				t.Fatalf("%+v", u)
			}
		}
		go d.Send(RecordControl, nil)
		a.Receive()
		synctest.Wait()
		if !d.Limits(time.Now()).Busy || !a.Limits(time.Now()).Busy {
			t.Fatal("a control record is not heartbeats")
		}
		time.Sleep(rekeyBusy)
		if u := d.Limits(time.Now()); u.KeyAge < rekeyBusy || !u.Due(false, 0) {
			t.Fatalf("%+v", u)
		}
		d.Reset()
		a.Reset()
		a.Receive()
	})
	for _, c := range []struct {
		name        string
		u           Usage
		streams     bool
		jitter      float64
		due         bool
		overdueThen bool
	}{
		{"new", Usage{}, false, 0, false, false},
		{"idle", Usage{KeyAge: rekeyIdle - 1}, false, 0, false, false},
		{"idle, old", Usage{KeyAge: rekeyIdle}, false, 0, true, false},
		{"busy", Usage{KeyAge: rekeyBusy - 1, Busy: true}, false, 0, false, false},
		{"busy, old", Usage{KeyAge: rekeyBusy, Busy: true}, false, 0, true, false},
		{"streams, old", Usage{KeyAge: rekeyBusy}, true, 0, true, false},
		{"jitter", Usage{KeyAge: rekeyBusy*9/10 + time.Millisecond}, true, 0.99999999, true, false},
		{"bytes", Usage{KeyBytes: rekeyBytes}, false, 0, true, false},
		{"records", Usage{KeyRecords: rekeyRecords}, false, 0, true, false},
		{"too many bytes", Usage{KeyBytes: maxKeyBytes}, false, 0, true, true},
		{"too many records", Usage{KeyRecords: maxKeyRecords}, false, 0, true, true},
	} {
		if got := c.u.Due(c.streams, c.jitter); got != c.due {
			t.Errorf("%s: due %v", c.name, got)
		}
		if got := c.u.Overdue(0); got != c.overdueThen {
			t.Errorf("%s: overdue %v", c.name, got)
		}
		if !c.u.Overdue(rekeyGrace) || c.u.Overdue(rekeyGrace-1) != c.overdueThen {
			t.Errorf("%s: grace", c.name)
		}
	}
}

// A key at its limit seals and opens nothing more.
func TestKeyLimit(t *testing.T) {
	k := testSession(keys.SuiteAES).K1
	for name, set := range map[string]func(h *half){
		"bytes":   func(h *half) { h.bytes = maxKeyBytes - 10 },
		"records": func(h *half) { h.counter = maxKeyRecords },
	} {
		out, in := newHalf(keys.SuiteAES, k), newHalf(keys.SuiteAES, k)
		rec := rawRecord(t, &out, typeData, []byte("x"))
		set(&out)
		set(&in)
		if _, err := out.seal(make([]byte, 64), []byte{0}); !errors.Is(err, ErrKeyLimit) {
			t.Errorf("%s: sealed: %v", name, err)
		}
		if _, err := in.open(nil, rec); !errors.Is(err, ErrKeyLimit) {
			t.Errorf("%s: opened: %v", name, err)
		}
	}
}

// A control session that is idle holds no buffer.
func TestIdleControlHoldsNoBuffer(t *testing.T) {
	wait(t, "no buffers of earlier tests", func() bool { return Buffered() == 0 })
	d, a := controlPair(t, keys.SuiteAES)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			if _, _, err := a.Receive(); err != nil {
				return
			}
		}
	}()
	d.Send(RecordControl, make([]byte, MaxBody))
	wait(t, "all buffers are back", func() bool { return a.Limits(time.Now()).Received > 0 && Buffered() == 0 })
	a.Reset()
	<-done
}

package session

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"testing"

	"github.com/sovereignmesh/meshkey/keys"
)

// filled is an Early with text to send, and how often it was asked.
func filled(text string, asked *int) *Early {
	return &Early{Fill: func(p []byte) int {
		*asked++
		return copy(p, text)
	}}
}

// Early data goes out with OPEN in one write, on fresh and on parked connections of either direction, and what is written later follows it.
func TestEarly(t *testing.T) {
	big := string(bytes.Repeat([]byte("0123456789abcdef"), maxFirst/16+1))
	for _, suite := range suites {
		for name, text := range map[string]string{"none": "", "some": "GET /", "more than fits": big} {
			for _, how := range []string{"fresh", "parked", "reverse"} {
				e := newEnds(suite)
				open, incoming := e.earlyWay(t, how)
				asked := 0
				early := filled(text, &asked)
				done := make(chan *Stream, 1)
				go func() {
					in, err := incoming()
					if err != nil {
						t.Error(err)
						done <- nil
						return
					}
					s, err := in.Accept()
					if err != nil {
						t.Error(err)
					}
					done <- s
				}()
				a, err := open(early)
				if err != nil {
					t.Fatal(name, how, err)
				}
				b := <-done
				sent := text[:min(len(text), maxFirst)]
				if _, wrote := a.Moved(); wrote != uint64(len(sent)) || asked != 1 {
					t.Fatal(name, how, wrote, asked)
				}
				if _, err := io.WriteString(a, "rest"); err != nil {
					t.Fatal(err)
				}
				if err := a.CloseWrite(); err != nil {
					t.Fatal(err)
				}
				if got, err := io.ReadAll(b); err != nil || string(got) != sent+"rest" {
					t.Fatalf("%s %s: %d bytes, %v", name, how, len(got), err)
				}
				expect(t, b, a, "back")
				a.Reset(CodeNormal)
				b.Reset(CodeNormal)
			}
		}
	}
}

// earlyWay returns how to open and how to meet the request.
func (e *ends) earlyWay(t *testing.T, how string) (open func(*Early) (*Stream, error), meet func() (*Incoming, error)) {
	req := Request{Service: "echo"}
	if how == "fresh" {
		c1, c2 := tcpPair(t)
		return func(early *Early) (*Stream, error) { return Open(context.Background(), c1, e.dialer, req, early) },
			func() (*Incoming, error) { return incoming(c2, e.acceptorTags, false) }
	}
	from, to := e.parkPair(t, how == "reverse")
	if how == "reverse" {
		from, to = to, from
	}
	return func(early *Early) (*Stream, error) { return from.Open(context.Background(), req, early) },
		func() (*Incoming, error) { return to.Next(context.Background(), nil) }
}

// Only REFUSE and RESET say that nobody has seen early data. Then it goes again with the next OPEN, without another question; when no answer
// came it must not.
func TestEarlyPending(t *testing.T) {
	for name, c := range map[string]struct {
		end     func(in *Incoming)
		pending bool
	}{
		"refused":    {func(in *Incoming) { in.Refuse(CodeUnreachable, 1) }, false},
		"reset":      {func(in *Incoming) { in.Reset(CodeDuplicate) }, false},
		"cut":        {func(in *Incoming) { in.s.conn.Close() }, true},
		"impossible": {func(in *Incoming) { in.s.answer(typeWarm, encodeWarm(false)) }, true},
	} {
		for _, how := range []string{"fresh", "parked"} {
			e := newEnds(keys.SuiteAES)
			open, meet := e.earlyWay(t, how)
			asked := 0
			early := filled("once", &asked)
			go func() {
				if in, err := meet(); err == nil {
					c.end(in)
				}
			}()
			_, err := open(early)
			if err == nil || early.Pending() != c.pending || asked != 1 {
				t.Fatal(name, how, err, early.Pending(), asked)
			}
			if c.pending {
				continue
			}
			open, meet = e.earlyWay(t, "fresh")
			done := make(chan *Stream, 1)
			go func() {
				in, err := meet()
				if err != nil {
					t.Error(err)
				}
				s, _ := in.Accept()
				done <- s
			}()
			a, err := open(early)
			if err != nil {
				t.Fatal(err)
			}
			a.CloseWrite()
			b := <-done
			if got, err := io.ReadAll(b); err != nil || string(got) != "once" || asked != 1 {
				t.Fatalf("%s: %q %v, asked %d times", name, got, err, asked)
			}
			a.Reset(CodeNormal)
			b.Reset(CodeNormal)
		}
	}
}

// cramped takes so many bytes of a write, and then fails.
type cramped struct {
	net.Conn
	room int
}

func (c *cramped) Write(p []byte) (int, error) {
	n := min(c.room, len(p))
	c.room -= n
	if n < len(p) {
		return n, errors.New("no room")
	}
	return n, nil
}

// Data is pending only from the first byte of its record on.
func TestEarlyNotWritten(t *testing.T) {
	e := newEnds(keys.SuiteAES)
	body, err := encodeOpen(Request{Service: "echo"})
	if err != nil {
		t.Fatal(err)
	}
	s1 := 1 + len(keys.Tag{}) + headerSize + minRecord + len(body)
	for room, pending := range map[int]bool{0: false, 10: false, s1: false, s1 + 1: true} {
		near, far := net.Pipe()
		asked := 0
		early := filled("early", &asked)
		if _, err := Open(context.Background(), &cramped{near, room}, e.dialer, Request{Service: "echo"}, early); err == nil || asked != 1 || early.Pending() != pending {
			t.Errorf("%d bytes: %v, pending %v", room, err, early.Pending())
		}
		far.Close()
	}
	for room, pending := range map[int]bool{0: false, s1 - 1 - len(keys.Tag{}): false, s1: true} {
		from, _ := e.parkPair(t, false)
		from.s.conn = &cramped{from.s.conn, room}
		asked := 0
		early := filled("early", &asked)
		if _, err := from.Open(context.Background(), Request{Service: "echo"}, early); err == nil || asked != 1 || early.Pending() != pending {
			t.Errorf("parked, %d bytes: %v, pending %v", room, err, early.Pending())
		}
	}
}

// Nothing is taken from the application for an OPEN that does not go out.
func TestEarlyIsNotTakenInVain(t *testing.T) {
	e := newEnds(keys.SuiteAES)
	from, _ := e.parkPair(t, false)
	from.Close()
	asked := 0
	early := filled("kept", &asked)
	if _, err := from.Open(context.Background(), Request{Service: "echo"}, early); !errors.Is(err, ErrEnded) || asked != 0 || early.Pending() {
		t.Fatal(err, asked)
	}
	c1, _ := tcpPair(t)
	e.dialer.end()
	if _, err := Open(context.Background(), c1, e.dialer, Request{Service: "echo"}, early); err == nil || asked != 0 || early.Pending() {
		t.Fatal(err, asked)
	}
}

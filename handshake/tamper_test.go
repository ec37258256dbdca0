package handshake

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/internal/testrun"
	"github.com/sovereignmesh/meshkey/keys"
)

// relay is a man in the middle: it plays one whole handshake through Dial and Accept, both with everything around them, and hands
// each message to change. It returns how both ended and the messages they sent.
type relay struct {
	w      *world
	d, a   *member
	suite  keys.Suite
	id     identity.InviteID
	secret keys.InviteSecret

	dialer, acceptor outcome
	sent             []int // bytes sent in each message, in order
}

func newRelay(suite keys.Suite) *relay {
	w := newWorld("home")
	r := &relay{w: w, d: w.member("nas"), a: w.member("gpu1"), suite: suite, id: identity.NewInviteID(), secret: keys.NewInviteSecret()}
	if suite == keys.SuiteEnroll {
		r.d.local.Certificate = nil
	}
	return r
}

// run needs no goroutine for the dialer: the acceptor runs as the dialer's script. Both ends read only what the other sent.
func (r *relay) run(t testing.TB, change func(index int, m []byte)) {
	t.Helper()
	r.sent = nil
	acc := r.w.enrolling(r.a, r.id, r.secret)
	if r.suite != keys.SuiteEnroll {
		acc = r.w.acceptor(r.a)
	}
	toAcceptor, toDialer := make(chan []byte, 4), make(chan []byte, 4)
	pass := func(to chan<- []byte, b []byte) {
		m := append([]byte(nil), b...)
		r.sent = append(r.sent, len(m))
		change(len(r.sent), m)
		to <- m
	}
	dc := &chanConn{in: toDialer, out: func(b []byte) { pass(toAcceptor, b) }, done: func() { close(toAcceptor) }}
	ac := &chanConn{in: toAcceptor, out: func(b []byte) { pass(toDialer, b) }, done: func() { close(toDialer) }}
	done := make(chan struct{})
	go func() {
		defer close(done)
		var first [1]byte
		if _, err := readFull(ac, first[:]); err != nil {
			r.acceptor = outcome{nil, err}
			ac.Close()
			return
		}
		res, err := acc.Accept(context.Background(), ac, keys.Suite(first[0]), testSource, time.Now())
		r.acceptor = outcome{res, err}
	}()
	var res *Result
	var err error
	if r.suite == keys.SuiteEnroll {
		res, err = DialEnroll(context.Background(), dc, EnrollDial{
			Local: r.d.local, Issuer: r.a.key.NodeID(), Invite: r.id, Secret: r.secret, Now: testClock,
		})
	} else {
		res, err = Dial(context.Background(), dc, r.w.dialConfig(r.d, r.a, r.suite))
	}
	r.dialer = outcome{res, err}
	dc.Close()
	<-done
}

// TestTamper flips one bit of every byte of every message, in both directions, in every suite. Whoever reads the changed message
// ends without a session and without another byte.
func TestTamper(t *testing.T) {
	t.Parallel()
	for _, suite := range []keys.Suite{keys.SuiteChaCha, keys.SuiteAES, keys.SuiteEnroll} {
		r := newRelay(suite)
		r.run(t, func(int, []byte) {})
		if r.dialer.err != nil || r.acceptor.err != nil || len(r.sent) != 3 {
			t.Fatalf("untouched: %v, %v, messages %v", r.dialer.err, r.acceptor.err, r.sent)
		}
		sizes := append([]int(nil), r.sent...)
		for message, size := range sizes {
			t.Run(fmt.Sprintf("%#02x/M%d", uint8(suite), message+1), func(t *testing.T) {
				step := testrun.Stride(7)
				for i := 0; i < size; i += step {
					r.run(t, func(index int, m []byte) {
						if index == message+1 {
							m[i] ^= 1 << (i % 8)
						}
					})
					r.checkTampered(t, message+1, i)
				}
			})
		}
	}
}

// checkTampered: M1 changed, the acceptor is silent; M2 changed, the dialer shows nothing of itself; M3 changed, the acceptor
// has no session and says nothing more.
func (r *relay) checkTampered(t *testing.T, message, i int) {
	t.Helper()
	if len(r.sent) != message {
		t.Fatalf("M%d, byte %d changed: %d messages were sent", message, i, len(r.sent))
	}
	if r.acceptor.err == nil || r.acceptor.r != nil {
		t.Fatalf("M%d, byte %d changed: the acceptor has a session", message, i)
	}
	if message < 3 && (r.dialer.err == nil || r.dialer.r != nil) {
		t.Fatalf("M%d, byte %d changed: the dialer has a session", message, i)
	}
	switch message {
	case 1:
		if e := r.acceptor.err.(*Error); e.Reason != ReasonGate && e.Reason != ReasonSuite && e.Reason != ReasonShort {
			t.Fatalf("M1, byte %d changed: %v", i, e)
		}
	case 2:
		wantReason(t, r.dialer.err, ReasonNoise)
	case 3:
		wantReason(t, r.acceptor.err, ReasonNoise)
	}
}

// TestTruncatedAndSwapped: messages that are cut, or come from another handshake of the same two nodes.
func TestSwappedMessages(t *testing.T) {
	r := newRelay(keys.SuiteAES)
	var other [4][]byte
	r.run(t, func(index int, m []byte) { other[index] = append([]byte(nil), m...) })
	for message := 2; message <= 3; message++ {
		r.run(t, func(index int, m []byte) {
			if index == message {
				copy(m, other[message])
			}
		})
		r.checkTampered(t, message, -1)
	}
	// Only the ciphertext of the KEM, which travels in clear, from another handshake; and only the rest.
	for _, part := range [][2]int{{0, kemCiphertextSize}, {kemCiphertextSize, SizeM2}} {
		r.run(t, func(index int, m []byte) {
			if index == 2 {
				copy(m[part[0]:part[1]], other[2][part[0]:part[1]])
			}
		})
		r.checkTampered(t, 2, part[0])
	}
}

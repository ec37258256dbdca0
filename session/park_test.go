package session

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"testing"
	"time"

	"github.com/sovereignmesh/meshkey/keys"
)

// parkPair parks a connection from the session's dialer at its acceptor.
func (e *ends) parkPair(t testing.TB, reverse bool) (opener, other *Parked) {
	t.Helper()
	c1, c2 := tcpPair(t)
	type result struct {
		p   *Parked
		err error
	}
	ch := make(chan result, 1)
	go func() {
		in, err := incoming(c2, e.acceptorTags, false)
		if err != nil {
			ch <- result{nil, err}
			return
		}
		if warm, rev := in.Warm(); !warm || rev != reverse {
			t.Error("not the WARM that was sent")
		}
		if _, err := in.Accept(); err == nil {
			t.Error("a WARM was accepted")
		}
		p, err := in.Park()
		ch <- result{p, err}
	}()
	opener, err := Warm(context.Background(), c1, e.dialer, reverse)
	if err != nil {
		t.Fatal(err)
	}
	r := <-ch
	if r.err != nil {
		t.Fatal(r.err)
	}
	t.Cleanup(func() { opener.Close(); r.p.Close() })
	return opener, r.p
}

func TestParkedOpen(t *testing.T) {
	for _, suite := range suites {
		for _, reverse := range []bool{false, true} {
			e := newEnds(suite)
			from, to := e.parkPair(t, reverse)
			if reverse {
				from, to = to, from
			}
			if !from.CanOpen() || to.CanOpen() {
				t.Fatal("the wrong side may open")
			}
			if _, err := to.Open(context.Background(), Request{Service: "echo"}, nil); err == nil {
				t.Fatal("the wrong side opened")
			}
			if _, err := from.Next(context.Background(), nil); err == nil {
				t.Fatal("the wrong side waits")
			}
			ch := make(chan *Stream, 1)
			go func() {
				in, err := to.Next(context.Background(), "owner")
				if err != nil {
					t.Error(err)
					ch <- nil
					return
				}
				if in.Owner() != "owner" || in.Request().Service != "echo" {
					t.Errorf("%v %v", in.Owner(), in.Request())
				}
				s, err := in.Accept()
				if err != nil {
					t.Error(err)
				}
				ch <- s
			}()
			a, err := from.Open(context.Background(), Request{Service: "echo"}, nil)
			if err != nil {
				t.Fatal(err)
			}
			b := <-ch
			expect(t, a, b, "forth")
			expect(t, b, a, "back")
			if e.dialer.Streams() != 1 || e.acceptor.Streams() != 1 || len(e.dialer.parked) != 0 || len(e.acceptor.parked) != 0 {
				t.Fatal("memberships")
			}
			if _, err := from.Open(context.Background(), Request{Service: "echo"}, nil); err == nil {
				t.Fatal("a parked connection was used twice")
			}
			a.Close()
			if _, err := io.ReadAll(b); err != nil {
				t.Fatal(err)
			}
			b.Close()
		}
	}
}

func TestParkedRefused(t *testing.T) {
	e := newEnds(keys.SuiteAES)
	from, to := e.parkPair(t, false)
	go func() {
		if in, err := to.Next(context.Background(), nil); err == nil {
			in.Refuse(CodeNotAdmitted, 3)
		}
	}()
	_, err := from.Open(context.Background(), Request{Service: "echo"}, nil)
	if r, ok := errors.AsType[*RefusedError](err); !ok || r.AuditIndex != 3 {
		t.Fatal(err)
	}
}

// WARM is answered by the same WARM.
func TestWarmAnswerRules(t *testing.T) {
	for kind, body := range map[byte][]byte{
		typeWarm: encodeWarm(true), typeAccept: []byte(emptyBody), typeOpen: openBody(t, "echo"), typeData: {1},
	} {
		e := newEnds(keys.SuiteAES)
		c1, c2 := tcpPair(t)
		go func() {
			if in, err := incoming(c2, e.acceptorTags, false); err == nil {
				c2.Write(rawRecord(t, &in.s.out, kind, body))
			}
		}()
		if p, err := Warm(context.Background(), c1, e.dialer, false); !errors.Is(err, ErrProtocol) || p != nil {
			t.Fatalf("type %d: %v", kind, err)
		}
	}
}

// A peer that parks nothing says so.
func TestWarmRefused(t *testing.T) {
	e := newEnds(keys.SuiteAES)
	c1, c2 := tcpPair(t)
	go func() {
		if in, err := incoming(c2, e.acceptorTags, false); err == nil {
			in.Refuse(CodeLimit, 0)
		}
	}()
	_, err := Warm(context.Background(), c1, e.dialer, false)
	if r, ok := errors.AsType[*RefusedError](err); !ok || r.Code != CodeLimit {
		t.Fatal(err)
	}
}

// A parked connection whose other end has gone is found out, before or at its use, and says that a new one may do.
func TestParkedGone(t *testing.T) {
	e := newEnds(keys.SuiteAES)
	from, to := e.parkPair(t, false)
	to.Reset(CodeRevoked)
	wait(t, "it looks dead", func() bool { return !from.alive() })
	if _, err := from.Open(context.Background(), Request{Service: "echo"}, nil); !errors.Is(err, ErrUnanswered) {
		if _, ok := errors.AsType[*ResetError](err); !ok {
			t.Fatal(err)
		}
	}
	from, to = e.parkPair(t, false)
	from.Close()
	if _, err := to.Next(context.Background(), nil); err == nil {
		t.Fatal("an OPEN came from a closed connection")
	}
	<-to.Done()
}

func TestParkedNextEndsWithContext(t *testing.T) {
	e := newEnds(keys.SuiteAES)
	_, to := e.parkPair(t, false)
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(5*time.Millisecond, cancel)
	if _, err := to.Next(ctx, nil); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	<-to.Done()
}

// On a parked connection only OPEN may come.
func TestParkedRules(t *testing.T) {
	for kind, body := range map[byte][]byte{
		typeData: {1}, typeWarm: encodeWarm(false), typeAccept: []byte(emptyBody), typeEOF: []byte(emptyBody), typeOpen: {0x80},
	} {
		e := newEnds(keys.SuiteAES)
		c1, c2 := tcpPair(t)
		l := newLiar(t, e.dialer)
		c1.Write(l.s1(t, typeWarm, encodeWarm(false)))
		in, err := incoming(c2, e.acceptorTags, false)
		if err != nil {
			t.Fatal(err)
		}
		p, err := in.Park()
		if err != nil {
			t.Fatal(err)
		}
		if kind, _ := l.next(t, c1); kind != typeWarm {
			t.Fatal(kind)
		}
		c1.Write(rawRecord(t, &l.out, kind, body))
		if _, err := p.Next(context.Background(), nil); !errors.Is(err, ErrProtocol) {
			t.Fatalf("type %d: %v", kind, err)
		}
	}
}

// A side that has switched does not open on a connection that was parked before, though the other side has not closed it yet.
func TestParkedIsStaleAfterSwitch(t *testing.T) {
	e := newEnds(keys.SuiteAES)
	_, requester := e.parkPair(t, true)
	if err := e.acceptorTags.Install(e.acceptor, 1, nextExporter(keys.SuiteAES, 1)); err != nil {
		t.Fatal(err)
	}
	e.acceptorTags.Switch(e.acceptor, time.Now())
	if _, err := requester.Open(context.Background(), Request{Service: "echo"}, nil); !errors.Is(err, ErrEnded) {
		t.Fatal(err)
	}
}

// A rekey closes the parked connections this side opened, and none opens with old keys.
func TestParkedAcrossRekey(t *testing.T) {
	e := newEnds(keys.SuiteAES)
	opener, _ := e.parkPair(t, false)
	_, requester := e.parkPair(t, true)
	e.advance(t, 1)
	<-opener.Done()
	if _, err := requester.Open(context.Background(), Request{Service: "echo"}, nil); err == nil {
		t.Fatal("opened with the keys of an old generation")
	}
	if len(e.dialer.parked) != 0 {
		t.Fatal("still members")
	}
}

// The end of a session closes what is parked on it, at either end.
func TestParkedEndsWithSession(t *testing.T) {
	e := newEnds(keys.SuiteAES)
	opener, _ := e.parkPair(t, false)
	_, other := e.parkPair(t, true)
	e.dialerTags.Unregister(e.dialer, DuplicateGrace, time.Now())
	e.acceptorTags.Unregister(e.acceptor, DuplicateGrace, time.Now())
	<-opener.Done()
	<-other.Done()
}

// A request sent on a parked connection just before a rekey goes through: both sides catch up.
// Nothing is parked with a session that has ended, although its tags live on for a while: nobody would ever close it.
func TestNothingIsParkedAfterTheEnd(t *testing.T) {
	for _, reverse := range []bool{false, true} {
		e := newEnds(keys.SuiteAES)
		e.acceptorTags.Unregister(e.acceptor, DuplicateGrace, time.Now())
		c1, c2 := tcpPair(t)
		parked := make(chan error, 1)
		go func() {
			in, err := incoming(c2, e.acceptorTags, false)
			if err == nil {
				_, err = in.Park()
			}
			parked <- err
		}()
		if p, err := Warm(context.Background(), c1, e.dialer, reverse); err == nil {
			t.Cleanup(p.Close)
			wait(t, "the end is seen", func() bool { return !p.alive() })
		}
		if err := <-parked; !errors.Is(err, ErrEnded) {
			t.Fatal(err)
		}
	}
}

func TestParkedOpenMeetsRekey(t *testing.T) {
	e := newEnds(keys.SuiteAES)
	from, to := e.parkPair(t, false)
	if err := e.acceptorTags.Install(e.acceptor, 1, nextExporter(keys.SuiteAES, 1)); err != nil { // R2 is under way
		t.Fatal(err)
	}
	ch := make(chan *Stream, 1)
	go func() {
		in, err := to.Next(context.Background(), nil)
		if err != nil {
			t.Error(err)
			ch <- nil
			return
		}
		s, err := in.Accept()
		if err != nil {
			t.Error(err)
		}
		ch <- s
	}()
	a, err := from.Open(context.Background(), Request{Service: "echo"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	b := <-ch
	if err := e.dialerTags.Install(e.dialer, 1, nextExporter(keys.SuiteAES, 1)); err != nil {
		t.Fatal(err)
	}
	e.dialerTags.Switch(e.dialer, time.Now())
	expect(t, a, b, "under the new key")
	e.acceptorTags.Switch(e.acceptor, time.Now())
	expect(t, b, a, "and back")
	a.Close()
	b.Close()
}

func TestParkedSet(t *testing.T) {
	e := newEnds(keys.SuiteAES)
	var set ParkedSet
	now := time.Now()
	var all []*Parked
	for i := range MaxParked + 1 {
		p, _ := e.parkPair(t, false)
		if set.Put(p) != (i < MaxParked) {
			t.Fatalf("number %d", i)
		}
		all = append(all, p)
	}
	if set.Take(now) != all[MaxParked-1] {
		t.Fatal("not the newest")
	}
	all[MaxParked-2].Close()
	if set.Take(now) != all[MaxParked-3] {
		t.Fatal("a dead one was given out")
	}
	set.Remove(all[0])
	if n := set.Len(); n != MaxParked-4 {
		t.Fatalf("%d left", n)
	}
	if n := set.Sweep(now.Add(ParkOpener - time.Second)); n != MaxParked-4 {
		t.Fatalf("%d left before their time", n)
	}
	if n := set.Sweep(now.Add(ParkOpener + time.Second)); n != 0 {
		t.Fatalf("%d left after 60 s", n)
	}
	<-all[1].Done()
	if set.Take(now) != nil {
		t.Fatal("an empty set gave")
	}
	_, other := e.parkPair(t, false)
	set.Put(other)
	if set.Take(now) != nil {
		t.Fatal("gave out a connection the other side opens")
	}
	if set.Sweep(now.Add(ParkOpener+time.Second)) != 1 || set.Sweep(now.Add(ParkAcceptor+time.Second)) != 0 {
		t.Fatal("the other end keeps it 90 s")
	}
	old, _ := e.parkPair(t, false)
	set.Put(old)
	if set.Take(now.Add(ParkOpener+time.Second)) != nil {
		t.Fatal("gave out a connection the other end is about to close")
	}
	<-old.Done()
	p, _ := e.parkPair(t, false)
	set.Put(p)
	set.Reset(CodeRevoked)
	<-p.Done()
	if set.Len() != 0 {
		t.Fatal("not empty")
	}
}

func TestTagLimiter(t *testing.T) {
	l := NewTagLimiter()
	now := time.Unix(1e9, 0)
	a, b := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	for range tagBurst {
		l.Unknown(a, false, now)
	}
	if !l.Allow(a, false, now) {
		t.Fatal("the burst is not over")
	}
	l.Unknown(a, false, now)
	if l.Allow(a, false, now) || l.Allow(netip.MustParseAddr("::ffff:192.0.2.1"), false, now.Add(tagPenalty-1)) {
		t.Fatal("a flood is allowed")
	}
	if !l.Allow(b, false, now) || !l.Allow(a, true, now) {
		t.Fatal("another address, or an exempt one, pays for it")
	}
	if !l.Allow(a, false, now.Add(tagPenalty)) {
		t.Fatal("the penalty does not end")
	}
	// 20 per second for ever are allowed.
	l = NewTagLimiter()
	for range 5000 {
		now = now.Add(time.Second / tagRate)
		l.Unknown(a, false, now)
		if !l.Allow(a, false, now) {
			t.Fatal("20 per second are too many")
		}
	}
	// An IPv6 source is a /64.
	l = NewTagLimiter()
	for i := range tagBurst + 1 {
		l.Unknown(netip.AddrFrom16([16]byte{0x20, 1, 15: byte(i)}), false, now)
	}
	if l.Allow(netip.AddrFrom16([16]byte{0x20, 1, 14: 9}), false, now) || !l.Allow(netip.AddrFrom16([16]byte{0x20, 1, 7: 1}), false, now) {
		t.Fatal("not counted per /64")
	}
	for range 2 * tagBurst {
		l.Unknown(b, true, now)
	}
	if !l.Allow(b, false, now) {
		t.Fatal("an exempt source was charged")
	}
	l.Unknown(netip.Addr{}, false, now) // no address: no panic
}

func TestTagLimiterIsBounded(t *testing.T) {
	l := NewTagLimiter()
	now := time.Unix(1e9, 0)
	for i := range 2 * tagSources {
		l.Unknown(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), false, now)
	}
	if len(l.sources) != tagSources || l.order.Len() != tagSources {
		t.Fatalf("%d sources", len(l.sources))
	}
}

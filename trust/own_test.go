package trust

import (
	"errors"
	"testing"

	"github.com/sovereignmesh/meshkey/internal/durable"
	"github.com/sovereignmesh/meshkey/keys"
)

// TestAppendOwnRefuses what every receiver would ignore or refuse.
func TestAppendOwnRefuses(t *testing.T) {
	is := issuerOf("a", CapEnroll|CapRevoke)
	is.Tags, is.MaxTTL = []string{"gpu"}, 10*day
	w := worldWith(t, 1, issuerOf("0", allCaps), is)
	s := newStore(t, w, durable.NewMem())
	a := w.writer("a")
	cert := func(days int64, tags ...string) Op {
		return EnrollOp(a.certFor("one", "one", epoch0, epoch0+days*day, tags...))
	}
	used := cert(1)
	if _, err := s.AppendOwn(a.key, epoch0, used); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		key  *keys.SigningKey
		now  int64
		op   Op
		want error
	}{
		"stranger":       {keyOf("nobody"), epoch0, revokeNode("x"), ErrNotIssuer},
		"expired issuer": {a.key, epoch0 + 366*day, revokeNode("x"), ErrNotIssuer},
		"no right":       {a.key, epoch0, a.grant(AnyNode(), AnyNode(), "x"), ErrNoRight},
		"group":          {a.key, epoch0, OpGroup{Generation: 1}, ErrNoRight},
		"tag":            {a.key, epoch0, cert(1, "admin"), ErrLimits},
		"life":           {a.key, epoch0, cert(11), ErrLimits},
		"serial":         {a.key, epoch0, used, ErrNumber},
		"malformed":      {a.key, epoch0, OpRevokeCert{}, nil},
		"unknown":        {a.key, epoch0, OpUnknown{Kind: 200, Raw: []byte{0x81, 0x18, 200}}, nil},
	} {
		if _, err := s.AppendOwn(c.key, c.now, c.op); err == nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := s.AppendOwn(a.key, epoch0); err == nil {
		t.Error("an entry without ops")
	}
	if seq, _, _ := s.Current().Position(a.key.Public()); seq != 1 {
		t.Fatalf("something was appended: %d", seq)
	}
	// Its own clock set back does not spoil the chain.
	c, err := s.AppendOwn(a.key, epoch0-500, revokeNode("x"))
	if err != nil || c.Entry.Time < epoch0 {
		t.Fatalf("%v", err)
	}
}

func TestAppendOwnOfASuspendedIssuer(t *testing.T) {
	w := newWorld(t, 1, "a")
	s := newStore(t, w, durable.NewMem())
	a := w.writer("a")
	x := a.branch()
	s.apply(t, a.add(a.enroll("one")))
	if c, err := s.ApplyEntry(x.add(x.enroll("evil")), epoch0); err != nil || c.Kind != KindEvidence {
		t.Fatalf("%v", err)
	}
	if _, err := s.AppendOwn(a.key, epoch0, a.enroll("two")); !errors.Is(err, ErrSuspended) {
		t.Fatalf("got %v", err)
	}
	if _, err := s.AppendOwn(a.key, epoch0, revokeNode("one")); err != nil {
		t.Fatal(err)
	}
}

func TestAppendOwnConcurrently(t *testing.T) {
	w := newWorld(t, 1, "a", "b")
	s := newStore(t, w, durable.NewMem())
	a, b := w.writer("a"), w.writer("b")
	for range 50 {
		b.add(revokeNode("x"))
	}
	done := make(chan error, 21)
	for range 20 {
		go func() {
			_, err := s.AppendOwn(a.key, epoch0, revokeNode("y"))
			done <- err
		}()
	}
	go func() {
		for _, e := range b.all {
			if _, err := s.ApplyEntry(e, epoch0); err != nil {
				done <- err
				return
			}
			s.Current().Digest()
		}
		done <- nil
	}()
	for range 21 {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	if seq, _, _ := s.Current().Position(a.key.Public()); seq != 20 {
		t.Fatalf("%d own entries", seq)
	}
}

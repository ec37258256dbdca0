package enroll

import (
	"errors"
	"testing"

	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/trust"
)

// joined enrols a member for thirty days, mortal one for some seconds.
func (r *rig) joined(name string) *keys.SigningKey { return r.mortal(name, 30*86400) }

func (r *rig) mortal(name string, life int64) *keys.SigningKey {
	r.t.Helper()
	k, id := keys.NewSigningKey(), identity.NewInviteID()
	must(r.t, r.Book.Create(Invite{ID: id, Name: name, Expiry: r.now + 3600, Uses: 1, Life: life, RenewUntil: RenewForever}, r.now))
	_, err := r.Spend(id, r.request(k), nil)
	must(r.t, err)
	return k
}

// hand asks for a rotation as old would.
func (r *rig) hand(old, next *keys.SigningKey) (*Invite, error) {
	return r.Rotate(old.NodeID(), r.request(next), trust.RotateSignature(r.mesh, old, next.NodeID()), nil)
}

// A rotation changes nothing until the new key enrols; then in one entry the old key is revoked, and name, tags and grants are the new
// one's. It is answered again however late, and to nobody else.
func TestRotate(t *testing.T) {
	r := newRig(t)
	old, next, db := r.joined("gpu1"), keys.NewSigningKey(), r.joined("db")
	must(t, r.Append(trust.OpGrant{GID: 1, Who: trust.NodeTarget(old.NodeID()), What: trust.What{Target: trust.AnyNode(), Service: "db"}}))
	v, err := r.hand(old, next)
	must(t, err)
	if again, err := r.hand(old, next); err != nil || again.ID != v.ID {
		t.Fatal("asked again it is another invite", err)
	}
	if _, revoked := r.State().Revoked(old.NodeID()); revoked {
		t.Fatal("revoked before there is a new key")
	}
	if len(r.Book.List(r.now)) != 2 {
		t.Fatal("a person is shown the invite of a rotation")
	}
	if _, err := r.Spend(v.ID, r.request(keys.NewSigningKey()), nil); !errors.Is(err, ErrUsed) {
		t.Fatal("another key by the same invite:", err)
	}
	seq, _, _ := r.State().Position(r.key.Public())
	g, err := r.Spend(v.ID, r.request(next), nil)
	must(t, err)
	st := r.State()
	if after, _, _ := st.Position(r.key.Public()); after != seq+1 {
		t.Fatal("not one entry")
	}
	m, ok := st.Member(next.NodeID())
	_, revoked := st.Revoked(old.NodeID())
	if !ok || !revoked || m.Name != "gpu1" || m.RenewUntil != RenewForever || !st.Succeeds(old.NodeID(), next.NodeID()) {
		t.Fatalf("%+v, revoked %v", m, revoked)
	}
	if !st.Decide(next.NodeID(), db.NodeID(), "db", r.now).Allowed {
		t.Fatal("the grant did not pass on")
	}
	r.now += 400 * 86400 // long after the invite and everything
	if !r.Book.Answerable(v.ID, r.now) {
		t.Fatal("a machine that comes back late is not answered")
	}
	if _, err := r.Spend(v.ID, r.request(next), nil); !errors.Is(err, ErrExpired) {
		t.Fatal("one whose membership has ended is given the newest group secret:", err)
	}
	if err := r.May(v.ID, next.NodeID()); !errors.Is(err, ErrExpired) {
		t.Fatal("one whose membership has ended is told about the mesh:", err)
	}
	r.now -= 390 * 86400 // after the invite
	r.crash()
	again, err := r.Spend(v.ID, r.request(next), nil)
	if err != nil || !again.Again || again.Certificate.ID != g.Certificate.ID {
		t.Fatal("a lost answer", err)
	}
}

// Nobody's name passes to another key without the signature of its own, nor once it is revoked, nor by an issuer without both rights, nor
// to a key the log knows, nor in storms.
func TestRotateRefuses(t *testing.T) {
	r := newRig(t)
	old, other, next := r.joined("gpu1"), r.joined("nas"), keys.NewSigningKey()
	sig := trust.RotateSignature(r.mesh, old, next.NodeID())
	ask := func(id keys.NodeID, k *keys.SigningKey, s keys.Signature) error {
		_, err := r.Rotate(id, r.request(k), s, nil)
		return err
	}
	third, ended := keys.NewSigningKey(), r.mortal("gone", 5)
	r.now += 10
	for what, c := range map[string]struct {
		err  error
		want error
	}{
		"no signature":                    {ask(old.NodeID(), next, keys.Signature{}), ErrNotSigned},
		"another's signature":             {ask(old.NodeID(), next, trust.RotateSignature(r.mesh, other, next.NodeID())), ErrNotSigned},
		"another node's name":             {ask(other.NodeID(), next, sig), ErrNotSigned},
		"another key than was signed":     {ask(old.NodeID(), third, sig), ErrNotSigned},
		"another mesh":                    {ask(old.NodeID(), next, trust.RotateSignature(keys.MeshID{1}, old, next.NodeID())), ErrNotSigned},
		"a member's key":                  {ask(old.NodeID(), other, trust.RotateSignature(r.mesh, old, other.NodeID())), ErrOtherName},
		"the key of a member that ended":  {ask(old.NodeID(), ended, trust.RotateSignature(r.mesh, old, ended.NodeID())), ErrKnownKey},
		"a node that is no member":        {ask(third.NodeID(), next, trust.RotateSignature(r.mesh, third, next.NodeID())), ErrNoMember},
		"what cannot be recorded happens": {second(r.Rotate(old.NodeID(), r.request(next), sig, func() error { return errFull })), errFull},
	} {
		if !errors.Is(c.err, c.want) {
			t.Errorf("%s: %v", what, c.err)
		}
	}
	v, err := r.hand(old, next)
	must(t, err)
	// Revoked between the two steps: the new key gets nothing.
	must(t, r.Append(trust.OpRevokeNode{Node: old.NodeID()}))
	if _, err := r.Spend(v.ID, r.request(next), nil); !errors.Is(err, ErrRevoked) {
		t.Fatal("a revoked node's rotation is carried out:", err)
	}
	if _, err := r.hand(old, keys.NewSigningKey()); !errors.Is(err, ErrRevoked) {
		t.Fatal("a revoked node rotates:", err)
	}
	// Another key takes the place of one that was not used, and not too often.
	asked := 0
	for ; ; asked++ {
		k := keys.NewSigningKey()
		v2, err := r.hand(other, k)
		if errors.Is(err, ErrTooOften) {
			break
		}
		must(t, err)
		if v != nil && asked > 0 {
			if _, err := r.Spend(v.ID, r.request(third), nil); !errors.Is(err, ErrRemoved) {
				t.Fatal("two rotations of one node are open:", err)
			}
		}
		v, third = v2, k
		if asked > 100 {
			t.Fatal("no end")
		}
	}
	if asked != maxRotationsDay {
		t.Fatalf("%d asked for in a day", asked)
	}
	for _, caps := range []trust.Caps{trust.CapEnroll | trust.CapGrant, trust.CapRevoke | trust.CapGrant} {
		r := rigWith(t, caps)
		k := keys.NewSigningKey()
		r.member(k, "m")
		if _, err := r.hand(k, keys.NewSigningKey()); !errors.Is(err, ErrMayNot) && !errors.Is(err, ErrNoMember) {
			t.Errorf("caps %v: %v", caps, err)
		}
	}
}

var errFull = errors.New("the audit log is full")

func second[T any](_ T, err error) error { return err }

// member enrols a node if the issuer may.
func (r *rig) member(k *keys.SigningKey, name string) {
	c, err := identity.IssueCertificate(identity.Certificate{
		Mesh: r.mesh, Node: k.NodeID(), Serial: 1, Issuer: r.key.Public(), NotBefore: r.now, NotAfter: r.now + 86400, Name: name,
	}, r.key)
	must(r.t, err)
	_ = r.Append(trust.EnrollOp(c))
}

// Spent in the book, not written in the log, and then revoked: the entry is not written any more, neither when the new key asks again nor
// before another enrolment.
func TestRotateRevokedBetweenBookAndLog(t *testing.T) {
	r := newRig(t)
	old, next := r.joined("gpu1"), keys.NewSigningKey()
	v, err := r.hand(old, next)
	must(t, err)
	r.appendErr = errFull
	if _, err := r.Spend(v.ID, r.request(next), nil); !errors.Is(err, errFull) {
		t.Fatal(err)
	}
	r.appendErr = nil
	must(t, r.Append(trust.OpRevokeNode{Node: old.NodeID()}))
	if _, err := r.Spend(v.ID, r.request(next), nil); !errors.Is(err, ErrRevoked) {
		t.Fatal("carried out for a revoked node:", err)
	}
	r.joined("nas")
	if _, is := r.State().Member(next.NodeID()); is {
		t.Fatal("the repair enrols a revoked node's successor")
	}
}

// Done too often it is refused as well, whichever issuer has done it before.
func TestRotateBounds(t *testing.T) {
	r := newRig(t)
	k := r.joined("gpu1")
	for i := range maxRotationsDay {
		next := keys.NewSigningKey()
		v, err := r.hand(k, next)
		if err != nil {
			t.Fatalf("rotation %d: %v", i, err)
		}
		_, err = r.Spend(v.ID, r.request(next), nil)
		must(t, err)
		k = next
	}
	if _, err := r.hand(k, keys.NewSigningKey()); !errors.Is(err, ErrTooOften) {
		t.Fatal(err)
	}
	r.now += 86401
	_, err := r.hand(k, keys.NewSigningKey())
	must(t, err)
}

// A guest's new key ends when the old one would have.
func TestRotateKeepsAGuestsEnd(t *testing.T) {
	r := newRig(t)
	id := identity.NewInviteID()
	must(t, r.Book.Create(Invite{ID: id, Name: "guest", Expiry: r.now + 3600, Uses: 1, Life: 7200}, r.now))
	old, next := keys.NewSigningKey(), keys.NewSigningKey()
	g, err := r.Spend(id, r.request(old), nil)
	must(t, err)
	r.now += 3600
	v, err := r.hand(old, next)
	must(t, err)
	n, err := r.Spend(v.ID, r.request(next), nil)
	must(t, err)
	if n.Certificate.NotAfter != g.Certificate.NotAfter || n.Certificate.RenewUntil != 0 {
		t.Fatalf("ends at %d, the old one at %d", n.Certificate.NotAfter, g.Certificate.NotAfter)
	}
}

// The issuer dies at every one of its writes, and with each half of them on disk: either the old key is a member or the new one, never both
// and never neither, and asking again finishes it.
func TestRotateInterrupted(t *testing.T) {
	for _, keep := range []bool{false, true} {
		for n := 1; ; n++ {
			r := newRig(t)
			old, next := r.joined("gpu1"), keys.NewSigningKey()
			r.disk.CutPower(n, keep)
			v, err := r.hand(old, next)
			if err == nil {
				_, err = r.Spend(v.ID, r.request(next), nil)
			}
			done := err == nil
			r.crash()
			_, was := r.State().Member(old.NodeID())
			_, is := r.State().Member(next.NodeID())
			if was == is || done && !is {
				t.Fatalf("cut at step %d (kept %v): old %v, new %v, done %v", n, keep, was, is, done)
			}
			if !is {
				v, err = r.hand(old, next) // which may repair the entry that was missing
				must(t, err)
				_, err = r.Spend(v.ID, r.request(next), nil)
				must(t, err)
			}
			// However often it is asked for: the host that is an issuer itself asks by its old key.
			again, err := r.hand(old, next)
			must(t, err)
			g, err := r.Spend(again.ID, r.request(next), nil)
			must(t, err)
			if g.Certificate.Node != next.NodeID() {
				t.Fatal("a certificate for another key")
			}
			if done {
				break
			}
		}
	}
}

package daemon

import (
	"errors"
	"strings"
	"testing"

	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/internal/enroll"
	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/mesh"
	"github.com/sovereignmesh/meshkey/trust"
)

// enrolment is an op that enrols a node under a name.
func (w *turning) enrolment(serial uint64, node keys.NodeID, name string) trust.Op {
	now := w.issuer.Now()
	cert, err := identity.IssueCertificate(identity.Certificate{
		Mesh: w.mesh, Node: node, Serial: serial, Issuer: w.issuer.Key.Public(), NotBefore: now, NotAfter: now + 3600, Name: name, RenewUntil: enroll.RenewForever,
	}, w.issuer.Key)
	w.must(err)
	return trust.EnrollOp(cert)
}

// Whoever has an issuer's key writes any reason beside a revocation, and gives the name to a key of his own. What is told of the old key must
// not read as its rotation, unless that key has signed it; and if it has signed for another key than the one the name is at now, that one is named.
func TestAnIssuersReasonIsNoRotation(t *testing.T) {
	enrol := func(w *turning, serial uint64, node keys.NodeID) trust.Op { return w.enrolment(serial, node, "gpu1") }
	told := func(w *turning) string {
		text, living := becameOf(w.store.Current(), w.old, w.issuer.Now())
		if living || !strings.HasPrefix(text, "revoked by i on 20") {
			t.Fatal(text, living)
		}
		return text
	}
	thief, next := keys.NewSigningKey().NodeID(), keys.NewSigningKey().NodeID()

	w := newTurning(t)
	w.must(w.issuer.Append(trust.OpRevokeNode{Node: w.old, Reason: trust.RevokeRotated}))
	w.must(w.issuer.Append(enrol(w, 2, thief)))
	if text := told(w); !strings.HasSuffix(text, "; the issuer says that it was rotated, but it signed for no key to follow it") {
		t.Fatal(text)
	}
	if _, apart := w.store.Current().RevokedApart(w.old); !apart {
		t.Fatal("taken for a rotation")
	}

	w = newTurning(t)
	w.must(w.issuer.Append(trust.OpRevokeNode{Node: w.old, Reason: trust.RevokeLeft}))
	if text := told(w); !strings.HasSuffix(text, "; the issuer says that it left") {
		t.Fatal(text)
	}

	w = newTurning(t)
	w.must(w.issuer.Append(enrol(w, 2, next), trust.OpRevokeNode{
		Node: w.old, Reason: trust.RevokeRotated, Successor: &trust.Successor{Node: next, Sig: trust.RotateSignature(w.mesh, w.oldKey, next)},
	}))
	if text := told(w); !strings.HasSuffix(text, "; rotated, signed by it, to "+shortID(next)+", which is a member, named gpu1") {
		t.Fatal(text)
	}
	w.must(w.issuer.Append(trust.OpRevokeNode{Node: next}))
	w.must(w.issuer.Append(enrol(w, 3, thief)))
	if text := told(w); !strings.Contains(text, "to "+shortID(next)+", which was revoked by i on 20") || strings.Contains(text, shortID(thief)) {
		t.Fatal(text)
	}
}

// A machine whose name reads as the beginning of a key that is gone can be revoked by its name; as that of another member it is asked which is meant.
func TestRevokeANameLikeAnID(t *testing.T) {
	w := newTurning(t)
	d := &Daemon{store: w.store}
	id, other := keys.NewSigningKey().NodeID(), keys.NewSigningKey().NodeID()
	name := strings.ToLower(shortID(other))
	w.must(w.issuer.Append(w.enrolment(2, id, name), w.enrolment(3, other, "other")))
	if _, err := d.revocable(name); !errors.Is(err, mesh.ErrAmbiguousID) {
		t.Fatal(err)
	}
	w.must(w.issuer.Append(trust.OpRevokeNode{Node: other}))
	if got, err := d.revocable(name); err != nil || got != id {
		t.Fatal(got.Short(), err)
	}
}

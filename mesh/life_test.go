package mesh

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/internal/durable"
	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/session"
	"github.com/sovereignmesh/meshkey/trust"
)

// asking is a member with a session to the issuer, which knows that it may ask it.
func asking(t *testing.T) (w *world, a, b *host, l *link) {
	t.Helper()
	w = newWorld(t)
	b = w.member("b")
	a = w.admin()
	b.run()
	l = full(b, a)
	eventually(t, "b knows that a issues", patience, func() bool {
		b.Node.mu.Lock()
		defer b.Node.mu.Unlock()
		return b.presence[a.key.NodeID()].issues
	})
	return w, a, b, l
}

// ask sends a body as b would and waits for a's answer.
func (h *host) ask(l *link, want session.Kind, body session.Body) (session.Answer, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return h.askOne(ctx, l, want, func(*link) (session.Body, error) { return body, nil })
}

// rotation is a ROTATE by the given keys for a session.
func (w *world) rotation(old, next *keys.SigningKey, nonce keys.Hash) session.Rotate {
	w.t.Helper()
	csr, err := identity.SignCSR(identity.CSR{Mesh: w.id, Node: next.NodeID(), Name: "x", Nonce: nonce}, next)
	ok(w.t, err)
	return session.Rotate{Request: csr.Raw(), Signature: trust.RotateSignature(w.id, old, next.NodeID())}
}

// A member's new key follows it by an invite that only this key can use.
func TestAskRotation(t *testing.T) {
	t.Parallel()
	_, a, b, _ := asking(t)
	next := keys.NewSigningKey()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	inv, err := b.AskRotation(ctx, next)
	ok(t, err)
	if inv.IssuerNode != a.key.NodeID() {
		t.Fatal("another issuer's invite")
	}
	if _, revoked := a.State().Revoked(b.key.NodeID()); revoked {
		t.Fatal("revoked before the new key is a member")
	}
	r, is := a.issuer.RotationOf(inv.ID)
	if !is || r.Old != b.key.NodeID() || r.New != next.NodeID() {
		t.Fatalf("%+v", r)
	}
}

// What is not signed by the member's own key, or was made in another session, or by another node, ends the session and is not noted.
func TestForgedRotations(t *testing.T) {
	t.Parallel()
	w, a, b, l := asking(t)
	other := w.member("other")
	leaving := func(id keys.NodeID, _ func([]byte)) error {
		t.Errorf("%s is revoked by a forged wish", id.Short())
		return errors.New("no")
	}
	a.leaving.Store(&leaving)
	for what, body := range map[string]func(*link) session.Body{
		"replayed from another session": func(*link) session.Body { return w.rotation(b.key, keys.NewSigningKey(), keys.Hash{1}) },
		"signed by another member":      func(l *link) session.Body { return w.rotation(other.key, keys.NewSigningKey(), l.hash) },
		"without a signature": func(l *link) session.Body {
			r := w.rotation(b.key, keys.NewSigningKey(), l.hash)
			r.Signature = keys.Signature{}
			return r
		},
		"to another key than was signed": func(l *link) session.Body {
			r := w.rotation(b.key, keys.NewSigningKey(), l.hash)
			r.Request = w.rotation(b.key, keys.NewSigningKey(), l.hash).Request
			return r
		},
		"leave of another node": func(l *link) session.Body {
			raw, err := identity.SignLeave(identity.Leave{Mesh: w.id, Node: other.key.NodeID(), Nonce: l.hash}, other.key)
			ok(t, err)
			return session.Object{K: session.KindLeave, Raw: raw}
		},
		"leave replayed from another session": func(*link) session.Body {
			raw, err := identity.SignLeave(identity.Leave{Mesh: w.id, Node: b.key.NodeID(), Nonce: keys.Hash{1}}, b.key)
			ok(t, err)
			return session.Object{K: session.KindLeave, Raw: raw}
		},
	} {
		l = full(b, a)
		if ans, err := b.ask(l, session.KindRotation, body(l)); err == nil {
			t.Fatalf("%s: answered %v", what, ans)
		}
		eventually(t, what+": the session ends", patience, func() bool { return session.State(l.state.Load()) == session.Closed })
	}
	if n := len(a.issuer.Book.List(time.Now().Unix())); n != 0 {
		t.Fatal(n, "invites")
	}
	for _, h := range []*host{b, other} {
		if _, revoked := a.State().Revoked(h.key.NodeID()); revoked {
			t.Fatalf("%s is revoked", h.name)
		}
	}
}

// Nothing is noted at an issuer that cannot record it, and nothing by a node that is none.
func TestRotationIsRecordedFirst(t *testing.T) {
	w, a, b, l := asking(t)
	a.disk.Fail(durable.Fault{Op: durable.OpAny, Err: errors.New("full"), Stay: true})
	next := keys.NewSigningKey()
	ans, err := b.ask(l, session.KindRotation, w.rotation(b.key, next, l.hash))
	if r, no := errors.AsType[*RefusedError](err); !no || r.Code != session.CodeDegraded {
		t.Fatal(ans, err)
	}
	a.disk.Heal()
	c := w.member("c")
	c.run()
	lc := full(b, c)
	if _, err := b.ask(lc, session.KindRotation, w.rotation(b.key, next, lc.hash)); err == nil {
		t.Fatal("a node without an issuer's key rotates")
	}
}

// A member that leaves has the entry that revokes it; a yes without one is none.
func TestAskLeave(t *testing.T) {
	t.Parallel()
	w, a, b, l := asking(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	lies := [][]byte{{1}, w.author.Entry(w.issuer.Public(), 1)}
	for _, lie := range lies {
		f := func(_ keys.NodeID, then func([]byte)) error {
			then(lie)
			return nil
		}
		a.leaving.Store(&f)
		if by, err := b.AskLeave(ctx); err == nil {
			t.Fatal("believed without proof", by)
		}
	}
	f := func(id keys.NodeID, then func([]byte)) error {
		c, err := a.store.AppendOwn(w.issuer, time.Now().Unix(), trust.OpRevokeNode{Node: id, Reason: trust.RevokeLeft})
		if err == nil {
			then(a.store.Entry(c.Issuer, c.Seq))
			a.Publish(c)
		}
		return err
	}
	a.leaving.Store(&f)
	by, err := b.AskLeave(ctx)
	ok(t, err)
	if by != a.key.NodeID() {
		t.Fatal("by another")
	}
	if _, revoked := a.State().Revoked(b.key.NodeID()); !revoked {
		t.Fatal("not revoked")
	}
	eventually(t, "the session ends", patience, func() bool { return session.State(l.state.Load()) == session.Closed })
	short, stop := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer stop()
	if _, err := b.AskLeave(short); err == nil {
		t.Fatal("somebody answers a node without sessions")
	}
}

// One that only claims to issue, and says that this node is revoked already, does not keep it from an issuer.
func TestLeaveAsksBeyondALie(t *testing.T) {
	t.Parallel()
	w, a, b, _ := asking(t)
	liar := w.admin()
	l := full(b, liar)
	issues := func(h *host, is bool) {
		b.Node.mu.Lock()
		defer b.Node.mu.Unlock()
		p := b.presence[h.key.NodeID()]
		p.issues = is
		b.presence[h.key.NodeID()] = p
	}
	lie := func(_ keys.NodeID, _ func([]byte)) error {
		b.lifeAnswered(l, session.Answer{K: session.KindLeft, Code: session.CodeRevoked})
		issues(a, true)
		return errors.New("no")
	}
	liar.leaving.Store(&lie)
	revoke := func(id keys.NodeID, then func([]byte)) error {
		c, err := a.store.AppendOwn(w.issuer, time.Now().Unix(), trust.OpRevokeNode{Node: id, Reason: trust.RevokeLeft})
		if err == nil {
			then(a.store.Entry(c.Issuer, c.Seq))
		}
		return err
	}
	a.leaving.Store(&revoke)
	issues(liar, true)
	issues(a, false) // the liar is asked first, unless a beacon of the other comes in between
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if by, err := b.AskLeave(ctx); err != nil || by != a.key.NodeID() {
		t.Fatal(by, err)
	}
}

// A session that ends because the key is revoked is no yes either: it may be that the answer was lost, and may be a lie.
func TestLostAnswerToLeaveIsNoYes(t *testing.T) {
	t.Parallel()
	w, a, b, l := asking(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	lost := func(id keys.NodeID, _ func([]byte)) error {
		c, err := a.store.AppendOwn(w.issuer, time.Now().Unix(), trust.OpRevokeNode{Node: id})
		if err == nil {
			a.Publish(c)
		}
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for late := time.Now().Add(5 * time.Second); session.State(l.state.Load()) != session.Closed && time.Now().Before(late); {
			<-tick.C
		}
		return err
	}
	a.leaving.Store(&lost)
	_, err := b.AskLeave(ctx)
	if r, no := errors.AsType[*RefusedError](err); err == nil || no && r.Code != session.CodeRevoked {
		t.Fatal("an end without an answer:", err)
	}
}

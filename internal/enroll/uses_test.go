package enroll

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/trust"
)

// An invite for several machines gives each a name of its own, and one more machine is refused.
func TestSeveralUses(t *testing.T) {
	r := newRig(t)
	member := keys.NewSigningKey()
	_, err := r.Spend(r.invite("rack-2"), r.request(member), nil)
	must(t, err)
	id := r.with(Invite{Name: "rack", Uses: 3})
	var names []string
	var first *keys.SigningKey
	for range 3 {
		k := keys.NewSigningKey()
		g, err := r.Spend(id, r.request(k), nil)
		must(t, err)
		names = append(names, g.Certificate.Name)
		if first == nil {
			first = k
		}
		r.crash()
	}
	if !slices.Equal(names, []string{"rack-1", "rack-3", "rack-4"}) {
		t.Fatal(names)
	}
	if _, err := r.Spend(id, r.request(keys.NewSigningKey()), nil); !errors.Is(err, ErrUsed) {
		t.Fatal(err)
	}
	g, err := r.Spend(id, r.request(first), nil)
	must(t, err)
	if !g.Again || g.Certificate.Name != "rack-1" {
		t.Fatalf("%+v", g)
	}
	// One of them comes with a new invite of that sort: it keeps its name.
	g, err = r.Spend(r.with(Invite{Name: "rack", Uses: 2}), r.request(first), nil)
	must(t, err)
	if g.Again || g.Certificate.Name != "rack-1" {
		t.Fatalf("%+v", g)
	}
}

// What a revoked machine was called no invite for several machines gives again: who has used the name holds it to be that machine's.
func TestNoNumberIsGivenTwice(t *testing.T) {
	r := newRig(t)
	id, a := r.with(Invite{Name: "rack", Uses: 3}), keys.NewSigningKey()
	_, err := r.Spend(id, r.request(a), nil)
	must(t, err)
	must(t, r.Append(trust.OpRevokeNode{Node: a.NodeID()}))
	for i, id := range []identity.InviteID{r.with(Invite{Name: "rack", Uses: 2}), id} {
		g, err := r.Spend(id, r.request(keys.NewSigningKey()), nil)
		must(t, err)
		if want := []string{"rack-2", "rack-3"}[i]; g.Certificate.Name != want {
			t.Fatal(g.Certificate.Name, "instead of", want)
		}
	}
}

// The invites for a name are those by which somebody could still be enrolled under it.
func TestInvitesForAName(t *testing.T) {
	r := newRig(t)
	r.with(Invite{Name: "other"})
	r.with(Invite{Name: "laptop", Uses: 2})
	gone, used, asked := r.with(Invite{Name: "laptop"}), r.with(Invite{Name: "laptop"}), r.with(Invite{Name: "laptop", Approval: true})
	must(t, r.Book.Remove(gone, 0, r.now))
	k := keys.NewSigningKey()
	_, err := r.Spend(used, r.request(k), nil)
	must(t, err)
	must(t, r.Append(trust.OpRevokeNode{Node: k.NodeID()}))
	if got := r.Book.ForName("laptop", r.now); len(got) != 1 || got[0].ID != asked {
		t.Fatalf("%+v", got)
	}
	if got := r.Book.ForName("laptop", r.now+3601); len(got) != 0 {
		t.Fatalf("expired: %+v", got)
	}
	_, err = r.Ask(asked, r.in(keys.NewSigningKey(), 1), "", nil)
	must(t, err)
	if got := r.Book.ForName("laptop", r.now+3601); len(got) != 1 || got[0].ID != asked {
		t.Fatalf("who has asked waits still: %+v", got)
	}
}

// Half-used and taken back: who has used it still gets its answer, and nobody else anything.
func TestRemoveAfterSomeUses(t *testing.T) {
	r := newRig(t)
	id, a := r.with(Invite{Name: "rack", Uses: 2}), keys.NewSigningKey()
	_, err := r.Spend(id, r.request(a), nil)
	must(t, err)
	must(t, r.Book.Remove(id, 0, r.now))
	if _, err := r.Spend(id, r.request(a), nil); err != nil || !r.Book.Answerable(id, r.now) {
		t.Fatal(err)
	}
	if _, err := r.Spend(id, r.request(keys.NewSigningKey()), nil); !errors.Is(err, ErrRemoved) {
		t.Fatal(err)
	}
}

// More machines than uses at once: as many as there are uses become members, each with its own name.
func TestSeveralUsesAtOnce(t *testing.T) {
	r := newRig(t)
	var numbers sync.Mutex
	r.Numbers = &numbers
	id := r.with(Invite{Name: "rack", Uses: 5, Allow: []trust.What{web}})
	var wg sync.WaitGroup
	got := make(chan string, 20)
	for range 20 {
		wg.Go(func() {
			g, err := r.Spend(id, r.request(keys.NewSigningKey()), nil)
			switch {
			case err == nil:
				got <- g.Certificate.Name
			case !errors.Is(err, ErrUsed):
				t.Error(err)
			}
		})
	}
	wg.Wait()
	close(got)
	names := map[string]bool{}
	for n := range got {
		names[n] = true
	}
	if len(names) != 5 || r.members() != 5 || len(r.grants()) != 5 {
		t.Fatal(names, r.members(), len(r.grants()))
	}
}

// The services of an invite are granted in the entry that enrols, once.
func TestAllowedServices(t *testing.T) {
	r := newRig(t)
	a := keys.NewSigningKey()
	before := r.store.Current()
	seq, _, _ := before.Position(r.key.Public())
	_, err := r.Spend(r.with(Invite{Allow: []trust.What{web, web}}), r.request(a), nil)
	must(t, err)
	now, _, _ := r.State().Position(r.key.Public())
	g := r.grants()
	if now != seq+1 || len(g) != 1 || g[0].Who != trust.NodeTarget(a.NodeID()) || g[0].What != web {
		t.Fatalf("%d entries, %+v", now-seq, g)
	}
	// Renewed by another invite with the same service: no second grant.
	_, err = r.Spend(r.with(Invite{Allow: []trust.What{web}}), r.request(a), nil)
	must(t, err)
	if len(r.grants()) != 1 {
		t.Fatal(r.grants())
	}
}

// An issuer that may not grant gives no invite with services, and none is spent.
func TestAllowedServicesNeedTheRight(t *testing.T) {
	r := rigWith(t, trust.CapEnroll)
	if _, err := r.Check(&Invite{Name: "gpu1", Uses: 1, Life: 60, Allow: []trust.What{web}}); !errors.Is(err, ErrMayNot) {
		t.Fatal(err)
	}
	if _, err := r.Spend(r.with(Invite{Allow: []trust.What{web}}), r.request(keys.NewSigningKey()), nil); !errors.Is(err, ErrMayNot) {
		t.Fatal(err)
	}
	if _, err := r.Spend(r.with(Invite{}), r.request(keys.NewSigningKey()), nil); err != nil {
		t.Fatal(err)
	}
}

// The name of a revoked machine is not given to the next one by the same invite: others may have pinned it.
func TestNumbersAreNotUsedAgain(t *testing.T) {
	r := newRig(t)
	id, a := r.with(Invite{Name: "rack", Uses: 2}), keys.NewSigningKey()
	_, err := r.Spend(id, r.request(a), nil)
	must(t, err)
	must(t, r.Append(trust.OpRevokeNode{Node: a.NodeID()}))
	g, err := r.Spend(id, r.request(keys.NewSigningKey()), nil)
	must(t, err)
	if g.Certificate.Name != "rack-2" {
		t.Fatal(g.Certificate.Name)
	}
	if _, err := r.Spend(id, r.request(a), nil); !errors.Is(err, ErrRevoked) {
		t.Fatal(err)
	}
}

// A spend whose entry was never written, and that would not be admitted any more, is passed over for good.
func TestUnloggedSpendIsPassedOver(t *testing.T) {
	r := newRig(t)
	id, a := r.invite("gpu1"), keys.NewSigningKey()
	r.appendErr = errors.New("disk full")
	if _, err := r.Spend(id, r.request(a), nil); !errors.Is(err, r.appendErr) {
		t.Fatal(err)
	}
	r.appendErr = nil
	// Somebody else has got the name meanwhile, by another issuer or by hand.
	b := keys.NewSigningKey()
	cert, err := identity.IssueCertificate(identity.Certificate{
		Mesh: r.mesh, Node: b.NodeID(), Serial: 7, Issuer: r.key.Public(), NotBefore: r.now, NotAfter: r.now + 60, Name: "gpu1",
	}, r.key)
	must(t, err)
	must(t, r.Append(trust.EnrollOp(cert)))
	_, err = r.Spend(r.invite("pi4"), r.request(keys.NewSigningKey()), nil)
	must(t, err)
	if _, err := r.Spend(id, r.request(a), nil); !errors.Is(err, ErrNameTaken) {
		t.Fatal(err)
	}
	must(t, r.Append(trust.OpRevokeNode{Node: b.NodeID()}))
	if _, err := r.Spend(id, r.request(a), nil); !errors.Is(err, ErrMayNot) || !strings.Contains(err.Error(), "passed over") {
		t.Fatal(err)
	}
	// The same with a machine that was revoked before its entry was written.
	id, c := r.invite("late"), keys.NewSigningKey()
	r.appendErr = errors.New("disk full")
	if _, err := r.Spend(id, r.request(c), nil); err == nil {
		t.Fatal("no error")
	}
	r.appendErr = nil
	must(t, r.Append(trust.OpRevokeNode{Node: c.NodeID()}))
	before, _, _ := r.State().Position(r.key.Public())
	_, err = r.Spend(r.invite("pi5"), r.request(keys.NewSigningKey()), nil)
	must(t, err)
	if after, _, _ := r.State().Position(r.key.Public()); after != before+1 {
		t.Fatal("a revoked machine was entered")
	}
}

// Numbers of grants are taken and used under the lock of everybody who takes them.
func TestNumbersAreLocked(t *testing.T) {
	r := newRig(t)
	var l sync.Mutex
	r.Numbers = &l
	plain, asked := r.Append, 0
	r.Append = func(ops ...trust.Op) error {
		if asked++; l.TryLock() {
			t.Error("a number is taken without the lock")
			l.Unlock()
		}
		return plain(ops...)
	}
	_, err := r.Spend(r.with(Invite{Allow: []trust.What{web}}), r.request(keys.NewSigningKey()), nil)
	must(t, err)
	if asked != 1 || !l.TryLock() {
		t.Fatal(asked)
	}
}

// A person who approves may allow more, but not without bounds.
func TestApprovalAllows(t *testing.T) {
	r := newRig(t)
	q := r.ask(r.with(Invite{Approval: true, Allow: []trust.What{web}}), keys.NewSigningKey())
	if _, err := r.Approve(q.ID, Approval{Allow: slices.Repeat([]trust.What{web}, MaxAllow)}, nil); err == nil {
		t.Fatal("more services than one enrolment may have")
	}
	_, err := r.Approve(q.ID, Approval{Allow: []trust.What{{Target: trust.AnyNode(), Service: "db"}}}, nil)
	must(t, err)
	if len(r.grants()) != 2 {
		t.Fatal(r.grants())
	}
}

// A book that says what cannot be is not opened.
func TestBookRefusesContradictions(t *testing.T) {
	id, node := identity.InviteID{1}, make([]byte, 32)
	asked := record{Kind: kindAsked, ID: id, Node: node, Request: make([]byte, 8), Channel: make([]byte, 32)}
	other := asked
	other.Node = slices.Repeat([]byte{1}, 32)
	file := record{Kind: kindFile, Node: node, Serial: 1, Channel: slices.Repeat([]byte{1}, 32)}
	noID := file
	noID.Channel = nil
	made := record{Kind: kindCreated, ID: id, Uses: 1}
	for name, rs := range map[string][]record{
		"one request of two nodes": {made, asked, other},
		"a file twice":             {file, file},
		"a file without id":        {noID},
		"an invite twice":          {made, made},
		"a denial of nothing":      {made, {Kind: kindDenied, ID: id, Node: node}},
		"an unknown invite":        {asked},
		"a spend of nobody":        {made, {Kind: kindSpent, ID: id}},
		"a later kind":             {made, {Kind: 99, ID: id}},
	} {
		b := newBook()
		for i := range rs {
			err := b.applyLocked(&rs[i])
			if last := i == len(rs)-1; (err == nil) == last {
				t.Errorf("%s, record %d: %v", name, i, err)
			}
		}
	}
}

// An invite used by a member renews it with the name, tags and grants it has.
func TestRenewal(t *testing.T) {
	r := newRig(t)
	a := keys.NewSigningKey()
	first, err := r.Spend(r.with(Invite{Tags: []string{"gpu"}, Allow: []trust.What{web}}), r.request(a), nil)
	must(t, err)
	r.now += 3600
	again, err := r.Spend(r.with(Invite{}), r.request(a), nil)
	must(t, err)
	if again.Again || again.Certificate.Serial == first.Certificate.Serial || !slices.Equal(again.Certificate.Tags, []string{"gpu"}) {
		t.Fatalf("%+v", again.Certificate)
	}
	if d := r.State().Decide(a.NodeID(), a.NodeID(), "web", r.now); !d.Allowed {
		t.Fatal("the grant is gone")
	}
	if _, err := r.Spend(r.with(Invite{Tags: []string{"other"}}), r.request(a), nil); !errors.Is(err, ErrOtherTags) {
		t.Fatal(err)
	}
	v := Invite{Name: "gpu1", Uses: 1, Life: 60}
	if who, err := r.Check(&v); err != nil || who != a.NodeID() {
		t.Fatal(who, err)
	}
	if v.Tags = []string{"other"}; !errors.Is(errOf(r.Check(&v)), ErrOtherTags) {
		t.Fatal("an invite that could never be used")
	}
	// Somebody else with that invite is not the member.
	if _, err := r.Spend(r.with(Invite{}), r.request(keys.NewSigningKey()), nil); !errors.Is(err, ErrNameTaken) {
		t.Fatal(err)
	}
	// Its time over, it comes back with the tags it had.
	r.now += 2 * 86400
	back, err := r.Spend(r.with(Invite{}), r.request(a), nil)
	must(t, err)
	if !slices.Equal(back.Certificate.Tags, []string{"gpu"}) {
		t.Fatal(back.Certificate.Tags)
	}
}

func errOf[T any](_ T, err error) error { return err }

// A guest's certificate ends when it may not be renewed any more.
func TestGuest(t *testing.T) {
	r := newRig(t)
	k := keys.NewSigningKey()
	g, err := r.Spend(r.with(Invite{RenewUntil: r.now + 7200}), r.request(k), nil)
	must(t, err)
	if g.Certificate.NotAfter != r.now+7200 {
		t.Fatal(g.Certificate.NotAfter - r.now)
	}
	// Near its end there is nothing left to renew it to.
	r.now += 5000
	csr, err := identity.SignCSR(identity.CSR{Mesh: r.mesh, Node: k.NodeID(), Name: "x"}, k)
	must(t, err)
	if _, err := r.Renew(csr, nil); !errors.Is(err, ErrByHand) {
		t.Fatal(err)
	}
	id := r.with(Invite{Name: "late", RenewUntil: r.now + 10})
	r.now += 10
	if _, err := r.Spend(id, r.request(keys.NewSigningKey()), nil); !errors.Is(err, ErrExpired) {
		t.Fatal(err)
	}
}

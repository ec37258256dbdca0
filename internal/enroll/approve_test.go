package enroll

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/internal/durable"
	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/trust"
)

// with makes an invite of the fields given; the others are those of an ordinary one.
func (r *rig) with(v Invite) identity.InviteID {
	r.t.Helper()
	v.ID = identity.NewInviteID()
	if v.Name == "" {
		v.Name = "gpu1"
	}
	v.Uses, v.Expiry = max(v.Uses, 1), r.now+3600
	if v.Life == 0 {
		v.Life = 86400
	}
	if v.RenewUntil == 0 {
		v.RenewUntil = RenewForever
	}
	must(r.t, r.Book.Create(v, r.now))
	return v.ID
}

// in is a request made in the n-th session.
func (r *rig) in(key *keys.SigningKey, n byte) *identity.SignedCSR {
	r.t.Helper()
	csr, err := identity.SignCSR(identity.CSR{Mesh: r.mesh, Node: key.NodeID(), Name: "wish", Tags: []string{"wished"}, Nonce: keys.Hash{n, 9}}, key)
	must(r.t, err)
	return csr
}

// ask is what a node does that has an invite which requires approval.
func (r *rig) ask(id identity.InviteID, key *keys.SigningKey) *Request {
	r.t.Helper()
	if _, err := r.Spend(id, r.in(key, 1), nil); !errors.Is(err, ErrWaiting) {
		r.t.Fatal(err)
	}
	q, err := r.Ask(id, r.in(key, 1), "192.0.2.7", nil)
	must(r.t, err)
	return q
}

func (r *rig) grants() (out []trust.Grant) {
	for g := range r.store.Current().Grants() {
		out = append(out, g)
	}
	return out
}

var web = trust.What{Target: trust.AnyNode(), Service: "web"}

func TestApproval(t *testing.T) {
	r := newRig(t)
	id, a := r.with(Invite{Approval: true, Tags: []string{"gpu"}, Allow: []trust.What{web}}), keys.NewSigningKey()
	q := r.ask(id, a)
	if r.members() != 0 {
		t.Fatal("enrolled without approval")
	}
	w := r.Book.Waiting(r.now)
	if len(w) != 1 || w[0].ID != q.ID || w[0].Words() != identity.Words(keys.Hash{1, 9}) || w[0].Name != "wish" || w[0].Address != "192.0.2.7" {
		t.Fatalf("%+v", w)
	}
	if _, err := r.Fetch(id, a.NodeID()); !errors.Is(err, ErrWaiting) {
		t.Fatal(err)
	}
	if _, err := r.Fetch(id, keys.NewSigningKey().NodeID()); !errors.Is(err, ErrNoRequest) {
		t.Fatal(err)
	}
	// It asks again from another session: other words, the same request.
	again, err := r.Ask(id, r.in(a, 2), "192.0.2.7", nil)
	must(t, err)
	if again.ID != q.ID || again.Words() != identity.Words(keys.Hash{2, 9}) {
		t.Fatalf("%+v", again)
	}
	r.crash()
	old, wrong := identity.Words(keys.Hash{1, 9}), Approval{}
	wrong.Words = &old
	if _, err := r.Approve(q.ID, wrong, nil); !errors.Is(err, ErrWords) || r.members() != 0 {
		t.Fatal(err)
	}
	words := identity.Words(keys.Hash{2, 9})
	r.now += 2 * 3600 // the invite's own time is over; the request waits on
	g, err := r.Approve(q.ID, Approval{Words: &words}, nil)
	must(t, err)
	if g.Certificate.Name != "gpu1" || !slices.Equal(g.Certificate.Tags, []string{"gpu"}) || len(r.grants()) != 1 {
		t.Fatalf("%+v", g.Certificate)
	}
	r.crash()
	if !r.Book.Answerable(id, r.now) || len(r.Book.Waiting(r.now)) != 0 {
		t.Fatal("the answer cannot be fetched")
	}
	must(t, r.May(id, a.NodeID()))
	for range 2 {
		got, err := r.Fetch(id, a.NodeID())
		must(t, err)
		if got.Certificate.ID != g.Certificate.ID {
			t.Fatal("another certificate")
		}
	}
	twice, err := r.Approve(q.ID, Approval{}, nil)
	must(t, err)
	if twice.Certificate.ID != g.Certificate.ID {
		t.Fatal("approved twice")
	}
	// Others with the expired invite get nothing, and after its life neither does the node.
	if err := r.May(id, keys.NewSigningKey().NodeID()); !errors.Is(err, ErrExpired) {
		t.Fatal(err)
	}
	r.now += requestLife
	if err := r.May(id, a.NodeID()); !errors.Is(err, ErrExpired) || r.Book.Answerable(id, r.now) {
		t.Fatal(err)
	}
}

func TestApprovalRefuses(t *testing.T) {
	r := newRig(t)
	id := r.with(Invite{Approval: true})
	a, b := keys.NewSigningKey(), keys.NewSigningKey()
	qa, qb := r.ask(id, a), r.ask(id, b)
	if _, err := r.Approve(RequestID{1}, Approval{}, nil); !errors.Is(err, ErrNoRequest) {
		t.Fatal(err)
	}
	if _, err := r.Book.Deny(qa.ID, 7, r.now, nil); err != nil {
		t.Fatal(err)
	}
	r.crash()
	for name, err := range map[string]error{
		"denied, approved": errOf(r.Approve(qa.ID, Approval{}, nil)),
		"denied twice":     errOf(r.Book.Deny(qa.ID, 7, r.now, nil)),
	} {
		if !errors.Is(err, ErrNoRequest) {
			t.Error(name, err)
		}
	}
	for name, err := range map[string]error{
		"fetches":     errOf(r.Fetch(id, a.NodeID())),
		"asks again":  errOf(r.Ask(id, r.in(a, 3), "", nil)),
		"spends":      errOf(r.Spend(id, r.in(a, 3), nil)),
		"comes again": r.May(id, a.NodeID()),
	} {
		if !errors.Is(err, ErrDenied) {
			t.Error("a denied node", name, err)
		}
	}
	if _, err := r.Approve(qb.ID, Approval{Name: "No Name"}, nil); err == nil {
		t.Fatal("a bad name")
	}
	g, err := r.Approve(qb.ID, Approval{Name: "other", Tags: []string{"t"}}, nil)
	must(t, err)
	if g.Certificate.Name != "other" || !slices.Equal(g.Certificate.Tags, []string{"t"}) {
		t.Fatalf("%+v", g.Certificate)
	}
	if _, err := r.Fetch(id, b.NodeID()); err != nil {
		t.Fatal("a name a person chose:", err)
	}
	// The one use is used: who asks now, or asked before, is too late.
	if _, err := r.Spend(id, r.request(keys.NewSigningKey()), nil); !errors.Is(err, ErrUsed) {
		t.Fatal(err)
	}
	id = r.with(Invite{Approval: true, Name: "x"})
	q1, q2 := r.ask(id, keys.NewSigningKey()), r.ask(id, keys.NewSigningKey())
	_, err = r.Approve(q1.ID, Approval{}, nil)
	must(t, err)
	if _, err := r.Approve(q2.ID, Approval{}, nil); !errors.Is(err, ErrUsed) {
		t.Fatal("one use, two machines:", err)
	}
	// Taken back while somebody waits.
	id = r.with(Invite{Approval: true, Name: "y"})
	q := r.ask(id, keys.NewSigningKey())
	must(t, r.Book.Remove(id, 0, r.now))
	if _, err := r.Approve(q.ID, Approval{}, nil); !errors.Is(err, ErrRemoved) || len(r.Book.Waiting(r.now)) != 0 {
		t.Fatal(err)
	}
	// Nobody answered for a week.
	id = r.with(Invite{Approval: true, Name: "z"})
	q = r.ask(id, keys.NewSigningKey())
	r.now += requestLife
	if _, err := r.Approve(q.ID, Approval{}, nil); !errors.Is(err, ErrExpired) || len(r.Book.Waiting(r.now)) != 0 {
		t.Fatal(err)
	}
}

// Strangers with an invite that requires approval fill neither the list nor the disk.
func TestRequestsAreBounded(t *testing.T) {
	r := newRig(t)
	id := r.with(Invite{Approval: true})
	a := keys.NewSigningKey()
	r.ask(id, a)
	n, recorded := 1, 1
	for ; ; n++ {
		note := func(Request) error { recorded++; return nil }
		if _, err := r.Ask(id, r.in(keys.NewSigningKey(), 1), "", note); errors.Is(err, ErrTooMany) {
			break
		} else if err != nil || n > 100 {
			t.Fatal(n, err)
		}
	}
	if n != 2+maxAsked || recorded != n {
		t.Fatalf("%d requests by an invite of one use, %d records", n, recorded)
	}
	for i := 2; ; i++ {
		if _, err := r.Ask(id, r.in(a, byte(i)), "", nil); errors.Is(err, ErrTooMany) {
			break
		} else if err != nil || i > maxAgain+2 {
			t.Fatal(i, err)
		}
	}
	full := 0
	for r.Book.Waiting(r.now)[0].ID != (RequestID{}) && full < MaxWaiting {
		id = r.with(Invite{Approval: true, Name: fmt.Sprintf("n%d", full)})
		for {
			_, err := r.Ask(id, r.in(keys.NewSigningKey(), 1), strings.Repeat("x", 1000), nil)
			if errors.Is(err, ErrTooMany) {
				break
			}
			must(t, err)
		}
		if full++; len(r.Book.Waiting(r.now)) == MaxWaiting {
			break
		}
	}
	if got := r.Book.Waiting(r.now); len(got) != MaxWaiting || len(got[len(got)-1].Address) > maxAddress {
		t.Fatal(len(got))
	}
}

// The power goes at every write of the way from the question to the answer, with and without its effect. The node asks again, the
// person approves again, and a second node that tries in between never shares the one use.
func TestCrashAtEveryStepOfAnApproval(t *testing.T) {
	for _, keep := range []bool{false, true} {
		for step := 1; ; step++ {
			r := newRig(t)
			id := r.with(Invite{Approval: true, Allow: []trust.What{web}})
			other := r.invite("pi4")
			a, b := keys.NewSigningKey(), keys.NewSigningKey()
			way := func() error {
				q, err := r.Ask(id, r.in(a, 1), "", nil)
				if err != nil {
					return err
				}
				_, err = r.Approve(q.ID, Approval{}, nil)
				return err
			}
			r.disk.CutPower(step, keep)
			if way() == nil {
				if step < 4 {
					t.Fatal("the way has more writes than", step)
				}
				break
			}
			r.crash()
			_, err := r.Spend(other, r.request(keys.NewSigningKey()), nil)
			must(t, err)
			_, thief := r.Ask(id, r.in(b, 1), "", nil)
			if thief != nil && !errors.Is(thief, ErrUsed) && !errors.Is(thief, ErrNameTaken) {
				t.Fatal(thief)
			}
			must(t, way())
			g, err := r.Fetch(id, a.NodeID())
			must(t, err)
			for _, q := range r.Book.Waiting(r.now) {
				if _, err := r.Approve(q.ID, Approval{}, nil); err == nil {
					t.Fatalf("step %d, keep %v: one use, two machines", step, keep)
				}
			}
			if r.members() != 2 || len(r.grants()) != 1 || !r.State().Logged(g.Certificate) {
				t.Fatalf("step %d, keep %v: %d members, %d grants", step, keep, r.members(), len(r.grants()))
			}
			r.crash()
			if again, err := r.Fetch(id, a.NodeID()); err != nil || again.Certificate.ID != g.Certificate.ID {
				t.Fatal("another certificate after a crash", err)
			}
		}
	}
}

// The same for an invite of two uses: whatever a crash leaves, two machines have it, each with its own name and its grant.
func TestCrashAtEveryStepOfSeveralUses(t *testing.T) {
	for _, keep := range []bool{false, true} {
		for step := 1; ; step++ {
			r := newRig(t)
			id := r.with(Invite{Name: "rack", Uses: 2, Allow: []trust.What{web}})
			ks := []*keys.SigningKey{keys.NewSigningKey(), keys.NewSigningKey(), keys.NewSigningKey()}
			r.disk.CutPower(step, keep)
			_, err0 := r.Spend(id, r.request(ks[0]), nil)
			_, err1 := r.Spend(id, r.request(ks[1]), nil)
			if err0 == nil && err1 == nil {
				if step < 8 {
					t.Fatal("two enrolments have more writes than", step)
				}
				break
			}
			r.crash()
			won := 0
			for _, i := range []int{2, 0, 1} { // a third machine first
				_, err := r.Spend(id, r.request(ks[i]), nil)
				switch {
				case err == nil:
					won++
				case !errors.Is(err, ErrUsed):
					t.Fatal(err)
				}
				if i == 0 && err0 == nil && err != nil {
					t.Fatalf("step %d: it was answered, and now it is refused: %v", step, err)
				}
			}
			names := map[string]bool{}
			for m := range r.State().Members() {
				names[m.Name] = true
			}
			if won != 2 || len(names) != 2 || len(r.grants()) != 2 {
				t.Fatalf("step %d, keep %v: %d machines, names %v, %d grants", step, keep, won, names, len(r.grants()))
			}
		}
	}
}

// A disk that fails a write of the book: nothing was approved, in every flavour, until it works again.
func TestFailedApproval(t *testing.T) {
	for _, op := range []durable.Op{durable.OpWrite, durable.OpSync} {
		for _, happen := range []bool{false, true} {
			r := newRig(t)
			id, a := r.with(Invite{Approval: true}), keys.NewSigningKey()
			q := r.ask(id, a)
			r.disk.Fail(durable.Fault{Op: op, Err: errors.New("EIO"), Happen: happen, Stay: true})
			if _, err := r.Approve(q.ID, Approval{}, nil); err == nil {
				t.Fatal("approved on a failing disk")
			}
			if _, err := r.Book.Deny(q.ID, 0, r.now, nil); err == nil {
				t.Fatal("denied on a failing disk")
			}
			r.disk.Heal()
			if _, err := r.Book.Deny(q.ID, 0, r.now, nil); err != nil {
				t.Fatal(err)
			}
			r.crash()
			if _, err := r.Approve(q.ID, Approval{}, nil); !errors.Is(err, ErrNoRequest) || r.members() != 0 {
				t.Fatal(err, r.members())
			}
		}
	}
}

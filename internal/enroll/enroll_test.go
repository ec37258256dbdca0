package enroll

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/internal/durable"
	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/trust"
)

// rig is an issuer over a disk that can fail and crash.
type rig struct {
	t       testing.TB
	disk    *durable.Mem
	key     *keys.SigningKey
	genesis []byte
	mesh    keys.MeshID
	now     int64

	store *trust.Store
	*Issuer
	appendErr error // what Append fails with, before it does anything
}

func newRig(t testing.TB) *rig {
	return rigWith(t, trust.CapEnroll|trust.CapRevoke|trust.CapGrant)
}

func rigWith(t testing.TB, caps trust.Caps) *rig {
	r := &rig{t: t, disk: durable.NewMem(), key: keys.NewSigningKey(), now: time.Now().Unix()}
	root := keys.NewSigningKey()
	var err error
	r.genesis, r.mesh, err = trust.NewGenesis(trust.GenesisConfig{
		Name: "m", Issued: r.now - 10, Keys: []trust.RootKey{{Pub: root.Public(), Name: "r"}},
		Issuers: []trust.Issuer{{
			ID: r.key.Public(), Caps: caps, Tags: []string{"*"}, MaxTTL: 365 * 86400,
			NotAfter: r.now + 365*86400, Name: "i",
		}},
		GroupIssuer: r.key.Public(),
	}, root)
	must(t, err)
	must(t, trust.Create(r.disk, r.genesis, nil, nil))
	must(t, r.open())
	return r
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// open starts the issuer on what the disk holds.
func (r *rig) open() error {
	store, err := trust.Open(r.disk, r.mesh)
	if err != nil {
		return err
	}
	book, _, err := OpenBook(r.disk, "invites")
	if err != nil {
		store.Close()
		return err
	}
	r.store = store
	r.Issuer = &Issuer{
		Key: r.key, Mesh: r.mesh, Book: book, State: store.Current, Now: func() int64 { return r.now },
		Append: func(ops ...trust.Op) error {
			if r.appendErr != nil {
				return r.appendErr
			}
			_, err := store.AppendOwn(r.key, r.now, ops...)
			return err
		},
	}
	return nil
}

func (r *rig) crash() {
	r.t.Helper()
	r.disk.Crash()
	r.appendErr = nil
	must(r.t, r.open())
}

func (r *rig) invite(name string) identity.InviteID {
	r.t.Helper()
	id := identity.NewInviteID()
	must(r.t, r.Book.Create(Invite{ID: id, Name: name, Expiry: r.now + 3600, Uses: 1, Life: 86400, RenewUntil: RenewForever}, r.now))
	return id
}

// request is what a newcomer asks with.
func (r *rig) request(key *keys.SigningKey) *identity.SignedCSR {
	r.t.Helper()
	nonce := keys.Hash{1}
	csr, err := identity.SignCSR(identity.CSR{Mesh: r.mesh, Node: key.NodeID(), Name: "ignored", Nonce: nonce}, key)
	must(r.t, err)
	return csr
}

func (r *rig) members() int {
	n := 0
	for range r.store.Current().Members() {
		n++
	}
	return n
}

func TestSpend(t *testing.T) {
	r := newRig(t)
	id := r.invite("gpu1")
	a, b := keys.NewSigningKey(), keys.NewSigningKey()
	g, err := r.Spend(id, r.request(a), nil)
	must(t, err)
	if g.Again || g.Certificate.Name != "gpu1" || g.Certificate.Node != a.NodeID() || !r.State().Logged(g.Certificate) {
		t.Fatalf("%+v", g)
	}
	// A lost answer: the same node gets the same certificate.
	again, err := r.Spend(id, r.request(a), nil)
	must(t, err)
	if !again.Again || again.Certificate.ID != g.Certificate.ID {
		t.Fatal("another certificate")
	}
	if _, err := r.Spend(id, r.request(b), nil); !errors.Is(err, ErrUsed) {
		t.Fatal(err)
	}
	if !r.Book.Answerable(id, r.now) {
		t.Fatal("a spent invite must be answered until it expires")
	}
	r.crash()
	again, err = r.Spend(id, r.request(a), nil)
	must(t, err)
	if again.Certificate.ID != g.Certificate.ID {
		t.Fatal("another certificate after a crash")
	}
}

func TestSpendRefuses(t *testing.T) {
	r := newRig(t)
	member := keys.NewSigningKey()
	_, err := r.Spend(r.invite("taken"), r.request(member), nil)
	must(t, err)
	revoked := keys.NewSigningKey()
	_, err = r.Spend(r.invite("gone"), r.request(revoked), nil)
	must(t, err)
	must(t, r.Append(trust.OpRevokeNode{Node: revoked.NodeID()}))
	removed := r.invite("removed")
	must(t, r.Book.Remove(removed, 0, r.now))
	if r.Book.Answerable(removed, r.now) {
		t.Fatal("answers a removed invite")
	}
	expired := r.invite("expired")
	r.Book.invites[expired].Expiry = r.now
	if r.Book.Answerable(expired, r.now) {
		t.Fatal("answers an expired invite")
	}
	greedy := identity.NewInviteID()
	must(t, r.Book.Create(Invite{ID: greedy, Name: "greedy", Expiry: r.now + 60, Uses: 1, Life: 366 * 86400}, r.now))
	for name, tc := range map[string]struct {
		invite identity.InviteID
		node   *keys.SigningKey
		err    error
	}{
		"foreign":     {identity.NewInviteID(), keys.NewSigningKey(), ErrUnknown},
		"removed":     {removed, keys.NewSigningKey(), ErrRemoved},
		"expired":     {expired, keys.NewSigningKey(), ErrExpired},
		"revoked key": {r.invite("new"), revoked, ErrRevoked},
		"other name":  {r.invite("other"), member, ErrOtherName},
		"name taken":  {r.invite("taken"), keys.NewSigningKey(), ErrNameTaken},
		"too long":    {greedy, keys.NewSigningKey(), ErrMayNot},
	} {
		before := r.members()
		g, err := r.Spend(tc.invite, r.request(tc.node), nil)
		if !errors.Is(err, tc.err) || g != nil {
			t.Errorf("%s: %v", name, err)
		}
		if r.members() != before {
			t.Errorf("%s: a member all the same", name)
		}
	}
	// A member with a new invite for its own name is renewed.
	if _, err := r.Spend(r.invite("taken"), r.request(member), nil); err != nil {
		t.Fatal(err)
	}
}

func TestSpendIsRecordedFirst(t *testing.T) {
	r := newRig(t)
	id, key := r.invite("gpu1"), keys.NewSigningKey()
	full := errors.New("the audit log is full")
	if _, err := r.Spend(id, r.request(key), func(*identity.SignedCertificate, bool) error {
		if r.members() != 0 || len(r.Book.invites[id].Spends) != 0 {
			t.Error("done before it was recorded")
		}
		return full
	}); !errors.Is(err, full) {
		t.Fatal(err)
	}
	if r.members() != 0 || len(r.Book.invites[id].Spends) != 0 {
		t.Fatal("enrolled without a record")
	}
	_, err := r.Spend(id, r.request(keys.NewSigningKey()), nil)
	must(t, err)
}

// Two nodes with one invite at one moment: exactly one wins.
func TestSimultaneousSpends(t *testing.T) {
	r := newRig(t)
	for round := range 200 {
		id := r.invite(fmt.Sprintf("n%d", round))
		var won atomic.Int32
		var wg sync.WaitGroup
		start := make(chan struct{})
		for range 2 {
			csr := r.request(keys.NewSigningKey())
			wg.Go(func() {
				<-start
				_, err := r.Spend(id, csr, nil)
				switch {
				case err == nil:
					won.Add(1)
				case !errors.Is(err, ErrUsed):
					t.Error(err)
				}
			})
		}
		close(start)
		wg.Wait()
		if won.Load() != 1 {
			t.Fatalf("round %d: %d winners", round, won.Load())
		}
	}
	if n := r.members(); n != 200 {
		t.Fatal(n)
	}
}

// Power is cut at every write of an enrolment, and a second node comes before the first tries again, or after. Never are both members,
// and whoever was answered stays.
func TestCrashAtEveryStep(t *testing.T) {
	for _, keep := range []bool{false, true} {
		for _, thief := range []bool{false, true} {
			for step := 1; ; step++ {
				r := newRig(t)
				id := r.invite("gpu1")
				other := r.invite("pi4")
				a, b := keys.NewSigningKey(), keys.NewSigningKey()
				r.disk.CutPower(step, keep)
				_, err := r.Spend(id, r.request(a), nil)
				if err == nil {
					if step == 1 {
						t.Fatal("nothing was written")
					}
					break // all steps done
				}
				r.crash()
				// Another enrolment comes first: it must not burn the unfinished one.
				_, err = r.Spend(other, r.request(keys.NewSigningKey()), nil)
				must(t, err)
				first, second := a, b
				if thief {
					first, second = b, a
				}
				g, err1 := r.Spend(id, r.request(first), nil)
				_, err2 := r.Spend(id, r.request(second), nil)
				won := 0
				for _, err := range []error{err1, err2} {
					switch {
					case err == nil:
						won++
					case !errors.Is(err, ErrUsed) && !errors.Is(err, ErrNameTaken):
						t.Fatalf("step %d: %v", step, err)
					}
				}
				if !thief && err1 != nil {
					t.Fatalf("step %d: the node's second try: %v", step, err1)
				}
				if won != 1 || r.members() != 2 {
					t.Fatalf("step %d, keep %v, thief %v: %d winners, %d members", step, keep, thief, won, r.members())
				}
				if g != nil && !r.State().Logged(g.Certificate) {
					t.Fatal("a certificate that is not in the log")
				}
			}
		}
	}
}

// The chain cannot be written after the book was: the spend is finished before the next one.
func TestUnloggedSpendIsRepaired(t *testing.T) {
	r := newRig(t)
	id, a := r.invite("gpu1"), keys.NewSigningKey()
	r.appendErr = errors.New("disk full")
	if _, err := r.Spend(id, r.request(a), nil); !errors.Is(err, r.appendErr) {
		t.Fatal(err)
	}
	r.appendErr = nil
	_, err := r.Spend(r.invite("pi4"), r.request(keys.NewSigningKey()), nil)
	must(t, err)
	g, err := r.Spend(id, r.request(a), nil)
	must(t, err)
	if !g.Again || !r.State().Logged(g.Certificate) {
		t.Fatalf("%+v", g)
	}
}

// A disk that fails a write of the book: the spend did not happen, in every flavour, and the book works again when the disk does.
func TestFailedBookWrite(t *testing.T) {
	for _, op := range []durable.Op{durable.OpWrite, durable.OpSync} {
		for _, happen := range []bool{false, true} {
			r := newRig(t)
			id, a, b := r.invite("gpu1"), keys.NewSigningKey(), keys.NewSigningKey()
			r.disk.Fail(durable.Fault{Op: op, Err: errors.New("EIO"), Happen: happen, Stay: true})
			if _, err := r.Spend(id, r.request(a), nil); err == nil {
				t.Fatal("spent on a failing disk")
			}
			r.disk.Heal()
			_, err := r.Spend(id, r.request(b), nil)
			must(t, err)
			r.crash()
			if _, err := r.Spend(id, r.request(a), nil); err == nil || r.members() != 1 {
				t.Fatalf("two nodes by one invite: %v, %d members", err, r.members())
			}
			if _, err := r.Spend(id, r.request(b), nil); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestBookRules(t *testing.T) {
	r := newRig(t)
	good := Invite{ID: identity.NewInviteID(), Name: "n", Expiry: r.now + 60, Uses: 1, Life: 60}
	must(t, r.Book.Create(good, r.now))
	for name, change := range map[string]func(*Invite){
		"twice":    func(*Invite) {},
		"name":     func(v *Invite) { v.ID, v.Name = identity.NewInviteID(), "No Name" },
		"past":     func(v *Invite) { v.ID, v.Expiry = identity.NewInviteID(), r.now },
		"too long": func(v *Invite) { v.ID, v.Expiry = identity.NewInviteID(), r.now+MaxInviteLife+1 },
		"no uses":  func(v *Invite) { v.ID, v.Uses = identity.NewInviteID(), 0 },
		"101 uses": func(v *Invite) { v.ID, v.Uses = identity.NewInviteID(), MaxUses+1 },
		"long name of several": func(v *Invite) {
			v.ID, v.Uses, v.Name = identity.NewInviteID(), 2, strings.Repeat("n", identity.MaxName-numberRoom+1)
		},
		"many services": func(v *Invite) {
			v.ID, v.Allow = identity.NewInviteID(), make([]trust.What, MaxAllow+1)
			for i := range v.Allow {
				v.Allow[i].Service = "web"
			}
		},
		"bad service": func(v *Invite) { v.ID, v.Allow = identity.NewInviteID(), []trust.What{{Service: "No Service"}} },
		"no life":     func(v *Invite) { v.ID, v.Life = identity.NewInviteID(), 0 },
		"tags":        func(v *Invite) { v.ID, v.Tags = identity.NewInviteID(), []string{"b", "a"} },
	} {
		v := good
		change(&v)
		if err := r.Book.Create(v, r.now); err == nil {
			t.Error(name, "accepted")
		}
	}
	r.crash() // a refused invite has not damaged the book
	if l := r.Book.List(r.now); len(l) != 1 || l[0].Status(r.now) != "open" {
		t.Fatal(l)
	}
	for i := 1; i < MaxOpen; i++ {
		r.invite("m")
	}
	if err := r.Book.Create(Invite{ID: identity.NewInviteID(), Name: "x", Expiry: r.now + 60, Uses: 1, Life: 60}, r.now); !errors.Is(err, ErrFull) {
		t.Fatal(err)
	}
	must(t, r.Book.Remove(good.ID, 7, r.now))
	must(t, r.Book.Remove(good.ID, 7, r.now))
	if err := r.Book.Remove(identity.NewInviteID(), 7, r.now); !errors.Is(err, ErrUnknown) {
		t.Fatal(err)
	}
	spent := r.invite("s")
	_, err := r.Spend(spent, r.request(keys.NewSigningKey()), nil)
	must(t, err)
	if err := r.Book.Remove(spent, 7, r.now); !errors.Is(err, ErrUsed) {
		t.Fatal(err)
	}
}

// TestMay is the question before a word about the mesh is said: a used invite is only for the node that used it.
func TestMay(t *testing.T) {
	r := newRig(t)
	id := r.invite("gpu1")
	a, b := keys.NewSigningKey(), keys.NewSigningKey()
	for _, k := range []*keys.SigningKey{a, b} {
		must(t, r.May(id, k.NodeID()))
	}
	_, err := r.Spend(id, r.request(a), nil)
	must(t, err)
	must(t, r.May(id, a.NodeID()))
	if err := r.May(id, b.NodeID()); !errors.Is(err, ErrUsed) {
		t.Errorf("another node with a used invite: %v", err)
	}
	if err := r.May(identity.NewInviteID(), a.NodeID()); !errors.Is(err, ErrUnknown) {
		t.Errorf("unknown invite: %v", err)
	}
}

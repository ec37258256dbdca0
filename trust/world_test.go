package trust

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"testing"

	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/keys"
)

// epoch0 is when every test's mesh is founded.
const epoch0 = 1_700_000_000

const day = 24 * 3600

// keyOf makes the same key for the same words.
func keyOf(format string, args ...any) *keys.SigningKey {
	seed := sha256.Sum256(fmt.Appendf(nil, format, args...))
	k, err := keys.SigningKeyFromSeed(seed[:])
	if err != nil {
		panic(err)
	}
	return k
}

func nodeID(name string) keys.NodeID { return keyOf("node %s", name).NodeID() }

// world is a mesh seen from outside: the keys of everybody, and a writer per issuer that can also write what is forbidden.
type world struct {
	t       testing.TB
	roots   []*keys.SigningKey
	genesis []byte
	mesh    keys.MeshID
	start   *State
}

func rootKeys(n int) (ks []*keys.SigningKey, list []RootKey) {
	for i := range n {
		k := keyOf("root %d", i)
		ks = append(ks, k)
		list = append(list, RootKey{Pub: k.Public(), Name: fmt.Sprintf("root-%d", i)})
	}
	return ks, list
}

func issuerOf(name string, caps Caps) Issuer {
	return Issuer{
		ID: keyOf("issuer %s", name).Public(), Caps: caps, Tags: []string{"*"}, MaxTTL: 90 * day, NotAfter: epoch0 + 365*day, Name: name,
	}
}

// newWorld founds a mesh with n root keys and issuers with all rights.
func newWorld(t testing.TB, n int, issuers ...string) *world {
	var list []Issuer
	for _, name := range issuers {
		list = append(list, issuerOf(name, allCaps))
	}
	return worldWith(t, n, list...)
}

func worldWith(t testing.TB, n int, issuers ...Issuer) *world {
	t.Helper()
	ks, list := rootKeys(n)
	c := GenesisConfig{Name: "home", Issued: epoch0, Keys: list, Issuers: issuers}
	if len(issuers) > 0 {
		c.GroupIssuer = issuers[0].ID
	}
	raw, mesh, err := NewGenesis(c, ks...)
	if err != nil {
		t.Fatal(err)
	}
	s, err := Genesis(raw)
	if err != nil {
		t.Fatal(err)
	}
	return &world{t: t, roots: ks, genesis: raw, mesh: mesh, start: s}
}

// writer writes one issuer's chain, or a branch of it. It checks nothing.
type writer struct {
	w           *world
	key         *keys.SigningKey
	seq         uint64
	prev        keys.Hash
	time        int64
	rootVersion uint64
	serial, gid uint64
	all         []*Entry
}

func (w *world) writer(issuer string) *writer {
	k := keyOf("issuer %s", issuer)
	return &writer{w: w, key: k, prev: keys.ChainStart(w.mesh, k.Public()), time: epoch0, rootVersion: 1}
}

// branch continues the chain separately.
func (x *writer) branch() *writer {
	y := *x
	y.all = append([]*Entry(nil), x.all...)
	return &y
}

// draft is the next entry, unsigned; change may spoil it.
func (x *writer) draft(ops ...Op) *Entry {
	return &Entry{
		Issuer: x.key.Public(), Seq: x.seq + 1, Prev: x.prev, Time: x.time + 1, RootVersion: x.rootVersion, Ops: ops,
	}
}

func (x *writer) sign(e *Entry) *Entry {
	x.w.t.Helper()
	raw := signEntry(e, x.w.mesh, x.key)
	got, err := ParseEntry(raw, x.w.mesh)
	if err != nil {
		x.w.t.Fatal(err)
	}
	return got
}

// add signs the next entry of the chain.
func (x *writer) add(ops ...Op) *Entry {
	x.w.t.Helper()
	e := x.sign(x.draft(ops...))
	x.seq, x.prev, x.time = e.Seq, e.hash, e.Time
	x.all = append(x.all, e)
	return e
}

// enroll is an enrolment of the node for 30 days, with the next serial.
func (x *writer) enroll(node string, tags ...string) OpEnroll { return x.enrollAs(node, node, tags...) }

func (x *writer) enrollAs(node, name string, tags ...string) OpEnroll {
	x.w.t.Helper()
	return EnrollOp(x.cert(node, name, tags...))
}

func (x *writer) cert(node, name string, tags ...string) *identity.SignedCertificate {
	return x.certFor(node, name, epoch0, epoch0+30*day, tags...)
}

func (x *writer) certFor(node, name string, from, to int64, tags ...string) *identity.SignedCertificate {
	x.w.t.Helper()
	x.serial++
	c, err := identity.IssueCertificate(identity.Certificate{
		Mesh: x.w.mesh, Node: nodeID(node), Serial: x.serial, Issuer: x.key.Public(), NotBefore: from, NotAfter: to,
		Tags: identity.NormalTags(tags), Name: name, RenewUntil: epoch0 + 400*day,
	}, x.key)
	if err != nil {
		x.w.t.Fatal(err)
	}
	return c
}

func (x *writer) grant(who, target Target, service string) OpGrant {
	x.gid++
	return OpGrant{GID: x.gid, Who: who, What: What{Target: target, Service: service}}
}

func revokeNode(node string) OpRevokeNode { return OpRevokeNode{Node: nodeID(node), Reason: 1} }

// must applies entries that have to be accepted.
func must(t testing.TB, s *State, es ...*Entry) *State {
	t.Helper()
	for _, e := range es {
		n, _, err := s.ApplyEntry(e.raw)
		if err != nil {
			t.Fatalf("entry %d: %v", e.Seq, err)
		}
		s = n
	}
	return s
}

// refuse applies an entry that has to be refused with this error, and checks that nothing comes back.
func refuse(t testing.TB, s *State, e *Entry, want error) {
	t.Helper()
	n, _, err := s.ApplyEntry(e.raw)
	if !errors.Is(err, want) {
		t.Fatalf("entry %d: got %v, want %v", e.Seq, err, want)
	}
	if n != nil {
		t.Fatal("an error came with a state")
	}
}

func (w *world) root(s *State, change func(*Root)) []byte {
	w.t.Helper()
	raw, err := s.NewRoot(s.Root().Issued+1, change, w.roots...)
	if err != nil {
		w.t.Fatal(err)
	}
	return raw
}

func mustRoot(t testing.TB, s *State, raw []byte) *State {
	t.Helper()
	n, err := s.ApplyRoot(raw)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// cutoff edits a root so that the issuer's chain ends here and it has no rights left.
func cutoff(r *Root, issuer keys.PublicKey, seq uint64, hash keys.Hash) {
	for i := range r.Issuers {
		if r.Issuers[i].ID == issuer {
			r.Issuers[i].Caps = 0
			r.Issuers[i].Cutoff = &Cutoff{Seq: seq, Hash: hash}
		}
	}
	if r.GroupIssuer == issuer {
		r.GroupIssuer = keys.PublicKey{}
	}
}

// lively reports whether the node is a live member.
func lively(s *State, node string) bool {
	_, ok := s.LiveMember(nodeID(node), epoch0+day)
	return ok
}

func wantLive(t testing.TB, s *State, node string, want bool) {
	t.Helper()
	if lively(s, node) != want {
		t.Fatalf("%s live: %v, want %v", node, !want, want)
	}
}

// dump is everything a State says, in an order that does not depend on how it came to be.
func dump(s *State) string {
	var out []byte
	p := func(format string, args ...any) { out = fmt.Appendf(out, format+"\n", args...) }
	v := s.Vector()
	p("root %d %s pending %d", v.RootVersion, v.RootHash, len(s.pending))
	for _, i := range v.Issuers {
		st, _ := s.IssuerStatus(i.Issuer)
		p("issuer %s %d %s %d serial %d gid %d upgrade %v", i.Issuer, i.Seq, i.Hash, i.Forked, st.NextSerial, st.NextGID, st.Upgrade)
	}
	g, c := s.GroupCommit()
	p("group %d %s", g, c)
	for m := range s.Members() {
		p("member %s %q %q %s/%d %d-%d", m.Node, m.Name, m.Tags, m.Issuer, m.Serial, m.NotBefore, m.NotAfter)
		p("  conflict %v before %v", s.NameConflict(m.Name, epoch0+day), s.Predecessors(m.Node))
	}
	for id, r := range s.RevokedNodes() {
		next, ok := s.SuccessorOf(id)
		p("revoked %s %v next %s %v", id, r, next, ok)
	}
	for k, list := range s.certs.all() {
		if r, ok := s.revocation(list); ok {
			p("cert %s/%d %v", k.issuer, k.number, r)
		}
	}
	for g := range s.Grants() {
		p("grant %v %v %v %v %v", g.Ref, g.Who, g.What, g.Note, g.Removed)
	}
	return string(out)
}

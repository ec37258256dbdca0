package core

import (
	"crypto/sha256"
	"fmt"
	"sort"
	"testing"

	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/internal/durable"
	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/trust"
)

// epoch0 is the wall clock at which every simulation begins, in unix seconds.
const epoch0 = 1_800_000_000

const hour = 3600

// fixture is a mesh's trust: one root, one issuer that can do everything, and nodes in the order of their ids.
type fixture struct {
	t       testing.TB
	genesis []byte
	mesh    keys.MeshID
	root    *keys.SigningKey
	issuer  *keys.SigningKey
	author  *trust.Store // where the issuer writes
	serial  uint64
	nodes   []*keys.SigningKey
	certs   []*identity.SignedCertificate
	history []trust.Frame
}

func keyOf(format string, args ...any) *keys.SigningKey {
	seed := sha256.Sum256(fmt.Appendf(nil, format, args...))
	k, err := keys.SigningKeyFromSeed(seed[:])
	if err != nil {
		panic(err)
	}
	return k
}

// newFixture founds a mesh with n nodes, enrolled for 30 days. name makes its keys differ from those of other fixtures.
func newFixture(t testing.TB, n int) *fixture { return newFixtureUntil(t, n, 30*24*hour) }

func newFixtureUntil(t testing.TB, n int, life int64) *fixture {
	t.Helper()
	f := &fixture{t: t, root: keyOf("root"), issuer: keyOf("issuer")}
	var err error
	f.genesis, f.mesh, err = trust.NewGenesis(trust.GenesisConfig{
		Name: "home", Issued: epoch0 - hour, Keys: []trust.RootKey{{Pub: f.root.Public(), Name: "root"}},
		Issuers: []trust.Issuer{{
			ID: f.issuer.Public(), Caps: trust.CapEnroll | trust.CapRevoke | trust.CapGrant, Tags: []string{"*"}, MaxTTL: 90 * 24 * hour,
			NotAfter: epoch0 + 365*24*hour, Name: "admin",
		}},
		GroupIssuer: f.issuer.Public(),
	}, f.root)
	f.check(err)
	fsys := durable.NewMem()
	f.check(trust.Create(fsys, f.genesis, nil, nil))
	f.author, err = trust.Open(fsys, f.mesh)
	f.check(err)
	t.Cleanup(func() { f.check(f.author.Close()) })
	for i := range n {
		f.nodes = append(f.nodes, keyOf("node %d", i))
	}
	sort.Slice(f.nodes, func(i, j int) bool { return less(f.nodes[i].NodeID(), f.nodes[j].NodeID()) })
	var ops []trust.Op
	for i := range n {
		c := f.certify(i, epoch0-hour, epoch0+life)
		f.certs = append(f.certs, c)
		ops = append(ops, trust.EnrollOp(c))
		if len(ops) == trust.MaxOps/2 || i == n-1 {
			f.history = append(f.history, f.write(ops...).Frame)
			ops = nil
		}
	}
	return f
}

func (f *fixture) check(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

// certify makes a certificate that is in no log yet.
func (f *fixture) certify(i int, from, to int64) *identity.SignedCertificate {
	f.t.Helper()
	f.serial++
	c, err := identity.IssueCertificate(identity.Certificate{
		Mesh: f.mesh, Node: f.nodes[i].NodeID(), Serial: f.serial, Issuer: f.issuer.Public(), NotBefore: from, NotAfter: to,
		Name: fmt.Sprintf("n%d", i), RenewUntil: epoch0 + 365*24*hour,
	}, f.issuer)
	f.check(err)
	return c
}

// write signs the next entry of the issuer.
func (f *fixture) write(ops ...trust.Op) trust.Change {
	f.t.Helper()
	c, err := f.author.AppendOwn(f.issuer, epoch0, ops...)
	f.check(err)
	return c
}

func (f *fixture) revocation(i int) trust.Change {
	f.t.Helper()
	return f.write(trust.OpRevokeNode{Node: f.nodes[i].NodeID(), Reason: 1})
}

// ledger is a log that holds what the mesh began with.
func (f *fixture) ledger() *trust.Memory {
	f.t.Helper()
	m, err := trust.NewMemory(f.genesis, nil)
	f.check(err)
	for _, fr := range f.history {
		f.apply(m, fr)
	}
	return m
}

// apply applies one ENTRY frame to a log and returns the change.
func (f *fixture) apply(m *trust.Memory, fr trust.Frame) trust.Change {
	f.t.Helper()
	c, err := m.ApplyEntry(f.parse(fr), epoch0)
	f.check(err)
	return c
}

func (f *fixture) parse(fr trust.Frame) *trust.Entry {
	f.t.Helper()
	e, err := trust.ParseEntry(content(fr.Body), f.mesh)
	f.check(err)
	return e
}

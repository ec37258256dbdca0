package sim

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"slices"
	"time"

	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/trust"
)

// epoch0 is the wall clock at which every simulation begins, in unix seconds.
const epoch0 = 1_800_000_000

const (
	hour = 3600
	day  = 24 * hour
)

// law is the mesh's trust: one root, issuers that can do everything, and members in the order of their ids.
type law struct {
	mesh    keys.MeshID
	root    *keys.SigningKey
	issuers []*keys.SigningKey
	books   []*trust.Memory // what each issuer has signed, as it knows the mesh; the first is everybody's beginning
	nodes   []*keys.SigningKey
	certs   []*identity.SignedCertificate
	serial  uint64

	newcomers int // the last ones of the members are in no log yet
}

// keyOf makes the key of a name: the same one in every run.
func keyOf(format string, args ...any) *keys.SigningKey {
	seed := sha256.Sum256(fmt.Appendf(nil, format, args...))
	k, err := keys.SigningKeyFromSeed(seed[:])
	if err != nil {
		panic(err) // a seed of the right length
	}
	return k
}

// found makes the law of a mesh: its members are enrolled by the first issuer. Everybody may use everybody's service.
func found(cfg Config) (*law, error) {
	n, issuers := cfg.Nodes, max(cfg.Issuers, 1)
	life, since := int64(cfg.Life/time.Second), int64(cfg.Since/time.Second)
	if life == 0 {
		life = 30 * day
	}
	if since == 0 {
		since = hour
	}
	root := keyOf("sim root")
	l := &law{root: root, newcomers: cfg.Newcomers}
	var list []trust.Issuer
	for i := range issuers {
		k := keyOf("sim issuer %d", i)
		l.issuers = append(l.issuers, k)
		list = append(list, trust.Issuer{
			ID: k.Public(), Caps: trust.CapEnroll | trust.CapRevoke | trust.CapGrant | trust.CapHead, Tags: []string{"*"}, MaxTTL: since + life,
			NotAfter: epoch0 + 10*365*day, Name: fmt.Sprintf("i%d", i),
		})
	}
	genesis, mesh, err := trust.NewGenesis(trust.GenesisConfig{
		Name: "sim", Issued: epoch0 - since, Keys: []trust.RootKey{{Pub: root.Public(), Name: "root"}}, Issuers: list, GroupIssuer: l.issuers[0].Public(),
	}, root)
	if err != nil {
		return nil, err
	}
	l.mesh = mesh
	book, err := trust.NewMemory(genesis, nil)
	if err != nil {
		return nil, err
	}
	book.Share(trust.NewShared()) // what one node has verified on a state, another one need not
	for i := range n {
		l.nodes = append(l.nodes, keyOf("sim node %d", i))
	}
	slices.SortFunc(l.nodes, func(a, b *keys.SigningKey) int {
		x, y := a.NodeID(), b.NodeID()
		return bytes.Compare(x[:], y[:])
	})
	ops := []trust.Op{trust.OpGrant{GID: 1, Who: trust.AnyNode(), What: trust.What{Target: trust.AnyNode(), Service: service}}}
	for i, k := range l.nodes {
		l.serial++
		c, err := identity.IssueCertificate(identity.Certificate{
			Mesh: mesh, Node: k.NodeID(), Serial: l.serial, Issuer: l.issuers[0].Public(), NotBefore: epoch0 - since, NotAfter: epoch0 + life,
			Name: fmt.Sprintf("n%d", i), RenewUntil: epoch0 + 10*365*day,
		}, l.issuers[0])
		if err != nil {
			return nil, err
		}
		l.certs = append(l.certs, c)
		if i < n-cfg.Newcomers {
			ops = append(ops, trust.EnrollOp(c))
		}
		if len(ops) == trust.MaxOps/2 || i == n-1 && len(ops) > 0 {
			if _, err := book.AppendOwn(l.issuers[0], epoch0, ops...); err != nil {
				return nil, err
			}
			ops = nil
		}
	}
	for range issuers {
		l.books = append(l.books, book.Clone())
	}
	return l, nil
}

// beginning is the log every node starts with.
func (l *law) beginning() *trust.Memory { return l.books[0].Clone() }

// next is the number of an issuer's next entry.
func (l *law) next(issuer int) uint64 {
	seq, _, _ := l.books[issuer].Current().Position(l.issuers[issuer].Public())
	return seq + 1
}

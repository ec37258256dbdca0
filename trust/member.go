package trust

import (
	"bytes"
	"iter"
	"slices"

	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/keys"
)

// Member is what the log says of an enrolled node.
type Member struct {
	Node       keys.NodeID
	Name       string
	Tags       []string // must not be changed
	Issuer     keys.PublicKey
	Serial     uint64
	Cert       keys.Hash
	NotBefore  int64
	NotAfter   int64
	RenewUntil int64
}

// Live reports whether now lies in the certificate's window; its beginning has slack for clocks.
func (m *Member) Live(now int64) bool { return m.NotBefore-clockSlack <= now && now < m.NotAfter }

// HasTag reports whether the logged certificate carries the tag.
func (m *Member) HasTag(tag string) bool { return slices.Contains(m.Tags, tag) }

// CanRenew reports whether the certificate has ended so recently that the node may renew it by itself.
func (m *Member) CanRenew(now int64) bool {
	return m.NotAfter <= now && now < m.NotAfter+renewGrace && now <= m.RenewUntil
}

func (s *State) memberOf(x *enrolment) Member {
	return Member{
		Node: x.node, Name: x.name, Tags: x.tagList(), Issuer: s.issuers[x.issuer].id, Serial: x.serial, Cert: x.cert,
		NotBefore: x.notBefore, NotAfter: x.notAfter, RenewUntil: x.renewUntil,
	}
}

func (x *enrolment) tagList() []string {
	if x.tags == nil {
		return nil
	}
	return *x.tags
}

// counts reports whether an addition made in this entry counts.
func (s *State) counts(issuer int, seq uint64) bool { return seq != 0 && seq <= s.adds[issuer] }

// best returns the enrolment that speaks for a node: of those that count, are not revoked and pass ok, the one that begins last.
// Name and tags come from it alone, so a renewal with fewer tags takes the others away at once.
func (s *State) best(f nodeFacts, ok func(*enrolment) bool) *enrolment {
	var best *enrolment
	for x := f.enrolments; x != nil; x = x.next {
		if !s.counts(int(x.issuer), x.seq) || ok != nil && !ok(x) || best != nil && !s.newer(x, best) || s.certRevoked(x) {
			continue
		}
		best = x
	}
	return best
}

func (s *State) newer(a, b *enrolment) bool {
	switch {
	case a.notBefore != b.notBefore:
		return a.notBefore > b.notBefore
	case a.notAfter != b.notAfter:
		return a.notAfter > b.notAfter
	case a.issuer != b.issuer:
		return bytes.Compare(s.issuers[a.issuer].id[:], s.issuers[b.issuer].id[:]) < 0
	}
	return a.serial > b.serial
}

func (s *State) certRevoked(x *enrolment) bool {
	list, _ := s.certs.get(factKey{s.issuers[x.issuer].id, x.serial})
	return len(list) > 0
}

// Member returns the newest enrolment of a node that is not revoked, whatever the time.
func (s *State) Member(id keys.NodeID) (Member, bool) {
	f, ok := s.nodes.get(nodeKey(id))
	if !ok || len(f.removals()) > 0 {
		return Member{}, false
	}
	x := s.best(f, nil)
	if x == nil {
		return Member{}, false
	}
	return s.memberOf(x), true
}

// LiveMember returns the enrolment that speaks for a node now.
func (s *State) LiveMember(id keys.NodeID, now int64) (Member, bool) {
	f, ok := s.nodes.get(nodeKey(id))
	if !ok || len(f.removals()) > 0 {
		return Member{}, false
	}
	x := s.best(f, func(x *enrolment) bool { return x.notBefore-clockSlack <= now && now < x.notAfter })
	if x == nil {
		return Member{}, false
	}
	return s.memberOf(x), true
}

// Members walks the nodes that are enrolled and not revoked, expired ones included, in the order of their ids.
func (s *State) Members() iter.Seq[Member] {
	return func(yield func(Member) bool) {
		for id := range s.nodes.all() {
			if m, ok := s.Member(keys.NodeID(id)); ok && !yield(m) {
				return
			}
		}
	}
}

// ByName returns the live nodes of this name, in the order of their ids. More than one is a conflict: the name resolves to none
// of them.
func (s *State) ByName(name string, now int64) (ids []keys.NodeID) {
	f, ok := s.names.get(nameKey(name))
	if !ok {
		return nil
	}
	add := func(id keys.NodeID) {
		if m, ok := s.LiveMember(id, now); ok && m.Name == name {
			ids = append(ids, m.Node)
		}
	}
	if f.all == nil {
		add(f.first.node)
		return ids
	}
	for id := range f.all.all() {
		add(keys.NodeID(id))
	}
	return ids
}

// NameConflict reports whether a live node shares its name with another one.
func (s *State) NameConflict(name string, now int64) bool { return len(s.ByName(name, now)) > 1 }

// Revocation says who removed something and why.
type Revocation struct {
	Issuer keys.PublicKey
	Seq    uint64
	Time   int64 // of the entry
	Reason uint64
}

func (s *State) revocation(list []removal) (Revocation, bool) {
	if len(list) == 0 {
		return Revocation{}, false
	}
	r := list[0]
	for _, o := range list[1:] {
		if o.time < r.time {
			r = o
		}
	}
	return Revocation{Issuer: s.issuers[r.issuer].id, Seq: r.seq, Time: r.time, Reason: r.reason}, true
}

// Revoked returns the earliest revocation of a node's key. There is no way back.
func (s *State) Revoked(id keys.NodeID) (Revocation, bool) {
	f, ok := s.nodes.get(nodeKey(id))
	if !ok {
		return Revocation{}, false
	}
	return s.revocation(f.removals())
}

// RevokedApart returns the earliest revocation of a node's key that was not its rotation. Somebody meant the machine then, and may not have known
// that another issuer was giving it a new key. A rotation is what the old key signed, in the very entry; its reason is the issuer's word alone.
func (s *State) RevokedApart(id keys.NodeID) (Revocation, bool) {
	f, ok := s.nodes.get(nodeKey(id))
	if !ok {
		return Revocation{}, false
	}
	var apart []removal
	for _, r := range f.removals() {
		signed := slices.ContainsFunc(f.after(), func(x succession) bool { return x.issuer == r.issuer && x.seq == r.seq })
		if r.reason != RevokeRotated || !signed {
			apart = append(apart, r)
		}
	}
	return s.revocation(apart)
}

// CertRevoked returns the revocation of one certificate.
func (s *State) CertRevoked(issuer keys.PublicKey, serial uint64) (Revocation, bool) {
	list, _ := s.certs.get(factKey{issuer, serial})
	return s.revocation(list)
}

// RevokedNodes walks all revoked node ids in order.
func (s *State) RevokedNodes() iter.Seq2[keys.NodeID, Revocation] {
	return func(yield func(keys.NodeID, Revocation) bool) {
		for id, f := range s.nodes.all() {
			if r, ok := s.revocation(f.removals()); ok && !yield(keys.NodeID(id), r) {
				return
			}
		}
	}
}

// SuccessorOf returns the key that follows a rotated one, signed by it. Two different ones are none: somebody else may have had
// the old key.
func (s *State) SuccessorOf(id keys.NodeID) (next keys.NodeID, ok bool) {
	f, found := s.nodes.get(nodeKey(id))
	if !found {
		return next, false
	}
	for _, x := range f.after() {
		switch {
		case !s.counts(x.issuer, x.seq):
		case ok && x.node != next:
			return keys.NodeID{}, false
		default:
			next, ok = x.node, true
		}
	}
	return next, ok
}

// SignedSuccessors returns all keys that a key has signed as following it, whether or not that counts now, in the order of their ids.
func (s *State) SignedSuccessors(id keys.NodeID) (ids []keys.NodeID) {
	f, _ := s.nodes.get(nodeKey(id))
	for _, x := range f.after() {
		if len(ids) == 0 || ids[len(ids)-1] != x.node {
			ids = append(ids, x.node)
		}
	}
	return ids
}

// Predecessors returns the rotated keys whose name and grants have passed on to a node, itself first.
func (s *State) Predecessors(id keys.NodeID) []keys.NodeID {
	ids := []keys.NodeID{id}
	for i := 0; i < len(ids) && len(ids) < maxSuccession; i++ {
		f, ok := s.nodes.get(nodeKey(ids[i]))
		if !ok {
			continue
		}
		for _, x := range f.before() {
			if next, ok := s.SuccessorOf(x.node); ok && next == ids[i] && !slices.Contains(ids, x.node) {
				ids = append(ids, x.node)
			}
		}
	}
	return ids
}

// Logged reports whether a certificate is in the log and counts.
func (s *State) Logged(c *identity.SignedCertificate) bool {
	x, ok := s.enrolmentOf(c.Issuer, c.Serial)
	return ok && x.cert == c.ID && s.counts(int(x.issuer), x.seq)
}

// Succeeds reports whether signed rotations lead from one key to another.
func (s *State) Succeeds(old, next keys.NodeID) bool {
	return old != next && slices.Contains(s.Predecessors(next), old)
}

// Standing is how far a peer with a certificate is let in.
type Standing uint8

// The standings. Refused is the zero value: what nobody decided is refused.
const (
	Refused    Standing = iota
	SyncOnly            // we take roots, evidence and entries and send nothing
	RenewOnly           // sync, and renewal of an expired certificate
	Restricted          // sync both ways, nothing else
	Full
)

// String names the standing as protocol §5 does.
func (s Standing) String() string {
	return [...]string{"REFUSED", "SYNC_ONLY", "RENEW_ONLY", "RESTRICTED", "FULL"}[min(s, Full)]
}

// Admit is the policy half of "Verify peer": what the log says about a certificate whose signature is verified. peerRoot is the
// root version the peer has; Reason.Code is what a refused peer is told.
func (s *State) Admit(c *identity.SignedCertificate, peerRoot uint64, now int64) (Standing, Reason) {
	if c.Mesh != s.mesh {
		return Refused, ReasonForeign
	}
	if f, ok := s.nodes.get(nodeKey(c.Node)); ok && len(f.removals()) > 0 {
		return Refused, ReasonRevoked
	}
	if _, revoked := s.CertRevoked(c.Issuer, c.Serial); revoked {
		return Refused, ReasonRevoked
	}
	is, known := s.Root().Issuer(c.Issuer)
	if !known {
		if peerRoot > s.Root().Version {
			return SyncOnly, ReasonNewerRoot
		}
		return Refused, ReasonUnknownIssuer
	}
	x, logged := s.enrolmentOf(c.Issuer, c.Serial)
	if !logged {
		return s.admitUnlogged(c, is, now)
	}
	if x.node != c.Node || x.cert != c.ID {
		return Refused, ReasonMismatch
	}
	m := s.memberOf(x)
	switch {
	case now < m.NotBefore-clockSlack:
		return Refused, ReasonNotYet
	case !s.counts(int(x.issuer), x.seq):
		if now >= m.NotAfter {
			return Refused, ReasonExpired
		}
		return Restricted, ReasonSuspended
	case now >= m.NotAfter && m.CanRenew(now):
		return RenewOnly, ReasonExpiredRenew
	case now >= m.NotAfter:
		return Refused, ReasonExpired
	case s.stale(now):
		return Restricted, ReasonStale
	}
	return Full, ReasonLive
}

// admitUnlogged judges a certificate whose entry is not here yet, by the rights its issuer has now: such a peer may sync, and
// brings its entry along.
func (s *State) admitUnlogged(c *identity.SignedCertificate, is *Issuer, now int64) (Standing, Reason) {
	if is.Cutoff != nil {
		if ch, _ := s.chain(c.Issuer); ch.seq == is.Cutoff.Seq {
			return Refused, ReasonCutOff // the chain is whole, and it is not in it
		}
	}
	if why := enrollAllowed(is, c.Tags, c.NotBefore, c.NotAfter); why != "" && is.Cutoff == nil {
		return Refused, why
	}
	switch {
	case now < c.NotBefore-clockSlack:
		return Refused, ReasonNotYet
	case now >= c.NotAfter:
		return Refused, ReasonExpired
	}
	return Restricted, ReasonUnlogged
}

// NextChange returns the next moment after now at which the passing of time changes an answer of Admit or Decide: a beginning or
// an end of a certificate or a grant; 0: never.
func (s *State) NextChange(now int64) (next int64) {
	consider := func(ts ...int64) {
		for _, t := range ts {
			if t > now && (next == 0 || t < next) {
				next = t
			}
		}
	}
	for _, f := range s.nodes.all() {
		if len(f.removals()) > 0 {
			continue
		}
		for x := f.enrolments; x != nil; x = x.next {
			if s.counts(int(x.issuer), x.seq) {
				consider(x.notBefore-clockSlack, x.notAfter)
			}
		}
	}
	for _, f := range s.grants.all() {
		if len(f.removals) == 0 && s.counts(f.issuer, f.seq) {
			consider(f.op.NotBefore, f.op.NotAfter)
		}
	}
	return next
}

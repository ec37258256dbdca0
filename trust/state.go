package trust

import (
	"math"
	"slices"

	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/keys"
)

// State is what the mesh's signed objects say, as far as they are known here. It is immutable: applying something returns a new
// State that shares almost everything with the old one. All methods are safe for concurrent use.
//
// It holds facts (every op that its issuer had the right to make, whether or not it counts at the moment) and, per issuer, up
// to which entry additions count. Evidence, cutoffs and unknown ops only move that number, so nothing is ever computed again.
type State struct {
	mesh    keys.MeshID
	roots   []*Root // all accepted ones; index is version − 1
	pending []*Root // valid and contradicting successors of the current root, sorted by hash: a root fork
	chosen  map[uint64]keys.Hash
	pins    []identity.IssuerHead

	issuers []*chain // in order of first appearance in a root; a root never drops one
	adds    []uint64 // per issuer: additions of entries up to this number count

	nodes   pmap[nodeKey, nodeFacts]
	certs   pmap[factKey, []removal] // single certificates that were taken back
	grants  pmap[factKey, *grantFacts]
	names   pmap[nameKey, nameFacts] // every node ever enrolled under the name
	who     pmap[Target, rights]     // grants not taken back by both sides: right.go
	tagSets pmap[nameKey, *[]string] // of many members with the same tags only one has them

	epoch uint64
}

// chain is one issuer's contiguous prefix and what is known about the issuer beside it.
type chain struct {
	id    keys.PublicKey
	index int

	seq     uint64
	link               // of entry seq
	links   pvec[link] // of entry 1 at 0
	serials pmap[seqKey, *enrolment]
	upgrade uint64 // first entry with a critical op of an unknown kind; 0: none
	group   *groupFact

	head    *Head
	headRaw []byte
	whole   int64 // time of the newest head before this one of which every entry was held; 0: none

	// What other than the chain decides whether its additions count.
	cutoff   *Cutoff              // of the current root
	pin      *identity.IssuerHead // of the invite this node joined by
	vouch    *Cutoff              // lowest place known to lie on the right branch, while the chain has not reached the anchor
	evidence *Evidence
	frozen   uint64                // seq held when the evidence came
	trusted  uint64                // seq held when the cutoff came: until the chain is whole, no more than that counts
	strays   pmap[hashKey, []byte] // entries of other branches of a forked issuer, for their removals
	strayLen int                   // bytes of them
}

// link is what is remembered of each entry; its bytes are the store's. Of an empty chain only the hash is set.
type link struct {
	hash        keys.Hash
	time        int64
	rootVersion uint64
	// The highest ones up to here. They count every op, also such that are void, so that they depend on the chain alone.
	maxSerial uint64
	maxGID    uint64
}

// Evidence are two valid entries of one issuer with one number.
type Evidence struct {
	Issuer keys.PublicKey
	Seq    uint64
	A, B   []byte // envelopes, the one with the lower hash first
}

// Facts. Each remembers its issuer's index and the entry it came in, so that a cutoff can take it back.
type (
	enrolment struct {
		node       keys.NodeID
		cert       keys.Hash
		serial     uint64
		notBefore  int64
		notAfter   int64
		renewUntil int64
		name       string
		tags       *[]string // nil: none
		seq        uint64
		next       *enrolment // an older one of the same node
		issuer     int32
	}
	removal struct {
		issuer int
		seq    uint64
		stray  bool // from a branch not held
		reason uint64
		time   int64
	}
	succession struct {
		node   keys.NodeID // the other end
		issuer int
		seq    uint64
	}
	groupFact struct {
		op          OpGroup
		seq         uint64
		rootVersion uint64
		next        *groupFact // the one before
	}
	nodeFacts struct {
		enrolments *enrolment // newest first, as they came
		rest       *nodeRest  // nil on most
	}
	// nodeRest is what few nodes have.
	nodeRest struct {
		removals []removal // the first of each issuer, and the first stray of each issuer
		after    []succession
		before   []succession
	}
	nameFacts struct {
		first *enrolment               // of one node of the name
		all   *pmap[nodeKey, struct{}] // the nodes, where there is more than one
	}
	grantFacts struct {
		op       OpGrant
		issuer   int
		seq      uint64 // 0: not seen yet, only its removal
		removals []removal
	}
)

// Genesis begins a State from the root that founds a mesh. The caller compares State.Mesh with the id it expects.
func Genesis(raw []byte) (*State, error) {
	r, err := parseRoot(raw)
	if err != nil {
		return nil, invalid(err)
	}
	if r.Version != 1 {
		return nil, invalidf("root: not the first root of a mesh")
	}
	if err := r.checkSignatures(nil); err != nil {
		return nil, invalid(err)
	}
	s := &State{mesh: r.Mesh, roots: []*Root{r}, epoch: 1}
	s.takeIssuers(r)
	s.limit()
	return s, nil
}

// WithPins makes the chain heads of an invite the branch this node holds, whatever else is signed.
func (s *State) WithPins(pins []identity.IssuerHead) *State {
	if len(pins) == 0 {
		return s
	}
	n := s.edit()
	n.pins = slices.Clone(pins)
	for _, c := range s.issuers {
		n.setPin(n.editChain(c))
	}
	n.limit()
	return n
}

// setPin anchors a chain at the entry the invite names, if it names one.
func (s *State) setPin(c *chain) {
	i := slices.IndexFunc(s.pins, func(p identity.IssuerHead) bool { return p.Issuer == c.id })
	if i < 0 || s.pins[i].Seq == 0 || c.cutoff != nil {
		return
	}
	p := s.pins[i]
	c.pin = &p
	if mine, held := s.HashAt(c.id, p.Seq); !held || mine != p.Hash {
		s.anchor(c, Cutoff{Seq: p.Seq, Hash: p.Hash})
	}
}

// edit returns a copy to be changed and then handed out.
func (s *State) edit() *State {
	n := *s
	n.epoch++
	n.issuers = slices.Clone(s.issuers)
	return &n
}

// editChain puts a copy of c into s and returns it.
func (s *State) editChain(c *chain) *chain {
	n := *c
	s.issuers[c.index] = &n
	return &n
}

func (s *State) chain(id keys.PublicKey) (*chain, bool) {
	for _, c := range s.issuers {
		if c.id == id {
			return c, true
		}
	}
	return nil, false
}

// takeIssuers makes the chains of issuers that are new with root r, and sets the cutoffs of all.
func (s *State) takeIssuers(r *Root) {
	for i := range r.Issuers {
		is := &r.Issuers[i]
		if _, ok := s.chain(is.ID); !ok {
			c := &chain{id: is.ID, index: len(s.issuers), link: s.startOf(is.ID)}
			s.issuers = append(s.issuers, c)
			s.setPin(c)
		}
		if is.Cutoff != nil {
			c, _ := s.chain(is.ID)
			s.cut(s.editChain(c), *is.Cutoff)
		}
	}
}

// limit computes up to which entry the additions of each issuer count.
func (s *State) limit() {
	s.adds = make([]uint64, len(s.issuers))
	for i, c := range s.issuers {
		n := uint64(math.MaxUint64)
		switch {
		case c.cutoff != nil:
			// The hash at the cutoff is only compared there; before, entries newly received might be of another branch.
			if n = c.cutoff.Seq; c.seq < n {
				n = c.trusted
			}
		case c.evidence != nil:
			n = c.frozen
			if p := c.pin; p != nil && c.seq >= p.Seq {
				n = max(n, p.Seq)
			}
		}
		if c.pin != nil && c.vouch != nil {
			n = 0 // not yet at the entry the invite names: perhaps on another branch
		}
		if c.upgrade > 0 {
			n = min(n, c.upgrade)
		}
		// While two roots contradict each other, what either of them takes away is not added.
		for _, r := range s.pending {
			if is, ok := r.Issuer(c.id); ok && is.Cutoff != nil {
				n = min(n, is.Cutoff.Seq)
			}
		}
		s.adds[i] = n
	}
}

// Mesh returns the mesh's id.
func (s *State) Mesh() keys.MeshID { return s.mesh }

// Root returns the current root. It must not be changed.
func (s *State) Root() *Root { return s.roots[len(s.roots)-1] }

// RootAt returns an accepted root by version.
func (s *State) RootAt(version uint64) (*Root, bool) {
	if version == 0 || version > uint64(len(s.roots)) {
		return nil, false
	}
	return s.roots[version-1], true
}

// RootFork returns the contradicting successors of the current root; nil: there is no fork.
func (s *State) RootFork() []*Root { return slices.Clone(s.pending) }

// Epoch changes with every applied change. It compares states of one process only.
func (s *State) Epoch() uint64 { return s.epoch }

// Position returns how far an issuer's chain is held.
func (s *State) Position(issuer keys.PublicKey) (seq uint64, hash keys.Hash, ok bool) {
	c, ok := s.chain(issuer)
	if !ok {
		return 0, keys.Hash{}, false
	}
	return c.seq, c.hash, true
}

// HashAt returns the hash of an entry that is held; of number 0, that of the empty chain.
func (s *State) HashAt(issuer keys.PublicKey, seq uint64) (keys.Hash, bool) {
	c, ok := s.chain(issuer)
	if !ok {
		return keys.Hash{}, false
	}
	if seq == 0 {
		return keys.ChainStart(s.mesh, issuer), true
	}
	l, ok := c.linkOf(seq)
	return l.hash, ok
}

// linkOf returns what is remembered of an entry of the chain.
func (c *chain) linkOf(seq uint64) (link, bool) { return c.links.at(seq - 1) }

// enrolmentOf returns the enrolment that logged a certificate, whether or not it counts.
func (s *State) enrolmentOf(issuer keys.PublicKey, serial uint64) (*enrolment, bool) {
	c, ok := s.chain(issuer)
	if !ok {
		return nil, false
	}
	return c.serials.get(seqKey(serial))
}

// startOf is the link before an issuer's first entry.
func (s *State) startOf(issuer keys.PublicKey) link {
	return link{hash: keys.ChainStart(s.mesh, issuer)}
}

// EvidenceOf returns the evidence held against an issuer.
func (s *State) EvidenceOf(issuer keys.PublicKey) (Evidence, bool) {
	c, ok := s.chain(issuer)
	if !ok || c.evidence == nil {
		return Evidence{}, false
	}
	return *c.evidence, true
}

// HeadOf returns the newest head of an issuer and its envelope.
func (s *State) HeadOf(issuer keys.PublicKey) (Head, []byte, bool) {
	c, ok := s.chain(issuer)
	if !ok || c.head == nil {
		return Head{}, nil, false
	}
	return *c.head, c.headRaw, true
}

// IssuerStatus is what status and doctor say about an issuer.
type IssuerStatus struct {
	Issuer     Issuer // of the current root
	Seq        uint64
	LastTime   int64
	NextSerial uint64
	NextGID    uint64
	Forked     bool
	Upgrade    bool // it uses ops this version does not know: upgrade
	Head       int64
}

// IssuerStatus returns the state of one issuer.
func (s *State) IssuerStatus(id keys.PublicKey) (IssuerStatus, bool) {
	c, ok := s.chain(id)
	is, listed := s.Root().Issuer(id)
	if !ok || !listed {
		return IssuerStatus{}, false
	}
	st := IssuerStatus{
		Issuer: *is, Seq: c.seq, LastTime: c.time, NextSerial: c.maxSerial + 1, NextGID: c.maxGID + 1,
		Forked: c.forked(), Upgrade: c.upgrade > 0,
	}
	if c.head != nil {
		st.Head = c.head.Time
	}
	return st, true
}

// MaxSerial returns the highest serial of an issuer's chain: the next certificate has a higher one.
func (s *State) MaxSerial(issuer keys.PublicKey) uint64 {
	if c, ok := s.chain(issuer); ok {
		return c.maxSerial
	}
	return 0
}

// forked reports whether the issuer contradicts itself and no root has decided it.
func (c *chain) forked() bool { return c.evidence != nil && c.cutoff == nil }

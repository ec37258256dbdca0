package trust

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/sovereignmesh/meshkey/keys"
)

// Applied describes what applying an entry changed.
type Applied struct {
	Entry   *Entry
	Stray   bool // of a branch not held: only its removals count
	Vouched bool // nothing but the knowledge of which branch is right; not to be stored or passed on
}

// ApplyEntry adds an entry. It never looks at a clock. The errors are ErrHave, ErrGap, ErrInvalid, ErrFork (AddEvidence wants
// the pair), ErrBranch, ErrVoid and ErrFull; the State is nil with any of them.
func (s *State) ApplyEntry(raw []byte) (*State, Applied, error) {
	e, err := ParseEntry(raw, s.mesh)
	if err != nil {
		return nil, Applied{}, invalid(err)
	}
	return s.applyEntry(e)
}

func (s *State) applyEntry(e *Entry) (*State, Applied, error) {
	c, ok := s.chain(e.Issuer)
	named, held := s.RootAt(e.RootVersion)
	if !ok {
		if !held {
			return nil, Applied{}, fmt.Errorf("entry: root %d: %w", e.RootVersion, ErrGap)
		}
		return nil, Applied{}, invalidf("entry: signed by no issuer of the mesh")
	}
	if l, ok := c.linkOf(e.Seq); ok {
		if l.hash == e.hash {
			return nil, Applied{}, fmt.Errorf("entry: %w", ErrHave)
		}
		return s.contradict(c, e, named)
	}
	next := e.Seq == c.seq+1 && e.Prev == c.hash
	switch {
	case !next && c.vouches(e):
		return s.lower(c, e)
	case c.cutoff != nil && e.Seq > c.cutoff.Seq:
		return nil, Applied{}, fmt.Errorf("entry: after the cutoff: %w", ErrVoid)
	case !held:
		return nil, Applied{}, fmt.Errorf("entry: root %d: %w", e.RootVersion, ErrGap)
	case e.Seq > c.seq+1 && !c.forked():
		return nil, Applied{}, fmt.Errorf("entry %d: %d is the last one held: %w", e.Seq, c.seq, ErrGap)
	}
	if err := e.verify(s.mesh); err != nil {
		return nil, Applied{}, invalid(err)
	}
	if !next {
		if c.forked() {
			return s.stray(c, e, named)
		}
		return nil, Applied{}, fmt.Errorf("entry %d: %w", e.Seq, ErrBranch)
	}
	for _, a := range []*Cutoff{c.anchored(), c.vouch} {
		if a != nil && a.Seq == e.Seq && a.Hash != e.hash {
			return nil, Applied{}, fmt.Errorf("entry %d: not the one a root or invite vouches for: %w", e.Seq, ErrBranch)
		}
	}
	is, listed := named.Issuer(e.Issuer)
	switch {
	case !listed:
		return nil, Applied{}, invalidf("entry: the root it names does not list its issuer")
	case e.Time < c.time:
		return nil, Applied{}, invalidf("entry: older than the entry before it")
	case e.RootVersion < c.rootVersion:
		return nil, Applied{}, invalidf("entry: names an older root than the entry before it")
	case e.Time > is.NotAfter:
		return nil, Applied{}, invalidf("entry: after the issuer's not_after")
	}
	return s.take(c, e, named, is), Applied{Entry: e}, nil
}

// contradict is an entry whose number is taken by another.
func (s *State) contradict(c *chain, e *Entry, named *Root) (*State, Applied, error) {
	if err := e.verify(s.mesh); err != nil {
		return nil, Applied{}, invalid(err)
	}
	switch {
	case c.cutoff != nil:
		return nil, Applied{}, fmt.Errorf("entry: a root chose another branch: %w", ErrVoid)
	case named == nil:
		return nil, Applied{}, fmt.Errorf("entry: root %d: %w", e.RootVersion, ErrGap)
	case c.evidence != nil:
		return s.stray(c, e, named)
	}
	return nil, Applied{}, &ForkError{Issuer: e.Issuer, Seq: e.Seq}
}

// take appends a valid entry to its chain.
func (s *State) take(c *chain, e *Entry, named *Root, is *Issuer) *State {
	n := s.edit()
	c = n.editChain(c)
	c.seq, c.hash, c.time, c.rootVersion = e.Seq, e.hash, e.Time, e.RootVersion
	enrolled := map[keys.NodeID]bool{}
	for _, o := range e.Ops {
		if o, ok := o.(OpEnroll); ok && n.enroll(c, is, o) {
			enrolled[o.Node] = true
		}
	}
	for _, o := range e.Ops {
		switch o := o.(type) {
		case OpGroup:
			n.setGroup(c, named, o)
		case OpGrant:
			n.grant(c, is, o)
		case OpUnknown:
			if o.critical() && c.upgrade == 0 {
				c.upgrade = e.Seq
			}
		case OpRevokeNode:
			if enrolled[successorOf(o)] && is.Caps.Has(CapRevoke) && o.successorSigned(n.mesh) {
				n.succeed(c, o.Node, o.Successor.Node)
			}
		}
	}
	n.remove(c, e, is, false)
	c.links = c.links.push(c.link)
	switch a := c.anchored(); {
	case a == nil:
	case a.Seq == c.seq:
		c.vouch = nil
		if c.cutoff != nil {
			n.dropStrays(c)
		}
	case c.vouch != nil && c.vouch.Seq == c.seq:
		c.trusted, c.vouch = c.seq, a
	}
	n.limit()
	return n
}

func successorOf(o OpRevokeNode) keys.NodeID {
	if o.Successor == nil {
		return keys.NodeID{}
	}
	return o.Successor.Node
}

// enroll records an enrolment and reports whether the issuer had the right to it. Serials rise along a chain; an op that does not
// keep to it, to the issuer's limits or to its rights is ignored, so that removals beside it still work.
func (s *State) enroll(c *chain, is *Issuer, o OpEnroll) bool {
	if o.Serial <= c.maxSerial {
		return false
	}
	c.maxSerial = o.Serial
	if enrollAllowed(is, o.Tags, o.NotBefore, o.NotAfter) != "" {
		return false
	}
	f, _ := s.nodes.get(nodeKey(o.Node))
	x := &enrolment{
		node: o.Node, cert: o.Cert, serial: o.Serial, notBefore: o.NotBefore, notAfter: o.NotAfter, renewUntil: o.RenewUntil,
		name: o.Name, tags: s.tagSet(o.Tags), seq: c.seq, next: f.enrolments, issuer: int32(c.index),
	}
	if last := f.enrolments; last != nil && last.name == o.Name {
		x.name = last.name // a renewal shares its name with what it renews
	}
	f.enrolments = x
	s.nodes = s.nodes.set(nodeKey(o.Node), f)
	c.serials = c.serials.set(seqKey(o.Serial), x)
	s.setName(x)
	return true
}

// setName notes a node's name.
func (s *State) setName(x *enrolment) {
	f, ok := s.names.get(nameKey(x.name))
	switch {
	case !ok:
		f.first = x
	case f.all == nil && f.first.node == x.node:
		return
	default:
		all := pmap[nodeKey, struct{}]{}.set(nodeKey(f.first.node), struct{}{})
		if f.all != nil {
			all = *f.all
		}
		all = all.set(nodeKey(x.node), struct{}{})
		f.all = &all
	}
	s.names = s.names.set(nameKey(x.name), f)
}

// tagKey is different for different tags: none has a space in it.
func tagKey(tags []string) nameKey { return nameKey(strings.Join(tags, " ")) }

// tagSet returns the tags as others have them already.
func (s *State) tagSet(tags []string) *[]string {
	if len(tags) == 0 {
		return nil
	}
	key := tagKey(tags)
	if held, ok := s.tagSets.get(key); ok {
		return held
	}
	own := slices.Clone(tags)
	if s.tagSets.len() < maxTagSets {
		s.tagSets = s.tagSets.set(key, &own)
	}
	return &own
}

// enrollAllowed says what forbids an issuer to enrol with these fields; "" is nothing. The certificate ends with its issuer: a
// thief of the key cannot enrol beyond the end of it.
func enrollAllowed(is *Issuer, tags []string, notBefore, notAfter int64) Reason {
	switch {
	case !is.Caps.Has(CapEnroll):
		return ReasonNoRight
	case !is.MayGive(tags), notAfter-notBefore > is.MaxTTL, notAfter > is.NotAfter:
		return ReasonLimits
	}
	return ""
}

func (s *State) setGroup(c *chain, named *Root, o OpGroup) {
	if named.GroupIssuer != c.id || c.group != nil && o.Generation <= c.group.op.Generation {
		return
	}
	c.group = &groupFact{op: o, seq: c.seq, rootVersion: c.rootVersion, next: c.group}
}

func (s *State) grant(c *chain, is *Issuer, o OpGrant) {
	if o.GID <= c.maxGID {
		return
	}
	c.maxGID = o.GID
	if !is.Caps.Has(CapGrant) {
		return
	}
	key := factKey{c.id, o.GID}
	f := s.grantOf(key)
	f.op, f.issuer, f.seq = o, c.index, c.seq
	s.setGrant(key, f)
}

func (s *State) succeed(c *chain, old, next keys.NodeID) {
	s.changeNode(old, func(r *nodeRest) {
		r.after = addSuccession(r.after, succession{node: next, issuer: c.index, seq: c.seq})
	})
	s.changeNode(next, func(r *nodeRest) {
		r.before = addSuccession(r.before, succession{node: old, issuer: c.index, seq: c.seq})
	})
}

// addSuccession keeps the list in an order that does not depend on arrival, and of each (node, issuer) the first.
func addSuccession(list []succession, x succession) []succession {
	at, ok := slices.BinarySearchFunc(list, x, func(a, b succession) int {
		return cmp.Or(bytes.Compare(a.node[:], b.node[:]), a.issuer-b.issuer)
	})
	if ok {
		if list[at].seq > x.seq {
			list = slices.Clone(list)
			list[at] = x
		}
		return list
	}
	return slices.Insert(slices.Clone(list), at, x)
}

// remove records the removals of an entry that its issuer had the right to. Nothing but rights and a cutoff ever stops them.
func (s *State) remove(c *chain, e *Entry, is *Issuer, stray bool) (any bool) {
	for _, o := range e.Ops {
		if !removes(o) || !is.Caps.Has(o.need()) {
			continue
		}
		any = true
		r := removal{issuer: c.index, seq: e.Seq, stray: stray, time: e.Time}
		switch o := o.(type) {
		case OpRevokeNode:
			r.reason = o.Reason
			s.changeNode(o.Node, func(f *nodeRest) { f.removals = addRemoval(f.removals, r) })
		case OpRevokeCert:
			key := factKey{o.Issuer, o.Serial}
			held, _ := s.certs.get(key)
			r.reason = o.Reason
			s.certs = s.certs.set(key, addRemoval(held, r))
		case OpUngrant:
			key := factKey{o.Issuer, o.GID}
			f := s.grantOf(key)
			r.reason = o.Reason
			f.removals = addRemoval(f.removals, r)
			s.setGrant(key, f)
		}
	}
	return any
}

// addRemoval keeps the first of each issuer, which outlives any cutoff a later one does, and the first stray of each issuer. So the
// list has at most two per issuer, whatever a thief signs. Order is by (issuer, stray): the same set is the same list.
func addRemoval(list []removal, r removal) []removal {
	at, ok := slices.BinarySearchFunc(list, r, compareRemovals)
	if ok && !beforeRemoval(r, list[at]) {
		return list
	}
	list = slices.Clone(list)
	if ok {
		list[at] = r
		return list
	}
	return slices.Insert(list, at, r)
}

func compareRemovals(a, b removal) int {
	if a.issuer != b.issuer {
		return a.issuer - b.issuer
	}
	switch {
	case a.stray == b.stray:
		return 0
	case a.stray:
		return 1
	}
	return -1
}

// beforeRemoval orders removals of one issuer; strays of two branches can have one number, so the rest decides.
func beforeRemoval(a, b removal) bool {
	if a.seq != b.seq {
		return a.seq < b.seq
	}
	if a.time != b.time {
		return a.time < b.time
	}
	return a.reason < b.reason
}

// changeNode changes a copy of what few nodes have, and sets it.
func (s *State) changeNode(id keys.NodeID, change func(*nodeRest)) {
	f, _ := s.nodes.get(nodeKey(id))
	n := &nodeRest{}
	if f.rest != nil {
		*n = *f.rest
	}
	change(n)
	f.rest = n
	s.nodes = s.nodes.set(nodeKey(id), f)
}

// removals are the node's; none for one that is not known.
func (f nodeFacts) removals() []removal {
	if f.rest == nil {
		return nil
	}
	return f.rest.removals
}

func (f nodeFacts) after() []succession {
	if f.rest == nil {
		return nil
	}
	return f.rest.after
}

func (f nodeFacts) before() []succession {
	if f.rest == nil {
		return nil
	}
	return f.rest.before
}

// grantOf returns a copy of the facts to be changed and set.
func (s *State) grantOf(k factKey) *grantFacts {
	if f, ok := s.grants.get(k); ok {
		n := *f
		return &n
	}
	return &grantFacts{}
}

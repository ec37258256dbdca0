package trust

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/sovereignmesh/meshkey/keys"
)

// anchored returns the place a root or an invite names on the right branch; nil: none.
func (c *chain) anchored() *Cutoff {
	switch {
	case c.cutoff != nil:
		return c.cutoff
	case c.pin != nil:
		return &Cutoff{Seq: c.pin.Seq, Hash: c.pin.Hash}
	}
	return nil
}

// vouches reports whether e is known to be on the right branch, whoever brings it: its hash is the one a root, an invite, or
// an entry vouched for before it names at this place.
func (c *chain) vouches(e *Entry) bool {
	return c.vouch != nil && c.vouch.Seq == e.Seq && c.vouch.Hash == e.hash
}

// lower learns from a vouched entry what stands before it on the right branch. Where that meets the chain held, the chain is on
// the right branch up to there and on a wrong one behind it.
func (s *State) lower(c *chain, e *Entry) (*State, Applied, error) {
	n := s.edit()
	c = n.editChain(c)
	n.anchor(c, Cutoff{Seq: e.Seq - 1, Hash: e.Prev})
	n.limit()
	return n, Applied{Entry: e, Vouched: true}, nil
}

// anchor compares the chain with a place on the right branch. If the place is beyond its end, or another entry stands there,
// the vouched way is followed back from it; what stands behind a fork point moves to the strays: its removals count on until
// the right branch is whole.
func (s *State) anchor(c *chain, a Cutoff) {
	mine, held := s.HashAt(c.id, a.Seq)
	switch {
	case !held:
		c.vouch = &a
	case mine != a.Hash:
		c.vouch = &a
		if a.Seq > 0 {
			s.cutBack(c, a.Seq-1)
		}
		c.trusted, c.frozen = min(c.trusted, c.seq), min(c.frozen, c.seq)
	default:
		// The fork point. Everything held up to here is right; the anchor itself may still be far ahead.
		s.cutBack(c, a.Seq)
		c.trusted, c.vouch = max(c.trusted, a.Seq), nil
		if w := c.anchored(); w != nil && w.Seq > a.Seq {
			c.vouch = w
		}
	}
}

// cut ends a chain where a root says so.
func (s *State) cut(c *chain, to Cutoff) {
	if c.cutoff != nil && *c.cutoff == to {
		return
	}
	trusted := c.seq
	if c.cutoff != nil {
		trusted = min(c.trusted, c.seq)
	}
	if e := c.evidence; e != nil {
		// Before the pair both branches are one; behind it the one held may be the wrong one.
		trusted = min(trusted, c.frozen, e.Seq-1)
	}
	c.cutoff, c.evidence, c.pin, c.head, c.headRaw, c.vouch, c.whole = &to, nil, nil, nil, nil, nil, 0
	c.trusted = min(trusted, to.Seq)
	mine, held := s.HashAt(c.id, to.Seq)
	switch {
	case held && mine == to.Hash:
		s.truncate(c, to.Seq)
		s.dropStrays(c)
	case held:
		// The branch held is not the one the root chose, and nothing tells yet where they part.
		if c.trusted == to.Seq {
			c.trusted = 0
		}
		s.anchor(c, to)
	default:
		s.anchor(c, to)
	}
}

// truncate takes back every fact that came in behind seq.
func (s *State) truncate(c *chain, seq uint64) { s.shorten(c, seq, false) }

// cutBack is truncate for a wrong branch: its removals stay as strays.
func (s *State) cutBack(c *chain, seq uint64) { s.shorten(c, seq, true) }

func (s *State) shorten(c *chain, seq uint64, keepRemovals bool) {
	if c.seq <= seq {
		return
	}
	s.rewrite(func(issuer int, at uint64) bool { return issuer != c.index || at <= seq }, func(r removal) (removal, bool) {
		if r.stray || r.issuer != c.index || r.seq <= seq {
			return r, true
		}
		r.stray = true
		return r, keepRemovals
	})
	c.links = c.links.first(seq)
	c.seq, c.link = seq, s.startOf(c.id)
	if l, ok := c.linkOf(seq); ok {
		c.link = l
	}
	var kept []pleaf[seqKey, *enrolment]
	for serial, x := range c.serials.all() {
		if x.seq <= seq {
			kept = append(kept, pleaf[seqKey, *enrolment]{serial, x})
		}
	}
	c.serials = buildPmap(kept)
	for c.group != nil && c.group.seq > seq {
		c.group = c.group.next
	}
	if c.upgrade > seq {
		c.upgrade = 0
	}
}

// dropStrays forgets what a branch not held had removed: a root decided which branch counts.
func (s *State) dropStrays(c *chain) {
	c.strays, c.strayLen = pmap[hashKey, []byte]{}, 0
	s.rewrite(func(int, uint64) bool { return true }, func(r removal) (removal, bool) {
		return r, !r.stray || r.issuer != c.index
	})
}

// rewrite builds the maps anew from the facts that keep and keepRemoval let pass. It walks everything, and happens only when a
// root ends or contradicts something.
func (s *State) rewrite(keep func(issuer int, seq uint64) bool, keepRemoval func(removal) (removal, bool)) {
	o := *s
	s.nodes, s.certs, s.grants = pmap[nodeKey, nodeFacts]{}, pmap[factKey, []removal]{}, pmap[factKey, *grantFacts]{}
	s.names, s.who = pmap[nameKey, nameFacts]{}, pmap[Target, rights]{}
	removals := func(list []removal) (out []removal) {
		for _, r := range list {
			if r, ok := keepRemoval(r); ok {
				out = addRemoval(out, r)
			}
		}
		return out
	}
	successions := func(list []succession) (out []succession) {
		for _, x := range list {
			if keep(x.issuer, x.seq) {
				out = append(out, x)
			}
		}
		return out
	}
	for id, f := range o.nodes.all() {
		n := nodeFacts{enrolments: f.enrolments.filter(keep)}
		r := &nodeRest{removals: removals(f.removals()), after: successions(f.after()), before: successions(f.before())}
		if r.removals != nil || r.after != nil || r.before != nil {
			n.rest = r
		}
		if n.enrolments == nil && n.rest == nil {
			continue
		}
		s.nodes = s.nodes.set(id, n)
		for x := n.enrolments; x != nil; x = x.next {
			s.setName(x)
		}
	}
	for k, list := range o.certs.all() {
		if list := removals(list); list != nil {
			s.certs = s.certs.set(k, list)
		}
	}
	for k, f := range o.grants.all() {
		n := &grantFacts{removals: removals(f.removals)}
		if f.seq != 0 && keep(f.issuer, f.seq) {
			n.op, n.issuer, n.seq = f.op, f.issuer, f.seq
		}
		if n.seq != 0 || n.removals != nil {
			s.setGrant(k, n)
		}
	}
}

// filter copies what passes, oldest first so that order and tail stay.
func (x *enrolment) filter(keep func(issuer int, seq uint64) bool) *enrolment {
	var list []*enrolment
	all := true
	for y := x; y != nil; y = y.next {
		if keep(int(y.issuer), y.seq) {
			list = append(list, y)
		} else {
			all = false
		}
	}
	if all {
		return x
	}
	var out *enrolment
	for _, x := range slices.Backward(list) {
		n := *x
		n.next = out
		out = &n
	}
	return out
}

// AddEvidence takes two entries of one issuer with one number, in any order. The branch held stays; what comes later on it still
// removes, but adds nothing until a root decides. The removals of both entries count.
func (s *State) AddEvidence(a, b []byte) (*State, error) {
	x, err := ParseEntry(a, s.mesh)
	if err != nil {
		return nil, invalid(err)
	}
	y, err := ParseEntry(b, s.mesh)
	if err != nil {
		return nil, invalid(err)
	}
	if x.Issuer != y.Issuer || x.Seq != y.Seq || x.hash == y.hash {
		return nil, invalidf("evidence: the entries do not contradict each other")
	}
	if bytes.Compare(x.hash[:], y.hash[:]) > 0 {
		x, y = y, x
	}
	c, ok := s.chain(x.Issuer)
	last := s.Root().Version
	switch {
	case !ok && x.RootVersion <= last && y.RootVersion <= last:
		return nil, invalidf("evidence: against no issuer of the mesh")
	case x.RootVersion > last || y.RootVersion > last:
		return nil, fmt.Errorf("evidence: %w", ErrGap)
	case c.cutoff != nil:
		return nil, fmt.Errorf("evidence: a root has decided: %w", ErrVoid)
	}
	for _, e := range []*Entry{x, y} {
		if mine, ok := s.HashAt(e.Issuer, e.Seq); ok && mine == e.hash {
			continue // verified when it was applied
		}
		if err := e.verify(s.mesh); err != nil {
			return nil, invalid(err)
		}
	}
	n, changed := s, false
	if c.evidence == nil {
		n, changed = s.edit(), true
		c = n.editChain(c)
		c.evidence, c.frozen = &Evidence{Issuer: x.Issuer, Seq: x.Seq, A: x.raw, B: y.raw}, c.seq
		n.limit()
	}
	for _, e := range []*Entry{x, y} {
		if mine, ok := n.HashAt(e.Issuer, e.Seq); ok && mine == e.hash {
			continue
		}
		c, _ := n.chain(e.Issuer)
		named, _ := n.RootAt(e.RootVersion)
		if next, _, err := n.stray(c, e, named); err == nil {
			n, changed = next, true
		}
	}
	if !changed {
		return nil, fmt.Errorf("evidence: %w", ErrHave)
	}
	return n, nil
}

// stray takes the removals of a verified entry of a forked issuer that is not on the branch held. An issuer that contradicts itself
// may be a thief and its victim: the victim's revocations must count on both branches.
func (s *State) stray(c *chain, e *Entry, named *Root) (*State, Applied, error) {
	is, listed := named.Issuer(e.Issuer)
	if !listed {
		return nil, Applied{}, invalidf("entry: the root it names does not list its issuer")
	}
	if _, ok := c.strays.get(hashKey(e.hash)); ok {
		return nil, Applied{}, fmt.Errorf("entry: %w", ErrHave)
	}
	n := s.edit()
	c = n.editChain(c)
	if !n.remove(c, e, is, true) {
		return nil, Applied{}, fmt.Errorf("entry: nothing in it counts off its branch: %w", ErrHave)
	}
	if c.strays.len() >= maxStrays || c.strayLen+len(e.raw) > maxStrayBytes {
		return nil, Applied{}, fmt.Errorf("entry: too much kept for a forked issuer: %w", ErrFull)
	}
	c.strays = c.strays.set(hashKey(e.hash), e.raw)
	c.strayLen += len(e.raw)
	return n, Applied{Entry: e, Stray: true}, nil
}

// strayEntries returns the entries kept from branches not held.
func (s *State) strayEntries(issuer keys.PublicKey) (out [][]byte) {
	if c, ok := s.chain(issuer); ok {
		for _, raw := range c.strays.all() {
			out = append(out, raw)
		}
	}
	return out
}

// forkRoots returns to the root before the contradicting ones and keeps those aside. Whatever was said under a root that is now
// in doubt is taken back.
func (s *State) forkRoots(found ...*Root) *State {
	n := s.edit()
	base := found[0].Version - 1
	n.roots = slices.Clone(s.roots[:base])
	n.pending = append(slices.Clone(s.pending), found...)
	if uint64(len(s.roots)) > base {
		n.pending = slices.Clone(found) // those of a later version fall with the root they followed
	}
	slices.SortFunc(n.pending, func(a, b *Root) int { return bytes.Compare(a.hash[:], b.hash[:]) })
	root := n.Root()
	known := 0
	for _, c := range s.issuers {
		if _, ok := root.Issuer(c.id); ok {
			known++
		}
	}
	n.issuers = n.issuers[:known]
	for _, c := range s.issuers[:known] {
		c = n.editChain(c)
		if is, _ := root.Issuer(c.id); is.Cutoff == nil && c.cutoff != nil {
			c.cutoff, c.vouch = nil, nil
		} else if c.cutoff != nil && *c.cutoff != *is.Cutoff {
			cut := *is.Cutoff
			c.cutoff = &cut
			n.anchor(c, cut)
		}
		to := c.seq
		for ; to > 0; to-- {
			if l, _ := c.linkOf(to); l.rootVersion <= base {
				break
			}
		}
		n.truncate(c, to)
	}
	n.rewrite(func(issuer int, _ uint64) bool { return issuer < known }, func(r removal) (removal, bool) {
		return r, r.issuer < known
	})
	n.limit()
	return n
}

// evidenceFrame is EVIDENCE[a, b], the form in which it is stored and sent.
func (e Evidence) frame() Frame {
	f := frameOf(KindEvidence, evidenceWire{Kind: KindEvidence, A: e.A, B: e.B})
	f.Urgent = true
	return f
}

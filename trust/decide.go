package trust

import (
	"bytes"
	"cmp"
	"fmt"
	"iter"
	"slices"

	"github.com/sovereignmesh/meshkey/keys"
)

// GrantRef is a grant's identity.
type GrantRef struct {
	Issuer keys.PublicKey
	GID    uint64
}

// String is the short form for one issuer's grants, "g-18".
func (r GrantRef) String() string { return fmt.Sprintf("g-%d", r.GID) }

// IsZero reports whether r names no grant.
func (r GrantRef) IsZero() bool { return r == GrantRef{} }

// Grant is a grant that was made, and whether it was taken back.
type Grant struct {
	Ref       GrantRef
	Who       Target
	What      What
	NotBefore int64
	NotAfter  int64
	Note      string
	Removed   *Revocation
}

// InForce reports whether the grant counts now.
func (g *Grant) InForce(now int64) bool {
	return g.Removed == nil && g.NotBefore <= now && (g.NotAfter == 0 || now < g.NotAfter)
}

// Miss says which part of a grant did not match a request.
type Miss string

// The parts of a grant, the one easiest to put right first.
const (
	MissNotYet  Miss = "not-yet"
	MissExpired Miss = "expired"
	MissRemoved Miss = "ungranted"
	MissWho     Miss = "who"
	MissTarget  Miss = "target"
	MissService Miss = "service"
)

// NearMiss is the grant that would have allowed a request but for one part.
type NearMiss struct {
	Grant Grant
	Why   Miss
}

// Decision is the answer to one request.
type Decision struct {
	Allowed bool
	Reason  Reason
	Grant   GrantRef  // that allowed it
	Near    *NearMiss // only by Explain
}

func (s *State) grantFrom(k factKey, f *grantFacts) Grant {
	g := Grant{
		Ref: GrantRef{k.issuer, k.number}, Who: f.op.Who, What: f.op.What, NotBefore: f.op.NotBefore, NotAfter: f.op.NotAfter,
		Note: f.op.Note,
	}
	if r, ok := s.revocation(f.removals); ok {
		g.Removed = &r
	}
	return g
}

// Grants walks all grants that count or counted, those taken back and out of their window included.
func (s *State) Grants() iter.Seq[Grant] {
	return func(yield func(Grant) bool) {
		for k, f := range s.grants.all() {
			if s.counts(f.issuer, f.seq) && !yield(s.grantFrom(k, f)) {
				return
			}
		}
	}
}

// Grant returns one grant.
func (s *State) Grant(r GrantRef) (Grant, bool) {
	f, ok := s.grants.get(factKey{r.Issuer, r.GID})
	if !ok || !s.counts(f.issuer, f.seq) {
		return Grant{}, false
	}
	return s.grantFrom(factKey{r.Issuer, r.GID}, f), true
}

// Decide says whether node from may open a service of node at. It is asked on at; from is the node of a proven key. Without a grant
// that matches, the answer is no.
func (s *State) Decide(from, at keys.NodeID, service string, now int64) Decision {
	d, _ := s.decide(from, at, VerbOpen, service, now)
	return d
}

// Explain is Decide for people: with a refusal for want of a grant comes the grant that nearly allows it. To look for that takes longer
// than to decide, so nobody's request from afar is answered by it.
func (s *State) Explain(from, at keys.NodeID, service string, now int64) Decision {
	d, q := s.decide(from, at, VerbOpen, service, now)
	if d.Reason == ReasonNoGrant {
		d.Near = s.near(&q)
	}
	return d
}

// DecideEscalate says whether a request of node from may leave the mesh by a route of node at.
func (s *State) DecideEscalate(from, at keys.NodeID, route string, now int64) Decision {
	d, _ := s.decide(from, at, VerbEscalate, route, now)
	return d
}

// request is one question with everything about the two nodes that grants can name.
type request struct {
	who     []Target // every left side that means the caller
	at      Member
	ids     []keys.NodeID // at and the keys it followed
	verb    Verb
	service string
	now     int64
}

func (s *State) decide(from, at keys.NodeID, verb Verb, service string, now int64) (Decision, request) {
	if service == "*" || checkService(service) != nil {
		return Decision{Reason: ReasonService}, request{}
	}
	caller, why := s.principal(from, now)
	if why != "" {
		return Decision{Reason: why}, request{}
	}
	self, why := s.principal(at, now)
	if why != "" {
		return Decision{Reason: why}, request{}
	}
	q := request{who: append(make([]Target, 0, 8), AnyNode()), at: self, ids: s.Predecessors(at), verb: verb, service: service, now: now}
	for _, id := range s.Predecessors(from) {
		q.who = append(q.who, NodeTarget(id))
	}
	for _, t := range caller.Tags {
		q.who = append(q.who, TagTarget(t))
	}
	if best, found := s.match(&q); found {
		return Decision{Allowed: true, Reason: ReasonGranted, Grant: GrantRef{best.issuer, best.number}}, q
	}
	return Decision{Reason: ReasonNoGrant}, q
}

// match finds the grant that allows a request. Of several the one with the lowest number answers, so that the audit log of equal requests is
// equal.
func (s *State) match(q *request) (best factKey, found bool) {
	type summed struct {
		Target
		sum uint64
	}
	on := append(make([]summed, 0, 8), summed{AnyNode(), AnyNode().hash()})
	for _, id := range q.ids {
		on = append(on, summed{NodeTarget(id), NodeTarget(id).hash()})
	}
	for _, t := range q.at.Tags {
		on = append(on, summed{TagTarget(t), TagTarget(t).hash()})
	}
	names := [...]struct {
		name string
		sum  uint64
	}{{q.service, nameKey(q.service).hash()}, {"*", nameKey("*").hash()}}
	look := func(same pmap[endKey, *grantFacts]) {
		for k, f := range same.all() {
			if k.end != 0 && k.end <= q.now {
				return // the rest ended before
			}
			if s.counts(f.issuer, f.seq) && q.allows(f) && (!found || compareFacts(k.fact, best) < 0) {
				best, found = k.fact, true
			}
		}
	}
	for _, who := range q.who {
		all, ok := s.who.get(who)
		if !ok {
			continue
		}
		if all.len() <= len(on) {
			for k, same := range all.all() {
				if k.service == q.service || k.service == "*" {
					look(same)
				}
			}
			continue
		}
		for _, t := range on {
			for _, n := range names {
				if same, ok := all.get(rightOf(t.Target, t.sum, q.verb, n.name, n.sum)); ok {
					look(same)
				}
			}
		}
	}
	return best, found
}

func compareFacts(a, b factKey) int {
	return cmp.Or(cmp.Compare(a.number, b.number), bytes.Compare(a.issuer[:], b.issuer[:]))
}

// principal is a node that may take part now.
func (s *State) principal(id keys.NodeID, now int64) (Member, Reason) {
	if m, ok := s.LiveMember(id, now); ok {
		return m, ""
	}
	if _, revoked := s.Revoked(id); revoked {
		return Member{}, ReasonRevoked
	}
	m, ok := s.Member(id)
	switch {
	case ok && m.NotAfter <= now:
		return Member{}, ReasonExpired
	case ok:
		return Member{}, ReasonNotYet
	}
	return Member{}, ReasonNotMember
}

// allows reports whether a grant allows the request: nothing misses.
func (q *request) allows(f *grantFacts) bool {
	var room [5]Miss
	return len(q.misses(f, room[:0])) == 0
}

// misses adds to a list what about a grant does not match; nothing means that it allows the request.
func (q *request) misses(f *grantFacts, list []Miss) []Miss {
	o := &f.op
	if !slices.Contains(q.who, o.Who) {
		list = append(list, MissWho)
	}
	if !q.isTarget(o.What.Target) {
		list = append(list, MissTarget)
	}
	// Names of the protocol's own ("!relay") are only met by name: a star means services.
	named := o.What.Service == q.service || o.What.Service == "*" && q.service[0] != '!'
	if o.What.Verb != q.verb || !named {
		list = append(list, MissService)
	}
	if len(f.removals) > 0 {
		list = append(list, MissRemoved)
	}
	switch {
	case q.now < o.NotBefore:
		list = append(list, MissNotYet)
	case o.NotAfter != 0 && q.now >= o.NotAfter:
		list = append(list, MissExpired)
	}
	return list
}

func (q *request) isTarget(t Target) bool {
	switch t.Kind {
	case TargetAny:
		return true
	case TargetNode:
		return slices.Contains(q.ids, t.Node)
	case TargetTag:
		return q.at.HasTag(t.Tag)
	}
	return false
}

// near finds the grant that misses in one part only, the part easiest to put right.
func (s *State) near(q *request) *NearMiss {
	order := []Miss{MissNotYet, MissExpired, MissRemoved, MissWho, MissTarget, MissService}
	best, at := factKey{}, len(order)
	seen := 0
	for k, f := range s.grants.all() {
		if seen++; seen > maxNearScan {
			break
		}
		if !s.counts(f.issuer, f.seq) || f.op.What.Verb != q.verb {
			continue
		}
		miss := q.misses(f, nil)
		if len(miss) != 1 {
			continue
		}
		if i := slices.Index(order, miss[0]); i < at || i == at && compareFacts(k, best) < 0 {
			best, at = k, i
		}
	}
	if at == len(order) {
		return nil
	}
	f, _ := s.grants.get(best)
	return &NearMiss{Grant: s.grantFrom(best, f), Why: order[at]}
}

package trust

import (
	"bytes"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/sovereignmesh/meshkey/keys"
)

// modelDecide is the rule of protocol §12 as a person reads it: walk all grants, and compare. It knows no index.
func modelDecide(s *State, from, at keys.NodeID, verb Verb, service string, now int64) (allowed bool, by GrantRef) {
	caller, ok := s.LiveMember(from, now)
	if !ok {
		return false, by
	}
	self, ok := s.LiveMember(at, now)
	if !ok {
		return false, by
	}
	means := func(t Target, m Member) bool {
		switch t.Kind {
		case TargetNode:
			return t.Node == m.Node || s.Succeeds(t.Node, m.Node)
		case TargetTag:
			return slices.Contains(m.Tags, t.Tag)
		}
		return t.Kind == TargetAny
	}
	for g := range s.Grants() {
		named := g.What.Service == service || g.What.Service == "*" && service[0] != '!'
		if !g.InForce(now) || g.What.Verb != verb || !named || !means(g.Who, caller) || !means(g.What.Target, self) {
			continue
		}
		if !allowed || g.Ref.GID < by.GID || g.Ref.GID == by.GID && bytes.Compare(g.Ref.Issuer[:], by.Issuer[:]) < 0 {
			allowed, by = true, g.Ref
		}
	}
	return allowed, by
}

// TestDecideIsTheModel: over histories of two issuers with grants of every form and window, removals before and after, revoked, rotated and renewed
// machines, forks and cutoffs, each decision is the model's, and names the same grant.
func TestDecideIsTheModel(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, "a", "b", "c")
	allowedAll := 0
	rapid.Check(t, func(rt *rapid.T) {
		roots, entries := history(rt, w)
		s := settle(rt, w.start, roots, entries)
		nodes := []string{"n0", "n1", "n2", "n3", "n4"}
		writers := map[keys.PublicKey]string{}
		for _, n := range []string{"a", "b", "c"} {
			writers[w.writer(n).key.Public()] = n
		}
		// More grants and removals on top, by an issuer whose chain goes on.
		target := rapid.Custom(func(rt *rapid.T) Target {
			switch rapid.IntRange(0, 3).Draw(rt, "kind") {
			case 0:
				return AnyNode()
			case 1, 2:
				return NodeTarget(nodeID(rapid.SampledFrom(nodes).Draw(rt, "node")))
			}
			return TagTarget(rapid.SampledFrom([]string{"x", "y"}).Draw(rt, "tag"))
		})
		for _, c := range s.issuers {
			var ops []Op
			gid := c.maxGID
			for range rapid.IntRange(0, 12).Draw(rt, "more") {
				gid++
				g := OpGrant{
					GID: gid, Who: target.Draw(rt, "who"),
					What: What{
						Target: target.Draw(rt, "on"), Verb: Verb(rapid.SampledFrom([]int{0, 0, 0, 1}).Draw(rt, "verb")),
						Service: rapid.SampledFrom([]string{"svc", "*", "web", "!own"}).Draw(rt, "service"),
					},
					NotBefore: epoch0 + rapid.SampledFrom([]int64{0, 2}).Draw(rt, "begin")*day,
				}
				if d := rapid.SampledFrom([]int64{0, 1, 3, 9}).Draw(rt, "end"); d > 0 && epoch0+d*day > g.NotBefore {
					g.NotAfter = epoch0 + d*day
				}
				ops = append(ops, g)
				if rapid.IntRange(0, 3).Draw(rt, "back") == 0 {
					ops = append(ops, OpUngrant{Issuer: c.id, GID: rapid.Uint64Range(1, gid+2).Draw(rt, "which")})
				}
			}
			if n, err := s.Suppose(c.id, epoch0, ops...); err == nil && len(ops) > 0 {
				s = n
			}
		}
		for _, from := range nodes {
			for _, at := range nodes {
				for _, service := range []string{"svc", "web", "!own"} {
					for _, now := range []int64{epoch0 + day - 1, epoch0 + day, epoch0 + 2*day} {
						for _, verb := range []Verb{VerbOpen, VerbEscalate}[:1+now/day%2] {
							want, by := modelDecide(s, nodeID(from), nodeID(at), verb, service, now)
							got, _ := s.decide(nodeID(from), nodeID(at), verb, service, now)
							if got.Allowed != want || got.Grant != by {
								rt.Fatalf("%s -> %s/%s (%d) on day %d: %+v, want %v by %v\n%s", from, at, service, verb, (now-epoch0)/day, got, want, by, dump(s))
							}
							if want {
								allowedAll++
							}
						}
					}
				}
			}
		}
	})
	if allowedAll == 0 {
		t.Error("nothing was ever allowed: the property says nothing")
	}
}

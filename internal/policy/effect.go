package policy

import (
	"slices"

	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/trust"
)

// Access is a machine's use of a service of another. Service "*" stands for those no grant names.
type Access struct {
	From, At keys.NodeID
	Service  string
}

// Effect is what a change gives and takes, between live members, now. Of more than can be asked, More is set and the rest left out.
type Effect struct {
	Gained, Lost []Access
	More         bool
}

// Effect asks both States for every pair that a changed grant is about.
func (p *Plan) Effect() (e Effect) {
	services := p.services()
	seen := map[Access]bool{}
	look := func(who trust.Target, what trust.What) {
		if what.Verb != trust.VerbOpen {
			return
		}
		names := []string{what.Service}
		if what.Service == "*" {
			names = slices.Concat(services, names)
		}
		for _, from := range p.nodes(who) {
			for _, at := range p.nodes(what.Target) {
				if from == at {
					continue
				}
				for _, name := range names {
					a := Access{from, at, name}
					if seen[a] {
						continue
					}
					if len(seen) == maxAsked {
						e.More = true
						return
					}
					seen[a] = true
					switch before, after := p.may(p.Before, a), p.may(p.After, a); {
					case before && !after:
						e.Lost = append(e.Lost, a)
					case after && !before:
						e.Gained = append(e.Gained, a)
					}
				}
			}
		}
	}
	for i := range p.Add {
		look(p.Add[i].Who, p.Add[i].What)
	}
	for i := range p.Remove {
		look(p.Remove[i].Who, p.Remove[i].What)
	}
	return e
}

// may asks the decision itself. What no grant names is asked by such a name.
func (p *Plan) may(st *trust.State, a Access) bool {
	name := a.Service
	if name == "*" {
		name = p.unnamed()
	}
	return st.Decide(a.From, a.At, name, p.now).Allowed
}

// services are the names that grants in force have.
func (p *Plan) services() (names []string) {
	seen := map[string]bool{"*": true}
	for g := range p.After.Grants() {
		if s := g.What.Service; !seen[s] && s[0] != '!' && len(names) < maxServices {
			seen[s] = true
			names = append(names, s)
		}
	}
	return names
}

// unnamed is a service that no grant names.
func (p *Plan) unnamed() string {
	if p.other == "" {
		used := map[string]bool{}
		for g := range p.After.Grants() {
			used[g.What.Service] = true
		}
		for p.other = "x"; used[p.other]; p.other += "x" {
		}
	}
	return p.other
}

// LockOut says which way in is lost.
type LockOut uint8

// What a change locks out.
const (
	LocksNobody LockOut = iota
	LocksIssuers
	LocksAll
)

// LockOut reports whether the change takes the last way in to the machines of issuers, or to any machine at all.
func (p *Plan) LockOut(issuers []keys.NodeID) LockOut {
	var all []keys.NodeID
	for i := range p.live {
		all = append(all, p.live[i].Node)
	}
	switch {
	case p.wayIn(p.Before, all) && !p.wayIn(p.After, all):
		return LocksAll
	case p.wayIn(p.Before, issuers) && !p.wayIn(p.After, issuers):
		return LocksIssuers
	}
	return LocksNobody
}

// wayIn reports whether another live member may open a service on one of the machines. Grants say whom to ask for; Decide says whether.
func (p *Plan) wayIn(st *trust.State, machines []keys.NodeID) bool {
	among := map[keys.NodeID]bool{}
	for _, id := range machines {
		among[id] = true
	}
	for g := range st.Grants() {
		if !g.InForce(p.now) || g.What.Verb != trust.VerbOpen || g.What.Service[0] == '!' {
			continue
		}
		for _, at := range p.nodes(g.What.Target) {
			if !among[at] {
				continue
			}
			for _, from := range p.nodes(g.Who) {
				if from != at && p.may(st, Access{from, at, g.What.Service}) {
					return true
				}
			}
		}
	}
	return false
}

package daemon

import (
	"context"
	"fmt"
	"slices"
	"sort"
	"time"

	"github.com/sovereignmesh/meshkey/control"
	"github.com/sovereignmesh/meshkey/internal/policy"
	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/trust"
)

// A grant names keys. What it means to a person follows the key it named to the one that has taken its place, and ends with that.

func heir(st *trust.State, id keys.NodeID) keys.NodeID { return st.Heir(id) }

// sameTarget reports whether two targets mean the same, whichever key of a machine they name.
func sameTarget(st *trust.State, a, b trust.Target) bool {
	if a.Kind == trust.TargetNode && b.Kind == trust.TargetNode {
		return heir(st, a.Node) == heir(st, b.Node)
	}
	return a == b
}

// voidWhy says why a grant can never count again although nobody has taken it back; empty: it can.
func voidWhy(st *trust.State, g *trust.Grant, now int64) string {
	for _, t := range []trust.Target{g.Who, g.What.Target} {
		if t.Kind != trust.TargetNode {
			continue
		}
		id := heir(st, t.Node)
		if _, member := st.Member(id); member {
			continue
		}
		if r, ok := st.Revoked(id); ok {
			return knownAs(st, id) + ": " + revokedText(st, id, r, now)
		}
		return knownAs(st, id) + " is no member"
	}
	return ""
}

// text shows a target as a person would write it.
func (d *Daemon) text(t trust.Target) string {
	switch t.Kind {
	case trust.TargetNode:
		st := d.store.Current()
		id := heir(st, t.Node)
		if _, member := st.Member(id); member {
			return d.word(id)
		}
		return knownAs(st, id)
	case trust.TargetTag:
		return "tag:" + t.Tag
	}
	return "any"
}

func (d *Daemon) what(w trust.What) string {
	if w.Target.Kind == trust.TargetAny {
		return w.Service
	}
	return d.text(w.Target) + "/" + w.Service
}

func (d *Daemon) grantDoc(g trust.Grant, now int64) control.Grant {
	st := d.store.Current()
	c := control.Grant{ID: d.grantID(g.Ref), Who: d.text(g.Who), What: d.what(g.What), Note: g.Note, State: "active"}
	if is, ok := st.Root().Issuer(g.Ref.Issuer); ok {
		c.Issuer = is.Name
	}
	if g.NotBefore != 0 {
		c.NotBefore = time.Unix(g.NotBefore, 0).UTC()
	}
	if g.NotAfter != 0 {
		c.NotAfter = time.Unix(g.NotAfter, 0).UTC()
	}
	c.Why = voidWhy(st, &g, now)
	switch {
	case c.Why != "":
		c.State = "void"
	case g.NotAfter != 0 && now >= g.NotAfter:
		c.State = "expired"
	case now < g.NotBefore:
		c.State = "future"
	}
	return c
}

// Grants implements control.Viewer.
func (d *Daemon) Grants(_ context.Context, q control.GrantsQuery) (*control.Grants, error) {
	now, st := d.trustNow(), d.store.Current()
	match, err := grantFilter(st, q)
	if err != nil {
		return nil, err
	}
	out := &control.Grants{Grants: []control.Grant{}}
	var all []trust.Grant
	for g := range st.Grants() {
		if g.Removed == nil && match(&g) {
			all = append(all, g)
		}
	}
	sort.Slice(all, func(i, j int) bool { return all[i].Ref.GID < all[j].Ref.GID })
	for _, g := range all {
		out.Grants = append(out.Grants, d.grantDoc(g, now))
	}
	return out, nil
}

// grantFilter reads a query. A machine is meant with all keys that ever had its name, and with those that took their places.
func grantFilter(st *trust.State, q control.GrantsQuery) (func(*trust.Grant) bool, error) {
	who, on, service := anyTarget, anyTarget, ""
	if q.Who != "" {
		s, err := control.ParseSubject(q.Who)
		if err != nil {
			return nil, err
		}
		who = targetFilter(st, s)
	}
	if q.What != "" {
		r, err := control.ParseResource(q.What)
		if err != nil {
			return nil, err
		}
		if service = r.Service; r.String() == q.What {
			on = targetFilter(st, r.On) // else it is a service alone, of whatever node
		}
	}
	return func(g *trust.Grant) bool {
		return who(g.Who) && on(g.What.Target) && (service == "" || service == g.What.Service)
	}, nil
}

func anyTarget(trust.Target) bool { return true }

func targetFilter(st *trust.State, s control.Subject) func(trust.Target) bool {
	switch {
	case s.Any:
		return func(t trust.Target) bool { return t.Kind == trust.TargetAny }
	case s.Tag != "":
		return func(t trust.Target) bool { return t == trust.TagTarget(s.Tag) }
	}
	ids := st.EverNamed(s.Node)
	if p, err := keys.ParseNodePrefix(s.Node); err == nil {
		ids = append(ids, st.ByPrefix(p)...)
	}
	var heirs []keys.NodeID
	for _, id := range ids {
		heirs = append(heirs, heir(st, id))
	}
	return func(t trust.Target) bool {
		return t.Kind == trust.TargetNode && slices.Contains(heirs, heir(st, t.Node))
	}
}

// grantsOf are the grants that go with a machine, whichever of its keys they name, and those it has a part in by its tags, or as anybody.
func (d *Daemon) grantsOf(id keys.NodeID, now int64) (own, shared []control.Grant) {
	st := d.store.Current()
	m, _ := st.Member(id)
	self := trust.NodeTarget(id)
	common := func(t trust.Target) bool { return t.Kind == trust.TargetTag && m.HasTag(t.Tag) }
	for g := range st.Grants() {
		if g.Removed != nil || g.NotAfter != 0 && now >= g.NotAfter {
			continue
		}
		doc := d.grantDoc(g, now)
		switch {
		case sameTarget(st, g.Who, self), sameTarget(st, g.What.Target, self):
			if doc.State != "void" {
				own = append(own, doc)
			}
		case doc.State != "void" && (common(g.Who) || common(g.What.Target) || g.Who.Kind == trust.TargetAny):
			shared = append(shared, doc)
		}
	}
	byID := func(list []control.Grant) {
		sort.SliceStable(list, func(i, j int) bool {
			return len(list[i].ID) < len(list[j].ID) || len(list[i].ID) == len(list[j].ID) && list[i].ID < list[j].ID
		})
	}
	byID(own)
	byID(shared)
	return own, shared
}

// standing finds grants in force that say this, whichever key of a machine they name: one with the same end, and the one that goes on
// longest. Zero is without end.
func (d *Daemon) standing(who trust.Target, what trust.What, notAfter int64) (same, longest *trust.Grant) {
	now, st := d.trustNow(), d.store.Current()
	for g := range st.Grants() {
		if !g.InForce(now) || g.What.Service != what.Service || g.What.Verb != what.Verb || !sameTarget(st, g.Who, who) || !sameTarget(st, g.What.Target, what.Target) {
			continue
		}
		// One of a policy file goes with that file: by hand it is given beside it.
		if g.NotAfter == notAfter && policy.OwnerOf(g.Note) == "" {
			same = &g
		}
		if longest == nil || longest.NotAfter != 0 && (g.NotAfter == 0 || g.NotAfter > longest.NotAfter) {
			longest = &g
		}
	}
	return same, longest
}

// outlived warns of a grant that allows the same for longer than a new one.
func (d *Daemon) outlived(longest *trust.Grant, notAfter int64) []control.Warning {
	if longest == nil || notAfter == 0 || longest.NotAfter != 0 && longest.NotAfter <= notAfter {
		return nil
	}
	until := "without end"
	if longest.NotAfter != 0 {
		until = "until " + time.Unix(longest.NotAfter, 0).UTC().Format(time.RFC3339)
	}
	id := d.grantID(longest.Ref)
	return []control.Warning{{Code: "granted-longer", Text: fmt.Sprintf("%s allows the same %s", id, until), Next: "if it shall end sooner: meshkey ungrant " + id}}
}

// grants reports whether this host's issuer may grant: who may not is told that, whatever others have granted.
func (d *Daemon) grants() bool {
	signer := d.signer()
	if signer == nil {
		return false
	}
	is, ok := d.store.Current().Root().Issuer(signer.Public())
	return ok && is.Works(d.trustNow()) && is.Caps.Has(trust.CapGrant)
}

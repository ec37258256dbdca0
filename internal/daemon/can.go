package daemon

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/sovereignmesh/meshkey/control"
	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/mesh"
	"github.com/sovereignmesh/meshkey/trust"
)

// Decide implements control.Viewer. It asks what the destination of a stream asks, [trust.State.Explain] by the log held here; nothing else
// knows what grants mean.
func (d *Daemon) Decide(_ context.Context, r control.DecideRequest) (*control.Decision, error) {
	st := d.store.Current()
	from := d.key.NodeID()
	if r.From != "" {
		var err error
		if from, err = d.asked(st, r.From); err != nil {
			return nil, err
		}
	}
	on, service, err := control.ParseServiceRef(r.Target)
	if err != nil {
		return nil, err
	}
	at, err := d.asked(st, on)
	if err != nil {
		return nil, err
	}
	now := d.trustNow()
	if !r.At.IsZero() {
		now = r.At.Unix()
	}
	c := d.decision(from, mesh.Target{Node: at, Service: service}, now)
	c.At = r.At
	return c, nil
}

// asked finds whom a question is about: a live member, or else the only key that ever had the name, of which can be said why it may nothing.
func (d *Daemon) asked(st *trust.State, who string) (keys.NodeID, error) {
	t, err := d.node.Lookup(who + "/x")
	if err == nil {
		return t.Node, nil
	}
	if id, e := keys.ParseNodeID(who); e == nil {
		if _, known := st.NameOf(id); known {
			return id, nil
		}
	}
	if ids := st.EverNamed(who); len(ids) == 1 && errors.Is(err, mesh.ErrUnknownNode) {
		return ids[0], nil
	}
	return keys.NodeID{}, d.dialError(who, err)
}

// decision asks the log held here, and finds the grant that almost allows.
func (d *Daemon) decision(from keys.NodeID, t mesh.Target, now int64) *control.Decision {
	st := d.store.Current()
	dec := st.Explain(from, t.Node, t.Service, now)
	c := &control.Decision{
		Allowed: dec.Allowed, From: d.word(from), Target: d.word(t.Node) + "/" + t.Service, Reason: reasonText(dec.Reason),
	}
	if dec.Allowed {
		if g, ok := st.Grant(dec.Grant); ok {
			doc := d.grantDoc(g, now)
			c.Grant, c.By = d.grantLine(g), &doc
		}
		return c
	}
	if dec.Reason != trust.ReasonNoGrant {
		c.Reason, c.Command = d.outsider(st, from, t.Node, dec.Reason, now)
		return c
	}
	c.Command = fmt.Sprintf("meshkey grant %s %s", c.From, c.Target)
	if dec.Near != nil {
		g := dec.Near.Grant
		doc := d.grantDoc(g, now)
		c.Near, c.Nearest = d.grantLine(g)+missText(dec.Near.Why), &doc
		c.Why = d.nearly(st, dec.Near, from, t, now)
	}
	return c
}

// nearly says in a sentence what keeps a grant from allowing.
func (d *Daemon) nearly(st *trust.State, n *trust.NearMiss, from keys.NodeID, t mesh.Target, now int64) string {
	g, id := &n.Grant, d.grantID(n.Grant.Ref)
	at := d.word(t.Node)
	switch n.Why {
	case trust.MissNotYet:
		return fmt.Sprintf("%s would, but it begins in %s", id, ago(g.NotBefore-now))
	case trust.MissExpired:
		return fmt.Sprintf("%s would, but it ended %s ago", id, ago(now-g.NotAfter))
	case trust.MissRemoved:
		if r := g.Removed; r != nil {
			return fmt.Sprintf("%s would, but %s took it back on %s", id, issuerName(st, r.Issuer), time.Unix(r.Time, 0).UTC().Format(time.DateOnly))
		}
		return id + " would, but it was taken back"
	case trust.MissWho:
		return fmt.Sprintf("%s is for %s; %s", id, d.text(g.Who), d.hasTags(st, from, g.Who))
	case trust.MissTarget:
		if g.What.Target.Kind == trust.TargetTag {
			return fmt.Sprintf("%s allows %s; %s", id, d.what(g.What), d.hasTags(st, t.Node, g.What.Target))
		}
		return fmt.Sprintf("%s allows %s, not %s/%s", id, d.what(g.What), at, t.Service)
	case trust.MissService:
		return fmt.Sprintf("%s allows %s, not %s/%s", id, d.what(g.What), at, t.Service)
	}
	return ""
}

// hasTags says how a node is not what a grant names.
func (d *Daemon) hasTags(st *trust.State, id keys.NodeID, want trust.Target) string {
	if want.Kind != trust.TargetTag {
		return "this is " + d.word(id)
	}
	m, _ := st.Member(id)
	if len(m.Tags) == 0 {
		return d.word(id) + " has no tags"
	}
	return d.word(id) + " has tag:" + strings.Join(m.Tags, ", tag:")
}

// outsider says which of two nodes takes no part in the mesh at a time, why, and what lets it.
func (d *Daemon) outsider(st *trust.State, from, at keys.NodeID, why trust.Reason, now int64) (text, command string) {
	id := from
	if _, live := st.LiveMember(from, now); live {
		id = at
	}
	name := d.word(id)
	if _, ok := st.LiveMember(id, d.trustNow()); !ok {
		name = knownAs(st, id)
	}
	switch m, _ := st.Member(id); why {
	case trust.ReasonRevoked:
		if r, ok := st.Revoked(id); ok {
			text = name + " was " + revokedText(st, id, r, now)
		}
		if n, ok := st.NameOf(id); ok {
			command = "meshkey invite " + n
		}
	case trust.ReasonExpired:
		text = fmt.Sprintf("the certificate of %s ends %s", name, time.Unix(m.NotAfter, 0).UTC().Format(time.RFC3339))
		if now >= d.trustNow() && m.NotAfter > d.trustNow() {
			text += "; it renews itself before"
		} else {
			command = "meshkey invite " + m.Name
		}
	case trust.ReasonNotYet:
		text = fmt.Sprintf("the certificate of %s begins %s", name, time.Unix(m.NotBefore, 0).UTC().Format(time.RFC3339))
	default:
		text = name + ": " + reasonText(why)
	}
	return text, command
}

// ago writes seconds in their largest unit.
func ago(seconds int64) string {
	for _, u := range []struct {
		size int64
		name string
	}{{24 * 3600, "d"}, {3600, "h"}, {60, "min"}} {
		if seconds >= 2*u.size || seconds >= u.size && u.size < 24*3600 {
			return fmt.Sprintf("%d %s", seconds/u.size, u.name)
		}
	}
	return fmt.Sprintf("%d s", seconds)
}

func (d *Daemon) grantLine(g trust.Grant) string {
	return d.grantID(g.Ref) + " " + d.text(g.Who) + " -> " + d.what(g.What)
}

func reasonText(r trust.Reason) string {
	switch r {
	case trust.ReasonNoGrant:
		return "no grant matches"
	case trust.ReasonGranted:
		return "granted"
	}
	return strings.ReplaceAll(string(r), "-", " ")
}

func missText(m trust.Miss) string {
	switch m {
	case trust.MissNotYet:
		return ", not in force yet"
	case trust.MissExpired:
		return ", expired"
	case trust.MissRemoved:
		return ", taken back"
	}
	return ""
}

package daemon

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sovereignmesh/meshkey/control"
	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/mesh"
	"github.com/sovereignmesh/meshkey/session"
	"github.com/sovereignmesh/meshkey/trust"
)

// What this node knows of who offers a service. A peer tells only those who may use it, so often it is nothing.
const (
	offeredYes     = "yes"
	offeredNo      = "no"
	offeredUnknown = "unknown"
)

// offerWait is how long a new grant's peers have for saying what it shows of their services: they do within a tenth of it.
const offerWait = time.Second

// peerInfo is what is known of one other member.
func (d *Daemon) peerInfo(id keys.NodeID) mesh.PeerInfo {
	for _, p := range d.node.Peers() {
		if p.Node == id {
			return p
		}
	}
	return mesh.PeerInfo{Node: id}
}

// told finds a service in what a peer has told; known is false if it has told nothing that counts now.
func told(p *mesh.PeerInfo, service string) (s session.Service, found, known bool) {
	if p.Session != session.Full.String() || !p.ServicesTold {
		return s, false, false
	}
	i := slices.IndexFunc(p.Services, func(s session.Service) bool { return s.Name == service })
	if i < 0 {
		return s, false, true
	}
	return p.Services[i], true, true
}

// lookAt sees whether a service that this node may use can be used now: what stands in the way and is certain is an error, what may pass is
// a warning.
func (d *Daemon) lookAt(ctx context.Context, t mesh.Target) (http bool, warnings []control.Warning, err error) {
	p := d.peerInfo(t.Node)
	name := d.word(t.Node)
	s, found, known := told(&p, t.Service)
	switch {
	case !known:
		why := "there is no session with " + name + " now"
		if p.Session == session.Full.String() {
			why = name + " has not told its services yet"
		}
		return false, []control.Warning{{
			Code: "service-unknown", Text: fmt.Sprintf("%s, so whether it offers %s is not known; each connection will try", why, t.Service),
			Next: "meshkey peers",
		}}, nil
	case found && s.State == session.ServiceUp:
		return s.Proto == "http", nil, nil
	case found:
		return s.Proto == "http", []control.Warning{serviceDown(name, t.Service, s.Reason)}, nil
	}
	// Its list may be older than a grant that is on its way: its answer to an opening is not.
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	c, err := d.node.DialTarget(ctx, t)
	if err == nil {
		c.Abort()
		return false, nil, nil
	}
	e := control.AsError(d.openError(t, err))
	if re, ok := errors.AsType[*session.RefusedError](err); ok && re.Code == session.CodeUnreachable {
		return false, []control.Warning{serviceDown(name, t.Service, "")}, nil
	}
	if e.Code == control.NotFound || e.Code == control.Denied {
		return false, nil, e
	}
	return false, []control.Warning{{Code: "service-unknown", Text: e.Message, Next: e.Next}}, nil
}

func serviceDown(name, service, reason string) control.Warning {
	if reason == "" {
		reason = "the target does not answer"
	}
	return control.Warning{
		Code: "service-down", Text: fmt.Sprintf("%s/%s is down there: %s; connections fail until it answers", name, service, reason),
		Next: "start it on " + name,
	}
}

// notOffered is the error of a service that a peer, which knows the same grants, does not have.
func (d *Daemon) notOffered(p *mesh.PeerInfo, service string) error {
	name := d.word(p.Node)
	var names []string
	for _, s := range p.Services {
		names = append(names, s.Name)
	}
	offers := "nothing to this machine"
	if len(names) > 0 {
		offers = "this machine " + strings.Join(names, ", ")
	}
	return control.Errorf(control.NotFound, "meshkey services", "%s offers no service %q; it offers %s", name, service, offers)
}

// offeredBy says whether anybody a grant is about offers its service.
func (d *Daemon) offeredBy(w trust.What) string {
	st, now := d.store.Current(), d.trustNow()
	answer := offeredNo
	for m := range st.Members() {
		if !covers(w.Target, &m) {
			continue
		}
		if _, live := st.LiveMember(m.Node, now); !live {
			continue
		}
		switch d.offers(m.Node, w.Service, now) {
		case offeredYes:
			return offeredYes
		case offeredUnknown:
			answer = offeredUnknown
		}
	}
	return answer
}

func covers(t trust.Target, m *trust.Member) bool {
	switch t.Kind {
	case trust.TargetNode:
		return t.Node == m.Node
	case trust.TargetTag:
		return slices.Contains(m.Tags, t.Tag)
	}
	return true
}

// offers says whether one node offers a service.
func (d *Daemon) offers(id keys.NodeID, service string, now int64) string {
	if id == d.key.NodeID() {
		if slices.ContainsFunc(d.node.Services(), func(s mesh.ServiceInfo) bool { return s.Name == service }) {
			return offeredYes
		}
		return offeredNo
	}
	p := d.peerInfo(id)
	switch _, found, known := told(&p, service); {
	case found:
		return offeredYes
	case !known, !d.store.Current().Decide(d.key.NodeID(), id, service, now).Allowed:
		return offeredUnknown
	}
	return offeredNo
}

// lookForOffer tells of a new grant whether there is anything it lets somebody use. The peers it is about may need a moment to tell.
func (d *Daemon) lookForOffer(ctx context.Context, w trust.What, wait time.Duration) (string, []control.Warning) {
	if w.Service == "*" {
		return "", nil
	}
	ctx, cancel := context.WithTimeout(ctx, min(wait, offerWait))
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	state := d.offeredBy(w)
	for state == offeredNo && w.Target != trust.NodeTarget(d.key.NodeID()) && ctx.Err() == nil {
		select {
		case <-tick.C:
			state = d.offeredBy(w)
		case <-ctx.Done():
		}
	}
	if state != offeredNo {
		return state, nil
	}
	who := "nobody offers"
	if w.Target.Kind == trust.TargetNode {
		who = d.word(w.Target.Node) + " does not offer"
	} else if w.Target.Kind == trust.TargetTag {
		who = "no machine with the tag " + w.Target.Tag + " offers"
	}
	return state, []control.Warning{{
		Code: "not-offered", Text: fmt.Sprintf("%s a service %q now: the grant is made, and counts when it does", who, w.Service),
		Next: fmt.Sprintf("meshkey expose %s TARGET, there; or, if the name is wrong, take the grant back", w.Service),
	}}
}

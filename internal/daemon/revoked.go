package daemon

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/sovereignmesh/meshkey/control"
	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/mesh"
	"github.com/sovereignmesh/meshkey/trust"
)

// maxSayers is how many peers a sentence names.
const maxSayers = 4

// standing of this machine's own key.
type standing uint8

const (
	standingMember standing = iota
	// standingTold: peers say that it is revoked, others still let it in or have not been met.
	standingTold
	// standingShutOut: peers say so, and nobody lets it in.
	standingShutOut
	// standingRevoked: its own log says so, by a signed entry.
	standingRevoked
)

// ownStanding says whether this machine is a member still, and if there is doubt, what is known. A revoked node is not shown the entry that
// revokes it, so mostly it learns by being refused, which is the peers' word alone; both are said as what they are.
//
// While a rotation is under way the old key is revoked and the new one not in use yet: then its own warning says what is to be done.
func (d *Daemon) ownStanding() (standing, string) {
	if r, err := d.dir.readRotation(); err == nil && r != nil {
		return standingMember, ""
	}
	st := d.store.Current()
	if r, ok := st.Revoked(d.key.NodeID()); ok {
		return standingRevoked, fmt.Sprintf("this machine's key is revoked, so no machine lets it in: %s", revokedText(st, d.key.NodeID(), r, d.trustNow()))
	}
	says := d.node.RevokedBy(time.Time{})
	if len(says) == 0 {
		return standingMember, ""
	}
	text := d.sayers(says) + " that this machine's key is revoked; it cannot be checked here, for only members are shown the log"
	if d.node.ShutOut() {
		return standingShutOut, text
	}
	return standingTold, text
}

func (d *Daemon) sayers(ids []keys.NodeID) string {
	var names []string
	for _, id := range ids[:min(len(ids), maxSayers)] {
		names = append(names, d.word(id))
	}
	if more := len(ids) - len(names); more > 0 {
		names = append(names, fmt.Sprintf("%d more", more))
	}
	if len(names) == 1 {
		return names[0] + " says"
	}
	return strings.Join(names[:len(names)-1], ", ") + " and " + names[len(names)-1] + " say"
}

// comeBack is how a revoked machine becomes a member again.
func (d *Daemon) comeBack(s standing) string {
	again := "meshkey leave; then meshkey invite " + d.cert.Name + " on an issuer, and meshkey enroll here"
	if s == standingRevoked {
		return "to come back: " + again
	}
	return "ask an admin (meshkey peers --all, on an issuer); if it is so: " + strings.Replace(again, "leave", "leave --force", 1)
}

// revokedWarnings tell of this machine's own revocation.
func (d *Daemon) revokedWarnings() []control.Warning {
	switch s, text := d.ownStanding(); s {
	case standingMember:
		return nil
	case standingRevoked:
		return []control.Warning{{Code: "revoked", Text: text, Next: d.comeBack(s)}}
	default:
		return []control.Warning{{Code: "revoked-told", Text: text, Next: d.comeBack(s)}}
	}
}

// notRevoked refuses what a machine cannot do that is revoked by its own log. What peers say ends nothing by itself: one member's lie would
// keep this machine from all the others.
func (d *Daemon) notRevoked() error {
	if s, text := d.ownStanding(); s == standingRevoked {
		return control.Errorf(control.Denied, d.comeBack(s), "%s", text)
	}
	return nil
}

// takesUs refuses to use a peer that says itself, now, that this machine is revoked.
func (d *Daemon) takesUs(ctx context.Context, t mesh.Target) error {
	if err := d.notRevoked(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	if !d.node.Refuses(ctx, t.Node) {
		return nil
	}
	s, text := d.ownStanding()
	if s == standingMember { // the new key of a rotation under way is not in use yet
		return control.Errorf(control.Denied, "meshkey status", "%s says that this machine's key is revoked, while a rotation of it is under way", d.word(t.Node))
	}
	return control.Errorf(control.Denied, d.comeBack(standingTold), "%s does not let this machine in: %s", d.word(t.Node), text)
}

// issuersShutOut are the issuers that say that this machine's key is revoked, while nobody lets it in.
func (d *Daemon) issuersShutOut() []keys.NodeID {
	if s, _ := d.ownStanding(); s != standingShutOut {
		return nil
	}
	return d.node.IssuersSayRevoked()
}

// revokedAlready is what a leave finds before it asks anybody: who has revoked this machine by its own log.
func (d *Daemon) revokedAlready() (by control.NodeRef, done bool) {
	if s, _ := d.ownStanding(); s != standingRevoked {
		return by, false
	}
	st := d.store.Current()
	r, _ := st.Revoked(d.key.NodeID())
	if signer := d.signer(); signer != nil && signer.Public() == r.Issuer {
		return by, false // by this very host: whether anybody else has the entry is to be seen
	}
	return control.NodeRef{Name: issuerName(st, r.Issuer)}, true
}

// selfRef names this node also when it is a member no more.
func (d *Daemon) selfRef(st *trust.State, now int64) control.NodeRef {
	r := d.ref(d.key.NodeID())
	if _, live := st.LiveMember(d.key.NodeID(), now); r.Name == "" && !live {
		r.Name = d.cert.Name
	}
	return r
}

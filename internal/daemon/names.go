package daemon

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sovereignmesh/meshkey/audit"
	"github.com/sovereignmesh/meshkey/control"
	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/mesh"
	"github.com/sovereignmesh/meshkey/trust"
)

// maxPinWarnings bounds the lines about names that changed hands; doctor and status say how many more there are.
const maxPinWarnings = 16

// nameError says why a name or an id means nobody who may be used now, and what to do.
func nameError(err error) error {
	if pin, ok := errors.AsType[*mesh.PinError](err); ok {
		return control.Errorf(control.Unverified, "look at both keys, and if it is right: meshkey repin "+pin.Name, "%w", err)
	}
	return control.Errorf(control.NotFound, "meshkey peers", "%w", err)
}

// resolve finds a live member by name, id or the beginning of an id.
func (d *Daemon) resolve(who string) (keys.NodeID, error) {
	id, err := d.node.ResolveNode(who)
	if err != nil {
		return id, nameError(err)
	}
	return id, nil
}

// Repin implements control.Connector. The record is durable before the pin changes: if we crash in between, it says what was wanted, and
// the name is refused as before.
func (d *Daemon) Repin(_ context.Context, by control.Caller, r *control.RepinRequest) (*control.RepinResult, error) {
	st, now := d.store.Current(), d.trustNow()
	res := &control.RepinResult{Name: r.Name, DryRun: r.DryRun}
	var found *mesh.PinError
	for _, e := range d.node.PinConflicts() {
		if e.Name == r.Name {
			found = &e
		}
	}
	if found == nil {
		ids := st.ByName(r.Name, now)
		if len(ids) != 1 {
			return nil, control.Errorf(control.NotFound, "meshkey peers", "no live member alone is named %q, so there is nothing to accept", r.Name)
		}
		res.Was, res.Is = d.ref(ids[0]), d.ref(ids[0])
		return res, nil
	}
	res.Changed, res.Was, res.Is = true, control.NodeRef{ID: found.Was.Compact()}, d.ref(found.Is)
	res.WasText, res.Living = becameOf(st, found.Was, now)
	if m, ok := st.LiveMember(found.Is, now); ok {
		res.Issuer, res.Since = issuerName(st, m.Issuer), time.Unix(m.NotBefore, 0).UTC()
	}
	if r.DryRun {
		return res, nil
	}
	was, err := keys.ParseNodeID(r.Was)
	if err != nil {
		return nil, err
	}
	is, err := keys.ParseNodeID(r.Is)
	if err != nil {
		return nil, err
	}
	moved := control.Errorf(control.Failed, "meshkey repin "+r.Name, "%s means other keys than those that were shown; nothing was changed", r.Name)
	if was != found.Was || is != found.Is {
		return nil, moved
	}
	if err := d.record(by, audit.Event{Code: audit.NamePin, Target: is.Compact(), Before: was.Compact(), After: r.Name}); err != nil {
		return nil, err
	}
	switch err := d.node.AcceptName(*found); {
	case errors.Is(err, mesh.ErrPinMoved):
		return nil, moved
	case err != nil:
		return nil, control.Errorf(control.Failed, "make room or repair the disk, then try again", "%w", err)
	}
	return res, nil
}

// becameOf says what the log tells of a key that had a name, and whether it is a member still.
func becameOf(st *trust.State, id keys.NodeID, now int64) (text string, living bool) {
	if r, ok := st.Revoked(id); ok {
		return revokedText(st, id, r, now), false
	}
	if m, ok := st.LiveMember(id, now); ok {
		return "a member still, named " + m.Name, true
	}
	if m, ok := st.Member(id); ok {
		return "a member until " + time.Unix(m.NotAfter, 0).UTC().Format(time.DateOnly), false
	}
	return "no member any more", false
}

// revokedText says who took a key away, when, and why as far as the log tells. Which key follows it is said only if it has signed that; a
// reason is shown as the word of its issuer, for whoever has that one's key writes what he likes, and then enrols a key of his own.
func revokedText(st *trust.State, id keys.NodeID, r trust.Revocation, now int64) string {
	text := revokedOn(st, r)
	signed := st.SignedSuccessors(id)
	next, follows := st.SuccessorOf(id)
	switch {
	case follows:
		became := "is no member any more"
		if m, ok := st.LiveMember(next, now); ok {
			became = "is a member, named " + m.Name
		} else if r, ok := st.Revoked(next); ok {
			became = "was " + revokedOn(st, r)
		} else if m, ok := st.Member(next); ok {
			became = "was a member until " + time.Unix(m.NotAfter, 0).UTC().Format(time.DateOnly)
		}
		return fmt.Sprintf("%s; rotated, signed by it, to %s, which %s", text, shortID(next), became)
	case len(signed) > 1:
		return text + "; it signed more than one key to follow it, so none does"
	case len(signed) == 1:
		return text + "; rotated, signed by it, to " + shortID(signed[0]) + ", by an issuer whose enrolments do not count now"
	case r.Reason == trust.RevokeRotated:
		return text + "; the issuer says that it was rotated, but it signed for no key to follow it"
	case r.Reason == trust.RevokeLeft:
		return text + "; the issuer says that it left"
	}
	return text
}

func revokedOn(st *trust.State, r trust.Revocation) string {
	return fmt.Sprintf("revoked by %s on %s", issuerName(st, r.Issuer), time.Unix(r.Time, 0).UTC().Format(time.DateOnly))
}

// issuerName names an issuer of the root, or shows its key.
func issuerName(st *trust.State, id keys.PublicKey) string {
	if is, ok := st.Root().Issuer(id); ok {
		return is.Name
	}
	return id.String()
}

// pinWarnings tell of names that mean another key than at their first use here.
func (d *Daemon) pinWarnings(st *trust.State, now int64) (out []control.Warning) {
	all := d.node.PinConflicts()
	for _, e := range all[:min(len(all), maxPinWarnings)] {
		was, _ := becameOf(st, e.Was, now)
		out = append(out, control.Warning{
			Code: "name-changed", Text: fmt.Sprintf("%s is another key than when this machine first used the name, so it is refused here (the old one: %s)", e.Name, was),
			Next: "look at both keys, and if it is right: meshkey repin " + e.Name,
		})
	}
	if more := len(all) - len(out); more > 0 {
		out = append(out, control.Warning{Code: "name-changed", Text: fmt.Sprintf("and %d more names mean other keys than at their first use", more), Next: "meshkey repin NAME, for each that is needed"})
	}
	return out
}

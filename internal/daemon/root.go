package daemon

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sovereignmesh/meshkey/audit"
	"github.com/sovereignmesh/meshkey/control"
	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/trust"
)

func keyText(k keys.PublicKey) string { return keys.NodeID(k).Compact() }

// RootDoc describes a root for people and programs.
func RootDoc(r *trust.Root) *control.Root {
	c := &control.Root{
		Mesh: control.MeshInfo{Name: r.Name, ID: r.Mesh.String()}, Version: r.Version, Hash: r.Hash().String(),
		Issued: time.Unix(r.Issued, 0).UTC(), Threshold: r.Threshold, Keys: RootKeyDocs(r.Keys), Issuers: []control.Issuer{},
		Params: control.RootParams{MaxStaleMS: r.Params.MaxStale * 1000, StaleAction: "warn", GroupMaxAgeMS: r.Params.GroupMaxAge * 1000},
	}
	if r.Params.StaleAction == 1 {
		c.Params.StaleAction = "restrict"
	}
	if !r.GroupIssuer.IsZero() {
		c.GroupIssuer = keyText(r.GroupIssuer)
	}
	for i := range r.Issuers {
		is := &r.Issuers[i]
		d := control.Issuer{
			Name: is.Name, Key: keyText(is.ID), Rights: []string{}, Tags: append([]string{}, is.Tags...), MaxTTLMS: is.MaxTTL * 1000,
			NotAfter: time.Unix(is.NotAfter, 0).UTC(), State: "works",
		}
		if is.Caps != 0 {
			d.Rights = strings.Split(is.Caps.String(), ",")
		}
		if is.Cutoff != nil {
			d.Cutoff, d.State = &control.Cutoff{Seq: is.Cutoff.Seq, Hash: is.Cutoff.Hash.String()}, "cut off"
		}
		c.Issuers = append(c.Issuers, d)
	}
	return c
}

// RootKeyDocs names root keys.
func RootKeyDocs(list []trust.RootKey) []control.RootKey {
	out := []control.RootKey{}
	for _, k := range list {
		out = append(out, control.RootKey{Name: k.Name, Key: keyText(k.Pub)})
	}
	return out
}

// RootChangeDocs are the differences of two roots.
func RootChangeDocs(list []trust.RootChange) []control.RootChange {
	out := []control.RootChange{}
	for _, c := range list {
		out = append(out, control.RootChange{What: c.What, Before: c.Before, After: c.After})
	}
	return out
}

// Root implements control.Rooter.
func (d *Daemon) Root(context.Context) (*control.Root, error) {
	st, now := d.store.Current(), d.trustNow()
	c := RootDoc(st.Root())
	own := d.signer()
	for i := range c.Issuers {
		is, doc := &st.Root().Issuers[i], &c.Issuers[i]
		doc.Entries, _, _ = st.Position(is.ID)
		doc.Here = own != nil && own.Public() == is.ID
		if is.Cutoff == nil && !is.Works(now) {
			doc.State = "ended"
		}
		if e, ok := st.EvidenceOf(is.ID); ok {
			doc.Evidence, doc.State = &control.Evidence{Seq: e.Seq, Hashes: entryHashes(e, st.Mesh())}, "contradicts itself"
		}
	}
	for _, r := range st.RootFork() {
		c.Pending = append(c.Pending, control.RootFork{
			Hash: r.Hash().String(), Version: r.Version, Issued: time.Unix(r.Issued, 0).UTC(), Changes: RootChangeDocs(r.Changes(st.Root())),
		})
	}
	c.Warnings = d.rootWarnings(st, now)
	return c, nil
}

func entryHashes(e trust.Evidence, mesh keys.MeshID) (out []string) {
	for _, raw := range [][]byte{e.A, e.B} {
		if x, err := trust.ParseEntry(raw, mesh); err == nil {
			out = append(out, x.Hash().String())
		}
	}
	return out
}

// rootWarnings are what only somebody with root keys can settle.
func (d *Daemon) rootWarnings(st *trust.State, now int64) []control.Warning {
	var out []control.Warning
	warn := func(code, next, format string, args ...any) {
		out = append(out, control.Warning{Code: code, Text: fmt.Sprintf(format, args...), Next: next})
	}
	if forks := st.RootFork(); len(forks) > 0 {
		warn("root-fork", "meshkey root show, then on every machine: meshkey root accept HASH",
			"%d valid roots contradict each other as the next one, so none of them holds: root keys were used twice, or stolen", len(forks))
	}
	can := trust.Caps(0)
	for i := range st.Root().Issuers {
		is := &st.Root().Issuers[i]
		if is.Works(now) {
			can |= is.Caps
		}
		if e, ok := st.EvidenceOf(is.ID); ok {
			warn("issuer-fork", fmt.Sprintf("meshkey root issuer cutoff %s --at %d", is.Name, e.Seq-1),
				"issuer %s has signed two entries with the number %d: its key is in use twice, perhaps stolen; it can only revoke and ungrant until it is cut off", is.Name, e.Seq)
		}
		if left := is.NotAfter - now; is.Cutoff == nil && left < int64(expiryWarning/time.Second) {
			text := "ends in " + days(time.Duration(max(left, 0))*time.Second)
			if left <= 0 {
				text = "has ended"
			}
			warn("issuer-expires", "meshkey root issuer extend "+is.Name+", or a new key: meshkey keys new issuer", "the issuer key of %s %s", is.Name, text)
		}
	}
	if own := d.signer(); own != nil {
		if _, listed := st.Root().Issuer(own.Public()); !listed {
			warn("issuer-unnamed", "where a root key is: meshkey root issuer add FILE; the line for FILE is printed by: meshkey keys new issuer",
				"this machine has an issuer's key that the root does not name yet")
		}
	}
	if !can.Has(trust.CapEnroll | trust.CapRevoke) {
		warn("no-issuer", "meshkey keys new issuer, then meshkey root issuer add", "no issuer is left that can both enrol and revoke")
	}
	return out
}

// RootChain implements control.Rooter.
func (d *Daemon) RootChain(context.Context) (*control.RootChain, error) {
	return &control.RootChain{Text: string(d.store.Current().EncodeChain())}, nil
}

// RootError gives an error of package trust about a root its code and its next step.
func RootError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, trust.ErrInvalid): // first: what does not verify may have been refused for any reason
		return control.Errorf(control.Unverified, "get the file again from who made it, or make the change again", "%w", err)
	case errors.Is(err, trust.ErrHave):
		return control.Errorf(control.Failed, "meshkey root show", "this root holds already: %w", err)
	case errors.Is(err, trust.ErrRootFork):
		return control.Errorf(control.Failed, "meshkey root show, then on every machine: meshkey root accept HASH", "%w", err)
	case errors.Is(err, trust.ErrTooFew):
		return control.Errorf(control.Waiting, "each further holder of a root key: meshkey root sign FILE", "%w", err)
	case errors.Is(err, trust.ErrVoid):
		return control.Errorf(control.Unverified, "make the change again on the root that holds: meshkey root show", "the proposal is too old: %w", err)
	case errors.Is(err, trust.ErrGap):
		return control.Errorf(control.Unverified, "wait until this node has caught up (meshkey status), or accept the roots before it first", "a root before it is missing: %w", err)
	case errors.Is(err, trust.ErrNotRootKey), errors.Is(err, trust.ErrSigned):
		return control.Errorf(control.Failed, "meshkey root show FILE", "%w", err)
	case errors.Is(err, trust.ErrOtherProposal):
		return control.Errorf(control.Usage, "meshkey root show FILE", "%w", err)
	case errors.Is(err, trust.ErrNoSuch):
		return control.Errorf(control.NotFound, "meshkey root show", "%w", err)
	}
	return err
}

// AcceptRoot implements control.Rooter. The record is durable before the root holds.
func (d *Daemon) AcceptRoot(ctx context.Context, by control.Caller, r *control.AcceptRootRequest) (*control.AcceptRootResult, error) {
	res, c, err := d.acceptRoot(by, r)
	if err != nil {
		return nil, err
	}
	res.Spread = d.spread(ctx, c, r.WaitMS)
	return res, nil
}

func (d *Daemon) acceptRoot(by control.Caller, r *control.AcceptRootRequest) (*control.AcceptRootResult, trust.Change, error) {
	d.issuing.Lock() // so that what is told of cutoffs is true: nothing of this host's issuer comes between
	defer d.issuing.Unlock()
	var c trust.Change
	st := d.store.Current()
	next, err := acceptable(st, r)
	if err != nil {
		return nil, c, RootError(err)
	}
	res := &control.AcceptRootResult{
		Version: next.Version, Hash: next.Hash().String(), Changes: RootChangeDocs(next.Changes(st.Root())), Voided: d.cutsOf(st, next),
	}
	if err := d.record(by, audit.Event{
		Code: audit.RootAccept, Target: d.meshID.String(), Before: fmt.Sprintf("%d %s", st.Root().Version, st.Root().Hash()),
		After: fmt.Sprintf("%d %s", next.Version, next.Hash()),
	}); err != nil {
		return nil, c, err
	}
	if r.Hash != "" {
		c, err = d.store.AcceptRoot(next.Hash())
	} else {
		c, err = d.store.TakeRoot(r.Root)
	}
	if c.Kind == 0 {
		return nil, c, RootError(err)
	}
	if err != nil {
		res.Warnings = append(res.Warnings, control.Warning{
			Code: "trust-unwritten", Text: "the root holds, but is not on disk yet: " + err.Error(), Next: "make room or repair the disk; it is written by itself then",
		})
	}
	d.node.Publish(c)
	if r.Hash != "" {
		res.Warnings = append(res.Warnings, control.Warning{
			Code: "root-fork-elsewhere", Text: "each machine follows its own operator in this", Next: "on every other machine too: meshkey root accept " + res.Hash,
		})
	}
	for _, v := range res.Voided.Removals {
		res.Warnings = append(res.Warnings, control.Warning{Code: "removal-undone", Text: v.Text + " is undone by the cutoff", Next: "make it again if it is still wanted"})
	}
	return res, c, nil
}

// acceptable finds or checks the root that is asked for.
func acceptable(st *trust.State, r *control.AcceptRootRequest) (*trust.Root, error) {
	if r.Hash == "" {
		return st.CheckNext(r.Root)
	}
	hash, err := hex.DecodeString(r.Hash)
	if err != nil {
		return nil, err
	}
	for _, p := range st.RootFork() {
		if h := p.Hash(); string(h[:]) == string(hash) {
			return p, nil
		}
	}
	return nil, control.Errorf(control.NotFound, "meshkey root show", "no root with the hash %s waits to be chosen", r.Hash)
}

// cutsOf is what the new cutoffs of a root take back.
func (d *Daemon) cutsOf(st *trust.State, next *trust.Root) (v control.Voided) {
	for i := range next.Issuers {
		is := &next.Issuers[i]
		old, known := st.Root().Issuer(is.ID)
		if is.Cutoff == nil || known && old.Cutoff != nil && *old.Cutoff == *is.Cutoff {
			continue
		}
		one := d.voided(st.Voided(is.ID, is.Cutoff.Seq))
		v.Removals, v.Members, v.Grants = append(v.Removals, one.Removals...), append(v.Members, one.Members...), append(v.Grants, one.Grants...)
	}
	return v
}

func (d *Daemon) voided(v trust.Voided) (c control.Voided) {
	for _, o := range v.Removals {
		c.Removals = append(c.Removals, d.removalDoc(o))
	}
	for _, m := range v.Members {
		c.Members = append(c.Members, control.NodeRef{Name: m.Name, ID: m.Node.Compact()})
	}
	for _, g := range v.Grants {
		c.Grants = append(c.Grants, d.grantDoc(g, d.trustNow()))
	}
	return c
}

func (d *Daemon) removalDoc(o trust.Op) control.Removal {
	switch o := o.(type) {
	case trust.OpRevokeNode:
		return control.Removal{ID: o.Node.Compact(), Text: "the revocation of " + d.word(o.Node)}
	case trust.OpRevokeCert:
		id := fmt.Sprintf("cert-%d.%s", o.Serial, o.Issuer.String()[:8])
		return control.Removal{ID: id, Text: "the revocation of certificate " + id}
	case trust.OpUngrant:
		ref := trust.GrantRef{Issuer: o.Issuer, GID: o.GID}
		id := d.grantID(ref)
		text := "the ungrant of " + id
		if g, ok := d.store.Current().Grant(ref); ok {
			text += " " + d.text(g.Who) + " -> " + d.what(g.What)
		}
		return control.Removal{ID: id, Text: text}
	}
	return control.Removal{ID: "?", Text: "a removal"}
}

// CutIssuer implements control.Rooter: what would be lost is repeated by this host's issuer, durably, before a root with the cutoff
// exists at all. If we crash in between, the removals stand twice, which is the same as once.
func (d *Daemon) CutIssuer(ctx context.Context, by control.Caller, r *control.CutIssuerRequest) (*control.CutIssuerResult, error) {
	res, last, err := d.cutIssuer(by, r)
	if err != nil {
		return nil, err
	}
	if res.Repeated > 0 {
		res.Spread = d.spread(ctx, last, r.WaitMS)
	}
	return res, nil
}

func (d *Daemon) cutIssuer(by control.Caller, r *control.CutIssuerRequest) (*control.CutIssuerResult, trust.Change, error) {
	d.issuing.Lock()
	defer d.issuing.Unlock()
	var last trust.Change
	st := d.store.Current()
	is, err := st.Root().FindIssuer(r.Issuer)
	if err != nil {
		return nil, last, RootError(err)
	}
	held, _, _ := st.Position(is.ID)
	at := held
	if e, ok := st.EvidenceOf(is.ID); ok {
		at = min(at, e.Seq-1) // up to there both branches are one
	}
	if is.Cutoff != nil {
		at = is.Cutoff.Seq
	}
	if r.At != nil {
		at = *r.At
	}
	hash, ok := st.HashAt(is.ID, at)
	if !ok {
		return nil, last, control.Errorf(control.NotFound, "meshkey root show", "this node holds %d entries of issuer %s, so it cannot name entry %d", held, is.Name, at)
	}
	if is.Cutoff != nil && at >= is.Cutoff.Seq {
		return nil, last, control.Errorf(control.Failed, "meshkey root show", "issuer %s is cut off after entry %d already, and a cutoff is never raised", is.Name, is.Cutoff.Seq)
	}
	v := st.Voided(is.ID, at)
	res := &control.CutIssuerResult{
		Name: is.Name, Key: keyText(is.ID), Cutoff: control.Cutoff{Seq: at, Hash: hash.String()}, Voided: d.voided(v), DryRun: r.DryRun,
	}
	own := d.signer()
	if own != nil && own.Public() != is.ID {
		if mine, ok := st.Root().Issuer(own.Public()); ok && mine.Works(d.trustNow()) {
			res.Here = keyText(own.Public())
		}
	}
	var repeat []trust.Op
	for i, o := range v.Removals {
		if !r.NoRepeat && !slices.Contains(r.Drop, res.Voided.Removals[i].ID) {
			repeat = append(repeat, o)
		}
	}
	if len(repeat) > 0 && res.Here == "" {
		return nil, last, control.Errorf(control.Denied, "run it on the machine of another issuer, name what to let go with --drop ID, or let all of it go with --no-repeat",
			"the cutoff would undo %d revocations and ungrants, and this node is no other issuer that could repeat them first; the first is %s", len(repeat), d.removalDoc(repeat[0]).Text)
	}
	if r.DryRun {
		return res, last, nil
	}
	for _, ops := range trust.RepeatOps(repeat) {
		if err := d.removalRecord(by, audit.Event{
			Code: audit.EntryApply, Target: is.Name, Reason: fmt.Sprintf("%d removals of issuer %s repeated before its cutoff", len(ops), is.Name),
		}); err != nil {
			return nil, last, err
		}
		if last, err = d.append(ops...); err != nil {
			return nil, last, err
		}
		res.Repeated += len(ops)
	}
	return res, last, nil
}

package daemon

import (
	"context"
	"strings"
	"time"

	"github.com/sovereignmesh/meshkey/audit"
	"github.com/sovereignmesh/meshkey/control"
	"github.com/sovereignmesh/meshkey/internal/durable"
	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/trust"
)

// auditNames turns a name in a filter into what the log may hold for it: the text itself, and the ids of all keys that ever had the name, for
// the log keeps what a machine did before it was revoked or changed its key. The beginning of an id stands for every id that begins so.
func auditNames(st *trust.State, s string) []string {
	if s == "" {
		return nil
	}
	out := []string{s}
	who, rest := s, ""
	if i := strings.IndexByte(s, '/'); i >= 0 {
		who, rest = s[:i], s[i:]
	}
	ids := st.EverNamed(who)
	if p, err := keys.ParseNodePrefix(who); err == nil {
		ids = append(ids, st.ByPrefix(p)...)
	}
	for _, id := range ids {
		out = append(out, id.Compact()+rest)
	}
	return out
}

func auditRecord(st *trust.State, r audit.Record) control.AuditRecord {
	c := control.AuditRecord{Index: r.Index}
	if r.Err != nil {
		c.Code, c.Reason = "unreadable", r.Err.Error()
		return c
	}
	e := r.Event
	c.Time, c.Code, c.Verdict, c.Reason, c.Grant, c.Session = e.Time.UTC(), string(e.Code), e.Verdict.String(), e.Reason, e.Grant, e.Session
	c.Actor, c.Target = known(st, e.Actor), known(st, e.Target)
	c.Bytes, c.DurationMS = e.Bytes, e.Duration.Milliseconds()
	c.Before, c.After, c.Count = e.Before, e.After, e.Count
	return c
}

// known writes a node id of the log as the name of its member, or as the name it had and the beginning of the id if it is none any more.
func known(st *trust.State, s string) string {
	id, rest := s, ""
	if i := strings.IndexByte(s, '/'); i >= 0 {
		id, rest = s[:i], s[i:]
	}
	n, err := keys.ParseNodeID(id)
	if err != nil {
		return s
	}
	return knownAs(st, n) + rest
}

// knownAs names a node also when it is no member any more: then its name may be another one's.
func knownAs(st *trust.State, n keys.NodeID) string {
	name, ok := st.NameOf(n)
	if !ok {
		return n.Compact()
	}
	if _, member := st.Member(n); !member {
		return name + " (" + shortID(n) + ")"
	}
	return name
}

// shortID is the beginning of an id, as tables show it.
func shortID(n keys.NodeID) string {
	group, _, _ := strings.Cut(n.Compact(), ".")
	return group
}

// Entry implements control.Auditor.
func (d *Daemon) Entry(_ context.Context, index uint64) (*control.AuditEntry, error) {
	rs, err := d.audit.Read(index, 1)
	if err != nil {
		return nil, err
	}
	if len(rs) == 0 {
		return nil, control.Errorf(control.NotFound, "meshkey audit log", "the log has no entry %d, it has %d", index, d.audit.Size())
	}
	leaf, err := d.audit.Leaf(index)
	if err != nil {
		return nil, err
	}
	return &control.AuditEntry{Log: d.audit.Origin(), Record: auditRecord(d.store.Current(), rs[0]), Leaf: leaf, Hash: rs[0].Hash.String()}, nil
}

// Verify implements control.Auditor.
func (d *Daemon) Verify(context.Context) (*control.AuditReport, error) {
	if err := d.audit.Flush(); err != nil {
		d.log.Warn("verifying a log that is not wholly written", "err", err)
	}
	fsys, err := durable.View(d.dir.file(dirAudit))
	if err != nil {
		return nil, err
	}
	defer closeFS(fsys)
	return verifyReport(fsys, d.key.NodeID(), d.meshID)
}

// VerifyAudit verifies the audit log of a state directory, or of a copy of one, without a daemon and without any secret key.
func VerifyAudit(dir string) (*control.AuditReport, error) {
	root, err := durable.View(dir)
	if err != nil {
		return nil, err
	}
	defer closeFS(root)
	d := &stateDir{path: dir, fs: root}
	m, cert, err := d.readMember()
	if err != nil {
		return nil, err
	}
	fsys, err := durable.View(d.file(dirAudit))
	if err != nil {
		return nil, err
	}
	defer closeFS(fsys)
	r, err := verifyReport(fsys, cert.Node, m.Mesh)
	if r != nil {
		r.StateDir = dir
	}
	return r, err
}

func closeFS(f durable.FS) {
	if c, ok := f.(interface{ Close() error }); ok {
		_ = c.Close()
	}
}

// verifyReport verifies a node's log and those of the keys it had before.
func verifyReport(fsys durable.FS, node keys.NodeID, mesh keys.MeshID) (*control.AuditReport, error) {
	began := time.Now()
	all, err := audit.VerifyChain(fsys, node, mesh)
	if err != nil {
		return nil, err
	}
	r := all[0]
	c := &control.AuditReport{
		Log: r.Origin, OK: true, Size: r.Size, Signed: r.Signed, Checkpoint: r.Checkpoint.Time, Unwitnessed: true, Gaps: r.Gaps,
		Recoveries: r.Recoveries,
	}
	for i, r := range all {
		c.OK, c.More = c.OK && r.OK(), c.More+r.More
		log := ""
		if i > 0 {
			log = r.Origin
			c.Before = append(c.Before, control.AuditBefore{Log: log, Size: r.Size, OK: r.OK()})
		}
		for _, p := range r.Problems {
			c.Findings = append(c.Findings, control.AuditFinding{Log: log, Kind: string(p.Kind), First: p.First, Last: p.Last, File: p.File, Text: p.Detail})
		}
		if f := r.Follows; f != nil && f.State != "" {
			c.Before = append(c.Before, control.AuditBefore{Log: audit.Origin(mesh, f.Node), State: f.State})
		}
	}
	c.DurationMS = time.Since(began).Milliseconds()
	return c, nil
}

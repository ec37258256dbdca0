package daemon

import (
	"context"
	"errors"
	"io/fs"
	"iter"
	"strconv"

	"github.com/sovereignmesh/meshkey/audit"
	"github.com/sovereignmesh/meshkey/control"
	"github.com/sovereignmesh/meshkey/internal/durable"
	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/trust"
)

// queried is a log that can be asked: the one the daemon writes, or one that is only read.
type queried interface {
	Origin() string
	Size() uint64
	Query(context.Context, audit.Filter) iter.Seq2[audit.Record, error]
}

// auditPage asks a log, with the names of a state.
func auditPage(ctx context.Context, l queried, st *trust.State, q control.AuditQuery) (*control.AuditPage, error) {
	f := audit.Filter{
		From: q.From, Since: q.Since, Until: q.Until, Code: q.Code,
		Actors: auditNames(st, q.Actor), Targets: auditNames(st, q.Target),
		Newest: q.Last, Limit: q.Limit,
	}
	f.Service = ownService(l.Origin(), f.Targets)
	if q.Verdict != "" {
		v, ok := audit.ParseVerdict(q.Verdict)
		if !ok {
			return nil, control.Errorf(control.Usage, "", "verdict is allowed, denied or failed, not %q", q.Verdict)
		}
		f.Verdict = v
	}
	page := &control.AuditPage{Log: l.Origin(), Size: l.Size(), Records: []control.AuditRecord{}}
	for r, err := range l.Query(ctx, f) {
		if err != nil {
			return nil, err
		}
		page.Records = append(page.Records, auditRecord(st, r))
	}
	if q.Last {
		for i, j := 0, len(page.Records)-1; i < j; i, j = i+1, j-1 {
			page.Records[i], page.Records[j] = page.Records[j], page.Records[i]
		}
	} else if len(page.Records) == q.Limit && q.Limit > 0 {
		page.Next = page.Records[len(page.Records)-1].Index + 1
	}
	return page, nil
}

// earlier opens the log that is asked for: by how many rotations ago its key was in use, or by that key's id or its beginning.
func earlier(fsys durable.FS, node keys.NodeID, mesh keys.MeshID, which string) (*audit.Reader, error) {
	var picked func(int, keys.NodeID) bool
	if back, err := strconv.ParseUint(which, 10, 16); err == nil && len(which) <= 3 {
		picked = func(b int, _ keys.NodeID) bool { return uint64(b) == back }
	} else {
		p, err := keys.ParseNodePrefix(which)
		if err != nil {
			return nil, control.Errorf(control.Usage, "meshkey audit verify lists them", "%q is no earlier key: write 1 for the one before the last rotation, 2 for the one before that, or its id", which)
		}
		picked = func(_ int, id keys.NodeID) bool { return p.Matches(id) }
	}
	r, err := audit.Earlier(fsys, node, mesh, picked)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, control.Errorf(control.NotFound, "meshkey audit verify lists those there are", "this node has no audit log of the earlier key %q", which)
	}
	return r, err
}

// Log implements control.Auditor.
func (d *Daemon) Log(ctx context.Context, q control.AuditQuery) (*control.AuditPage, error) {
	if q.Log == "" {
		return auditPage(ctx, d.audit, d.store.Current(), q)
	}
	fsys, err := durable.View(d.dir.file(dirAudit))
	if err != nil {
		return nil, err
	}
	defer closeFS(fsys)
	if err := d.audit.Flush(); err != nil {
		d.log.Warn("reading a log that is not wholly written", "err", err)
	}
	r, err := earlier(fsys, d.key.NodeID(), d.meshID, q.Log)
	if err != nil {
		return nil, err
	}
	return auditPage(ctx, r, d.store.Current(), q)
}

// LogReader reads the audit logs of a state directory, or of a copy of one, without a daemon and without any secret key.
type LogReader struct {
	root, logs durable.FS
	node       keys.NodeID
	mesh       keys.MeshID
	state      *trust.State
	// Nameless is why ids are shown in place of names; nil: they are not.
	Nameless error
}

// OpenLogs opens the logs of a state directory for reading.
func OpenLogs(dir string) (*LogReader, error) {
	root, err := durable.View(dir)
	if err != nil {
		return nil, err
	}
	d := &stateDir{path: dir, fs: root}
	l := &LogReader{root: root}
	m, cert, err := d.readMember()
	if err != nil {
		l.Close()
		return nil, err
	}
	l.node, l.mesh = cert.Node, m.Mesh
	if l.logs, err = durable.View(d.file(dirAudit)); err != nil {
		l.Close()
		return nil, err
	}
	if l.state, l.Nameless = readState(d.file(dirTrust), m.Mesh); l.Nameless != nil {
		l.state = &trust.State{}
	}
	return l, nil
}

func readState(dir string, mesh keys.MeshID) (*trust.State, error) {
	fsys, err := durable.View(dir)
	if err != nil {
		return nil, err
	}
	defer closeFS(fsys)
	return trust.ReadState(fsys, mesh)
}

// Log answers as a daemon does.
func (l *LogReader) Log(ctx context.Context, q control.AuditQuery) (*control.AuditPage, error) {
	which := q.Log
	if which == "" {
		which = "0"
	}
	r, err := earlier(l.logs, l.node, l.mesh, which)
	if err != nil {
		return nil, err
	}
	return auditPage(ctx, r, l.state, q)
}

// Close gives the files back.
func (l *LogReader) Close() {
	for _, f := range []durable.FS{l.logs, l.root} {
		if f != nil {
			closeFS(f)
		}
	}
}

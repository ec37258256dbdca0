package mesh

import (
	"strings"
	"testing"

	"github.com/sovereignmesh/meshkey/audit"
	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/trust"
)

// rejected are the records of what was put in quarantine.
func (h *host) rejected() (out []audit.Record) {
	rs, err := h.log.Read(0, 1000)
	ok(h.w.t, err)
	for _, r := range rs {
		if r.Event.Code == audit.EntryReject && strings.Contains(r.Event.Reason, "quarantine") {
			out = append(out, r)
		}
	}
	return out
}

// TestEntryThatPanicsApply is T-63: an entry on which apply of three of four nodes panics. No node ends, no session ends, the entry is
// named in their audit logs with what the panic said, a restart meets it again and is no crash loop, and a version without the bug takes
// it. Removals of it wait for that too: they are behind the bug.
func TestEntryThatPanicsApply(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	all := []*host{w.member("a"), w.member("b"), w.member("c"), w.member("d")}
	for _, h := range all {
		h.run()
	}
	for i, h := range all {
		for _, o := range all[:i] {
			full(h, o)
		}
	}
	var bad keys.Hash
	buggy := func(e *trust.Entry) {
		if e.Hash() == bad {
			panic("index out of range in a test")
		}
	}
	change := w.sign(trust.EnrollOp(w.certify(keys.NewSigningKey(), "poison")))
	bad = change.Entry.Hash()
	for _, h := range all[1:] {
		h.store.FailOn(buggy)
	}
	all[0].learn(change)
	quarantined := func(h *host, n int) {
		t.Helper()
		eventually(t, h.name+" has put it in quarantine", patience, func() bool { return len(h.rejected()) >= n })
		for _, r := range h.rejected() {
			if !strings.Contains(r.Event.Reason, "index out of range in a test") || !strings.HasPrefix(r.Event.Target, "entry ") {
				t.Errorf("%s: recorded %+v", h.name, r.Event)
			}
		}
	}
	together := func() {
		t.Helper()
		for i, h := range all {
			for _, o := range all[:i] {
				if h.link(o) == nil || o.link(h) == nil {
					t.Errorf("%s and %s have lost each other", h.name, o.name)
				}
			}
		}
	}
	for _, h := range all[1:] {
		quarantined(h, 1)
	}
	together()

	// A restart meets it again: the others send it.
	b := all[1]
	b.stop()
	b.open()
	b.store.FailOn(buggy)
	b.run()
	for _, o := range all {
		if o != b {
			full(b, o)
		}
	}
	quarantined(b, 2)
	together()

	// A version without the bug has it at once.
	d := all[3]
	d.stop()
	d.open()
	d.run()
	full(d, all[0])
	eventually(t, "the upgraded node holds all", patience, func() bool { return d.State().Digest() == all[0].State().Digest() })
}

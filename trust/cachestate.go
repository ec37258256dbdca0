package trust

import (
	"github.com/sovereignmesh/meshkey/internal/wire"
	"github.com/sovereignmesh/meshkey/keys"
)

// settled reports whether a state may be kept: one about which something is in doubt (a fork, a branch that is being looked for, ops of a
// later version) is computed from the log each time.
func (s *State) settled() bool {
	if len(s.pending) > 0 {
		return false
	}
	for _, c := range s.issuers {
		if c.evidence != nil || c.vouch != nil || c.upgrade > 0 {
			return false
		}
	}
	return true
}

// writeState writes a settled state, and where the entries are. What follows from the rest (names, grants by their left side, limits,
// cutoffs) is not written.
func writeState(w *cacheWriter, s *State, entries map[keys.PublicKey][]place) {
	w.uint(uint64(len(s.roots)))
	for _, r := range s.roots {
		w.text(string(r.raw))
	}
	w.uint(uint64(len(s.chosen)))
	for v := uint64(0); v <= s.Root().Version; v++ {
		if h, ok := s.chosen[v]; ok {
			w.uint(v)
			w.bytes(h[:])
		}
	}
	w.uint(uint64(len(s.pins)))
	for _, p := range s.pins {
		w.bytes(p.Issuer[:])
		w.uint(p.Seq)
		w.bytes(p.Hash[:])
	}
	sets := map[*[]string]uint64{}
	w.uint(uint64(s.tagSets.len()))
	for _, tags := range s.tagSets.all() {
		sets[tags] = uint64(len(sets))
		writeTags(w, *tags)
	}
	w.uint(uint64(len(s.issuers)))
	for _, c := range s.issuers {
		writeIssuer(w, c, entries[c.id])
	}
	w.uint(uint64(s.nodes.len()))
	for id, f := range s.nodes.all() {
		w.bytes(id[:])
		writeNode(w, f, sets)
	}
	w.uint(uint64(s.certs.len()))
	for k, list := range s.certs.all() {
		writeKey(w, k)
		writeRemovals(w, list)
	}
	w.uint(uint64(s.grants.len()))
	for k, f := range s.grants.all() {
		writeKey(w, k)
		w.uint(f.seq)
		if f.seq > 0 {
			w.uint(uint64(f.issuer))
			w.text(string(wire.MustMarshal(wireOp{f.op})))
		}
		writeRemovals(w, f.removals)
	}
}

func writeTags(w *cacheWriter, tags []string) {
	w.uint(uint64(len(tags)))
	for _, t := range tags {
		w.text(t)
	}
}

func writeKey(w *cacheWriter, k factKey) {
	w.bytes(k.issuer[:])
	w.uint(k.number)
}

func writeIssuer(w *cacheWriter, c *chain, at []place) {
	w.bytes(c.id[:])
	var flags uint64
	if c.pin != nil {
		flags |= 1
	}
	w.uint(flags)
	// frozen and trusted are of chains in doubt.
	n := 0
	for g := c.group; g != nil; g = g.next {
		n++
	}
	w.uint(uint64(n))
	for g := c.group; g != nil; g = g.next {
		w.uint(g.op.Generation)
		w.bytes(g.op.Commit[:])
		w.uint(g.seq)
		w.uint(g.rootVersion)
	}
	// Numbers and times never fall along a chain, and mostly not by much.
	w.uint(c.seq)
	var last link
	var frame uint64
	for i := range c.seq {
		l, _ := c.links.at(i)
		w.bytes(l.hash[:])
		w.uint(uint64(l.time - last.time))
		w.uint(l.rootVersion - last.rootVersion)
		w.uint(l.maxSerial - last.maxSerial)
		w.uint(l.maxGID - last.maxGID)
		w.int(int64(at[i].frame - frame))
		last, frame = l, at[i].frame
	}
}

func writeNode(w *cacheWriter, f nodeFacts, sets map[*[]string]uint64) {
	n := 0
	for x := f.enrolments; x != nil; x = x.next {
		n++
	}
	w.uint(uint64(n))
	name := ""
	for x := f.enrolments; x != nil; x = x.next {
		w.uint(uint64(x.issuer))
		w.uint(x.seq)
		w.uint(x.serial)
		w.bytes(x.cert[:])
		w.uint(uint64(x.notBefore))
		w.uint(uint64(x.notAfter - x.notBefore))
		w.uint(uint64(x.renewUntil))
		// An empty name is the one before.
		if x.name == name {
			w.text("")
		} else {
			w.text(x.name)
		}
		name = x.name
		// 0: no tags; 1: tags of its own; else a shared set.
		set, shared := sets[x.tags]
		switch {
		case x.tags == nil:
			w.uint(0)
		case shared:
			w.uint(set + 2)
		default:
			w.uint(1)
			writeTags(w, *x.tags)
		}
	}
	writeRemovals(w, f.removals())
	writeSuccessions(w, f.after())
	writeSuccessions(w, f.before())
}

func writeRemovals(w *cacheWriter, list []removal) {
	w.uint(uint64(len(list)))
	for _, r := range list {
		of := uint64(r.issuer) << 1
		if r.stray {
			of |= 1
		}
		w.uint(of)
		w.uint(r.seq)
		w.uint(r.reason)
		w.uint(uint64(r.time))
	}
}

func writeSuccessions(w *cacheWriter, list []succession) {
	w.uint(uint64(len(list)))
	for _, x := range list {
		w.bytes(x.node[:])
		w.uint(uint64(x.issuer))
		w.uint(x.seq)
	}
}

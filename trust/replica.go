package trust

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/keys"
)

// Change is something new that was applied: what others are sent, and what is made durable.
type Change struct {
	Frame
	Issuer keys.PublicKey // of an entry, a head, evidence
	Seq    uint64         // of an entry or evidence; of a root, its version
	Stray  bool           // an entry of a branch not held
	Entry  *Entry         // of an entry; must not be changed
}

// Log is what Sync works on: a State and the bytes behind it. Memory and Store implement it.
type Log interface {
	Current() *State
	// Entry returns the envelope of an entry of the chain held, or nil.
	Entry(issuer keys.PublicKey, seq uint64) []byte
	// ApplyEntry and ApplyFrame (ROOT, EVIDENCE, HEAD) apply what a peer sent. A contradiction comes back as a change of kind
	// EVIDENCE. A Change of kind 0 is nothing to pass on. Errors are those of State.
	ApplyEntry(e *Entry, now int64) (Change, error)
	ApplyFrame(f Frame, now int64) (Change, error)
}

// replica is a State with the bytes behind it. It is not safe for concurrent use.
type replica struct {
	state      *State
	entries    map[keys.PublicKey][]*record // index is seq − 1; as long as the chain, or longer
	quarantine map[keys.Hash]bool
	read       func(*record) []byte
	again      func() // applies everything stored once more, after a root fork took things back

	// testApply, if set, runs in place of the real application: for the test that it may fail.
	testApply func(*Entry)
}

// record is an envelope in memory, or its frame in the durable log.
type record struct {
	raw   []byte
	frame uint64
}

func newReplica(s *State) replica {
	return replica{state: s, entries: map[keys.PublicKey][]*record{}, quarantine: map[keys.Hash]bool{}}
}

func (r *replica) entry(issuer keys.PublicKey, seq uint64) []byte {
	held, _, ok := r.state.Position(issuer)
	list := r.entries[issuer]
	if !ok || seq == 0 || seq > held || seq > uint64(len(list)) {
		return nil
	}
	rec := list[seq-1]
	if rec.raw != nil {
		return rec.raw
	}
	if r.read == nil {
		return nil // while the log is replayed
	}
	return r.read(rec)
}

// applyEntry applies an entry and remembers where its bytes are.
func (r *replica) applyEntry(e *Entry) (Change, *record, error) {
	if r.quarantine[e.hash] {
		return Change{}, nil, fmt.Errorf("entry: %w", ErrQuarantined)
	}
	n, done, err := r.tryEntry(e)
	if fork, ok := errors.AsType[*ForkError](err); ok {
		mine := r.entry(fork.Issuer, fork.Seq)
		if mine == nil {
			return Change{}, nil, err
		}
		c, err := r.evidence(mine, e.raw)
		return c, nil, err
	}
	if err != nil {
		return Change{}, nil, err
	}
	r.state = n
	if done.Vouched {
		return Change{Issuer: e.Issuer, Seq: e.Seq}, nil, nil
	}
	c := Change{Frame: rawFrame(KindEntry, e.raw), Issuer: e.Issuer, Seq: e.Seq, Stray: done.Stray, Entry: e}
	c.Urgent = e.removes()
	rec := &record{raw: e.raw}
	if !done.Stray {
		r.hold(e.Issuer, e.Seq, rec)
	}
	return c, rec, nil
}

// hold remembers where an entry of the chain is. The chain may have been cut back before: what stood behind is gone.
func (r *replica) hold(issuer keys.PublicKey, seq uint64, rec *record) {
	r.entries[issuer] = append(r.entries[issuer][:seq-1:seq-1], rec)
}

// tryEntry applies an entry. If that makes this program fail, the entry is put aside and the state stays: one entry must not take
// all nodes down again and again.
func (r *replica) tryEntry(e *Entry) (n *State, done Applied, err error) {
	defer func() {
		if p := recover(); p != nil {
			if len(r.quarantine) < maxQuarantine {
				r.quarantine[e.hash] = true
			}
			n, done, err = nil, Applied{}, fmt.Errorf("entry %d of %s: %w: %v", e.Seq, e.Issuer.String()[:16], ErrQuarantined, p)
		}
	}()
	if r.testApply != nil {
		r.testApply(e)
	}
	return r.state.applyEntry(e)
}

func (r *replica) evidence(a, b []byte) (Change, error) {
	e, err := ParseEntry(a, r.state.mesh)
	if err != nil {
		return Change{}, invalid(err)
	}
	n, err := r.state.AddEvidence(a, b)
	if err != nil {
		return Change{}, err
	}
	r.state = n
	f := frameOf(KindEvidence, evidenceWire{Kind: KindEvidence, A: a, B: b})
	f.Urgent = true
	return Change{Frame: f, Issuer: e.Issuer, Seq: e.Seq}, nil
}

func (r *replica) root(raw []byte) (Change, error) {
	before := len(r.state.pending)
	n, err := r.state.ApplyRoot(raw)
	if err != nil {
		return Change{}, err
	}
	r.state = n
	if len(n.pending) > before {
		r.again()
	}
	return rootChange(&Root{raw: raw, Version: n.Root().Version}), nil
}

func rootChange(r *Root) Change {
	c := Change{Frame: rawFrame(KindRoot, r.raw), Seq: r.Version}
	c.Urgent = true
	return c
}

func (r *replica) head(raw []byte, now int64) (Change, error) {
	h, err := ParseHead(raw, r.state.mesh)
	if err != nil {
		return Change{}, invalid(err)
	}
	n, err := r.state.ApplyHead(raw, now)
	if err != nil {
		return Change{}, err
	}
	r.state = n
	return Change{Frame: rawFrame(KindHead, raw), Issuer: h.Issuer, Seq: h.Seq}, nil
}

// applyFrame applies a ROOT, EVIDENCE or HEAD.
func (r *replica) applyFrame(f Frame, now int64) (Change, error) {
	switch f.Kind {
	case KindRoot:
		raw, err := parseRaw(f.Body, KindRoot, MaxRoot)
		if err != nil {
			return Change{}, invalid(err)
		}
		return r.root(raw)
	case KindEvidence:
		w, err := parseEvidence(f.Body)
		if err != nil {
			return Change{}, invalid(err)
		}
		return r.evidence(w.A, w.B)
	case KindHead:
		raw, err := parseRaw(f.Body, KindHead, MaxHead)
		if err != nil {
			return Change{}, invalid(err)
		}
		return r.head(raw, now)
	}
	return Change{}, invalidf("frame: nothing to apply")
}

// Memory is a Log without a disk: for a newcomer that has no state directory yet, for simulations and for tests. It is not safe for
// concurrent use.
type Memory struct {
	replica
	history []Frame // everything applied, in order
	shared  *Shared // nil: nothing is shared
}

// NewMemory begins with a genesis root. pins are the heads of an invite; none for a founder.
func NewMemory(genesis []byte, pins []identity.IssuerHead) (*Memory, error) {
	s, err := Genesis(genesis)
	if err != nil {
		return nil, err
	}
	m := &Memory{replica: newReplica(s.WithPins(pins))}
	m.again = m.replay
	return m, nil
}

// replay applies everything once more; what is held or void fails silently.
func (m *Memory) replay() {
	for _, f := range m.history {
		if f.Kind == KindEntry {
			if raw, err := parseRaw(f.Body, KindEntry, MaxEntry); err == nil {
				if e, err := ParseEntry(raw, m.state.mesh); err == nil {
					_, _, _ = m.applyEntry(e)
				}
			}
			continue
		}
		if f.Kind == KindEvidence {
			_, _ = m.applyFrame(f, 0)
		}
	}
}

// Current implements Log.
func (m *Memory) Current() *State { return m.state }

// Entry implements Log.
func (m *Memory) Entry(issuer keys.PublicKey, seq uint64) []byte { return m.entry(issuer, seq) }

func (m *Memory) note(c Change) {
	if c.Kind != 0 && c.Kind != KindHead {
		m.history = append(m.history, c.Frame)
	}
}

// Clone returns a log that holds the same and shares everything that does not change: ten thousand of them cost little more than one.
func (m *Memory) Clone() *Memory {
	c := &Memory{replica: newReplica(m.state), history: slices.Clip(m.history), shared: m.shared}
	for id, list := range m.entries {
		c.entries[id] = slices.Clip(list)
	}
	c.quarantine = maps.Clone(m.quarantine)
	c.again = c.replay
	return c
}

// AppendOwn signs the next entry of an issuer's chain and applies it.
func (m *Memory) AppendOwn(issuer *keys.SigningKey, now int64, ops ...Op) (Change, error) {
	e, err := m.state.nextEntry(issuer, now, ops)
	if err != nil {
		return Change{}, err
	}
	return m.ApplyEntry(e, now)
}

// History returns everything applied, in order: what a new Store is filled with.
func (m *Memory) History() []Frame { return slices.Clone(m.history) }

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
	entries    map[keys.PublicKey][]place // index is seq − 1; as long as the chain, or longer
	quarantine quarantine
	read       func(frame uint64) []byte
	again      func() // applies everything stored once more, after a root fork took things back

	// testApply and testFrame, if set, run before the real application: for the tests that it may fail.
	testApply func(*Entry)
	testFrame func(Frame)
}

// record is an envelope in memory.
type record struct{ raw []byte }

// place is where an entry's bytes are: in memory, or if rec is nil in a frame of the durable log.
type place struct {
	rec   *record
	frame uint64
}

func newReplica(s *State) replica {
	return replica{state: s, entries: map[keys.PublicKey][]place{}}
}

func (r *replica) entry(issuer keys.PublicKey, seq uint64) []byte {
	held, _, ok := r.state.Position(issuer)
	list := r.entries[issuer]
	if !ok || seq == 0 || seq > held || seq > uint64(len(list)) {
		return nil
	}
	at := list[seq-1]
	if at.rec != nil {
		return at.rec.raw
	}
	if r.read == nil {
		return nil // while the log is replayed
	}
	return r.read(at.frame)
}

// applyEntry applies an entry and remembers where its bytes are.
func (r *replica) applyEntry(e *Entry) (Change, *record, error) {
	if r.quarantine.has(e.hash) {
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
// A list may share its memory with a clone's, so nothing in it is written over.
func (r *replica) hold(issuer keys.PublicKey, seq uint64, rec *record) {
	list := r.entries[issuer]
	if seq-1 < uint64(len(list)) {
		list = list[: seq-1 : seq-1]
	}
	r.entries[issuer] = append(list, place{rec: rec})
}

// stored notes that the durable log has an entry that was held in rec, if it still stands there.
func (r *replica) stored(issuer keys.PublicKey, seq uint64, rec *record, frame uint64) {
	if list := r.entries[issuer]; seq > 0 && seq <= uint64(len(list)) && list[seq-1].rec == rec {
		list[seq-1] = place{frame: frame}
	}
}

// tryEntry applies an entry. If that makes this program fail, the entry is put aside and the state stays.
func (r *replica) tryEntry(e *Entry) (n *State, done Applied, err error) {
	defer r.quarantine.catch(Quarantined{Issuer: e.Issuer, Seq: e.Seq, Hash: e.hash}, &err)
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
func (r *replica) applyFrame(f Frame, now int64) (c Change, err error) {
	h := keys.Sum(f.Body)
	if r.quarantine.has(h) {
		return Change{}, fmt.Errorf("frame: %w", ErrQuarantined)
	}
	before := r.state
	defer func() {
		if err != nil {
			r.state = before
		}
	}()
	defer r.quarantine.catch(Quarantined{Hash: h}, &err)
	if r.testFrame != nil {
		r.testFrame(f)
	}
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
	c.quarantine = quarantine{set: maps.Clone(m.quarantine.set), list: slices.Clone(m.quarantine.list)}
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

package trust

import "github.com/sovereignmesh/meshkey/keys"

// Shared lets many logs of one process share their states: the first log verifies and applies, and every other one that holds the
// very same state takes what came of it. Ten thousand simulated nodes then cost one state and one verification an object. A daemon has
// one log and no use for it. It is not safe for concurrent use.
type Shared struct {
	done map[sharedKey]sharedResult
	hits uint64
}

// sharedKey is a state and the bytes applied to it: the whole envelope, for who has the payload need not have the signature.
type sharedKey struct {
	before *State
	kind   uint8
	bytes  keys.Hash
}

type sharedResult struct {
	after  *State
	change Change
	rec    *record
}

// NewShared returns one that remembers nothing yet.
func NewShared() *Shared { return &Shared{done: map[sharedKey]sharedResult{}} }

// Hits is how often a result was taken instead of made.
func (s *Shared) Hits() uint64 { return s.hits }

// find returns what came of applying these bytes to this state.
func (s *Shared) find(k sharedKey) (sharedResult, bool) {
	if s == nil {
		return sharedResult{}, false
	}
	r, ok := s.done[k]
	if ok {
		s.hits++
	}
	return r, ok
}

// keep remembers a result, and forgets all others when there are too many.
func (s *Shared) keep(k sharedKey, r sharedResult) {
	if s == nil {
		return
	}
	if len(s.done) >= maxShared {
		clear(s.done)
	}
	s.done[k] = r
}

// Share makes this log, and every one cloned from it, share states through s.
func (m *Memory) Share(s *Shared) { m.shared = s }

// ApplyEntry implements Log.
func (m *Memory) ApplyEntry(e *Entry, _ int64) (Change, error) {
	k := sharedKey{before: m.state, kind: KindEntry}
	if m.shared != nil {
		k.bytes = keys.Sum(e.raw)
	}
	if r, ok := m.shared.find(k); ok {
		m.state = r.after
		if r.rec != nil && !r.change.Stray {
			m.hold(r.change.Issuer, r.change.Seq, r.rec)
		}
		m.note(r.change)
		return r.change, nil
	}
	c, rec, err := m.applyEntry(e)
	if err == nil {
		m.shared.keep(k, sharedResult{m.state, c, rec})
	}
	m.note(c)
	return c, err
}

// ApplyFrame implements Log.
func (m *Memory) ApplyFrame(f Frame, now int64) (Change, error) {
	k := sharedKey{before: m.state, kind: f.Kind}
	if m.shared != nil {
		k.bytes = keys.Sum(f.Body)
	}
	if r, ok := m.shared.find(k); ok && !(f.Kind == KindHead && r.after.headFuture(r.change.Issuer, now)) {
		m.state = r.after
		m.note(r.change)
		return r.change, nil
	}
	c, err := m.applyFrame(f, now)
	// A contradicting root makes the log apply everything again, which is this log's own.
	if err == nil && len(m.state.pending) == 0 {
		m.shared.keep(k, sharedResult{m.state, c, nil})
	}
	m.note(c)
	return c, err
}

// headFuture reports whether the newest head of an issuer is from the future of a clock: then it does not count there.
func (s *State) headFuture(issuer keys.PublicKey, now int64) bool {
	h, _, ok := s.HeadOf(issuer)
	return ok && h.Time > now+clockSlack
}

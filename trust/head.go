package trust

import (
	"bytes"
	"fmt"

	"github.com/sovereignmesh/meshkey/keys"
)

// ApplyHead takes an issuer's head if it is newer than the one held. now is the local clock: a head from the future would hide
// a freeze for as long as it is ahead.
func (s *State) ApplyHead(raw []byte, now int64) (*State, error) {
	h, err := ParseHead(raw, s.mesh)
	if err != nil {
		return nil, invalid(err)
	}
	c, ok := s.chain(h.Issuer)
	named, held := s.RootAt(h.RootVersion)
	if !held {
		return nil, fmt.Errorf("head: root %d: %w", h.RootVersion, ErrGap)
	}
	then, listed := named.Issuer(h.Issuer)
	if !ok || !listed || !then.Caps.Has(CapHead) {
		return nil, invalidf("head: the signer may not sign heads")
	}
	if is, _ := s.Root().Issuer(h.Issuer); is.Cutoff != nil {
		return nil, fmt.Errorf("head: issuer cut off: %w", ErrVoid)
	}
	if h.Time > then.NotAfter {
		return nil, invalidf("head: after the issuer's not_after")
	}
	if h.Time > now+clockSlack {
		return nil, fmt.Errorf("head: %w", ErrFuture)
	}
	// One held from the future, by the clock of now, was signed or taken while a clock was wrong: it must not be in the way for ever.
	if c.head != nil && (h.Time <= c.head.Time && c.head.Time <= now+clockSlack || h.Seq < c.head.Seq) {
		return nil, fmt.Errorf("head: a newer one: %w", ErrHave)
	}
	if mine, ok := s.HashAt(h.Issuer, h.Seq); ok && mine != h.Hash {
		return nil, fmt.Errorf("head: %w", ErrBranch)
	}
	n := s.edit()
	whole := s.wholeHead(c)
	c = n.editChain(c)
	c.whole = whole
	c.head, c.headRaw = h, bytes.Clone(raw)
	return n, nil
}

// Staleness is how old the newest head is, for max_stale; without any, the root counts as one.
func (s *State) Staleness(now int64) int64 {
	newest := s.Root().Issued
	if newest > now+clockSlack {
		newest = 0
	}
	if t, ok := s.newestHead(now); ok {
		newest = max(newest, t)
	}
	return max(0, now-newest)
}

// newestHead is the time of the newest head whose chain is held; one from the future says nothing about now.
func (s *State) newestHead(now int64) (newest int64, ok bool) {
	for _, c := range s.issuers {
		if t := s.wholeHead(c); t > 0 && t <= now+clockSlack && (!ok || t > newest) {
			newest, ok = t, true
		}
	}
	return newest, ok
}

// wholeHead is the time of the newest head of a chain of which every entry up to it is held here. A head of a longer chain says that
// something is missing: whoever passes heads on and keeps the entries back must not make a view look fresh. 0: there was none.
func (s *State) wholeHead(c *chain) int64 {
	if c.head == nil {
		return 0
	}
	if hash, held := s.HashAt(c.id, c.head.Seq); held && hash == c.head.Hash {
		return c.head.Time
	}
	return c.whole
}

// View is how fresh this node's view of the mesh is known to be.
type View struct {
	Known     bool     // a head was seen, so Age says something
	Age       int64    // seconds since the newest head
	Signers   []string // names of the issuers that sign heads now, as far as the root goes
	LastEntry int64    // time of the newest entry held, 0: none; it says nothing about what is missing
	MaxStale  int64    // seconds, as the root wants it; 0: no limit
	Restrict  bool     // what is beyond the limit is restricted, not only warned about
	Stale     bool     // it is beyond the limit
}

// View describes the freshness of the state.
func (s *State) View(now int64) View {
	p := s.Root().Params
	v := View{MaxStale: p.MaxStale, Restrict: p.MaxStale > 0 && p.StaleAction == 1, Stale: p.MaxStale > 0 && s.Staleness(now) > p.MaxStale}
	if t, ok := s.newestHead(now); ok {
		v.Known, v.Age = true, max(0, now-t)
	}
	for i := range s.Root().Issuers {
		if is := &s.Root().Issuers[i]; is.Works(now) && is.Caps.Has(CapHead) {
			v.Signers = append(v.Signers, is.Name)
		}
	}
	for _, c := range s.issuers {
		v.LastEntry = max(v.LastEntry, c.time)
	}
	return v
}

// stale reports whether the root wants a view as old as this one to be restricted.
func (s *State) stale(now int64) bool {
	p := s.Root().Params
	return p.MaxStale > 0 && p.StaleAction == 1 && s.Staleness(now) > p.MaxStale
}

// NewHead signs a statement of how long the issuer's chain is now.
func (s *State) NewHead(issuer *keys.SigningKey, now int64) ([]byte, error) {
	is, ok := s.Root().Issuer(issuer.Public())
	if !ok || is.Cutoff != nil || now > is.NotAfter {
		return nil, ErrNotIssuer
	}
	if !is.Caps.Has(CapHead) {
		return nil, ErrNoRight
	}
	c, _ := s.chain(is.ID)
	h := Head{Mesh: s.mesh, Issuer: c.id, Seq: c.seq, Hash: c.hash, RootVersion: s.Root().Version, Time: now}
	return signHead(&h, issuer), nil
}

// SignHead signs a head of the issuer on this host and applies it, if the newest one of that issuer is at least every seconds old; a Change
// of kind 0 means that it is not. Unlike what others sign it lifts no time floor: this host's clock would vouch for itself.
func (s *Store) SignHead(issuer *keys.SigningKey, now, every int64) (Change, error) {
	s.own.Lock() // an own entry under way is in the head or after it, never half
	defer s.own.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if h, _, ok := s.rep.state.HeadOf(issuer.Public()); ok && now-h.Time < every && h.Time <= now+clockSlack {
		return Change{}, nil
	}
	raw, err := s.rep.state.NewHead(issuer, now)
	if err != nil {
		return Change{}, err
	}
	c, err := s.rep.head(raw, now)
	if err != nil {
		return Change{}, err
	}
	s.tookLocked(c, nil)
	return c, nil
}

package trust

import (
	"bytes"
	"slices"
	"time"

	"github.com/sovereignmesh/meshkey/keys"
)

// follow asks for the entries up to the lowest place vouched for, which show where the right branch leaves the one held.
func (s *Sync) follow(c *chain) {
	from := uint64(1)
	if c.vouch.Seq > wantSpan {
		from = c.vouch.Seq - wantSpan + 1
	}
	if c.vouch.Seq > 0 {
		put(&s.goals, c.id, goal{from: from, to: c.vouch.Seq, back: true})
	}
}

// busy reports whether something of a chain is being fetched.
func (s *Sync) busy(c *chain) bool {
	_, ok := s.goals[c.id]
	return ok || slices.ContainsFunc(s.wants, func(w *want) bool { return w.issuer == c.id })
}

// lacks reports whether a chain can grow to seq. A forked one is fetched by goals only: the peer may be on another branch.
func (s *Sync) lacks(c *chain, seq uint64) bool {
	if c.forked() || s.aside.of(c.id) == c.seq+1 {
		return false
	}
	if c.cutoff != nil {
		seq = min(seq, c.cutoff.Seq)
	}
	return seq > c.seq
}

// ask sends the WANTs that are due: as many as may be outstanding, each chain from one peer at a time.
func (s *Sync) ask(mono time.Duration) (out []Frame) {
	st := s.log.Current()
	for _, c := range st.issuers {
		if cl, ok := s.hub.claims[c.id]; ok && cl.by != s && cl.until > mono {
			continue
		}
		for len(s.wants) < maxWants {
			if !s.hub.tokens.take(mono, 0) || s.hub.tokens.level < wantSpan {
				return out // asked on at the next Tick
			}
			g, ok := s.nextGoal(c)
			if !ok {
				break
			}
			s.hub.tokens.take(mono, float64(g.to-g.from+1))
			s.wants = append(s.wants, &want{issuer: c.id, from: g.from, to: g.to, back: g.back, until: mono + wantTimeout})
			s.hub.claims[c.id] = claim{by: s, until: mono + wantTimeout}
			out = append(out, frameOf(KindWant, wantWire{Kind: KindWant, Issuer: c.id, From: g.from, To: g.to}))
		}
	}
	return out
}

// nextGoal returns the next range to ask for of a chain.
func (s *Sync) nextGoal(c *chain) (goal, bool) {
	last := c.seq
	for _, w := range s.wants {
		if w.issuer == c.id {
			if w.back {
				return goal{}, false
			}
			last = max(last, w.to)
		}
	}
	if g, ok := s.goals[c.id]; ok {
		if g.back && last > c.seq {
			return goal{}, false // first what is on its way
		}
		part := goal{from: g.from, to: min(g.to, g.from+wantSpan-1), back: g.back}
		if g.from = part.to + 1; g.back || g.from > g.to {
			delete(s.goals, c.id)
		} else {
			put(&s.goals, c.id, g)
		}
		return part, true
	}
	if !s.lacks(c, s.reach.of(c.id)) || last >= s.reach.of(c.id) {
		return goal{}, false
	}
	to := s.reach.of(c.id)
	if c.cutoff != nil {
		to = min(to, c.cutoff.Seq)
	}
	if last >= to {
		return goal{}, false
	}
	return goal{from: last + 1, to: min(to, last+wantSpan)}, true
}

// find begins the search for the first entry at which the peer's branch differs from ours; they differ at hi.
func (s *Sync) find(c *chain, hi uint64, mono time.Duration) []Frame {
	if f, ok := s.searches[c.id]; ok && mono-f.began < searchPause || hi == 0 {
		return nil
	}
	f := &search{hi: hi, began: mono}
	put(&s.searches, c.id, f)
	return s.step(c.id, f)
}

// step asks for the middle, or for the entry at the fork.
func (s *Sync) step(issuer keys.PublicKey, f *search) []Frame {
	if f.hi-f.lo <= 1 {
		f.done = true
		put(&s.goals, issuer, goal{from: f.hi, to: f.hi})
		return nil // ask sends it
	}
	f.mid = f.lo + (f.hi-f.lo)/2
	return []Frame{frameOf(KindHashAt, hashAtWire{Kind: KindHashAt, Issuer: issuer, Seq: f.mid})}
}

func (s *Sync) onHashAt(body []byte, mono time.Duration, r *Result) error {
	w, err := parseHashAt(body)
	if err != nil {
		return invalid(err)
	}
	mine, held := s.log.Current().HashAt(w.Issuer, w.Seq)
	if !held {
		return nil
	}
	if w.Hash == nil {
		if s.asked.take(mono, 1) {
			r.Send = append(r.Send, frameOf(KindHashAt, hashAtWire{Kind: KindHashAt, Issuer: w.Issuer, Seq: w.Seq, Hash: &mine}))
		}
		return nil
	}
	f, ok := s.searches[w.Issuer]
	if !ok || f.done || w.Seq != f.mid {
		return nil
	}
	if bytes.Equal(mine[:], w.Hash[:]) {
		f.lo = f.mid
	} else {
		f.hi = f.mid
	}
	r.Send = append(r.Send, s.step(w.Issuer, f)...)
	return nil
}

// OtherBranch returns the digest of the peer's view if it differs from this side's in nothing but the branches of forked issuers: neither
// has anything the other one will take.
func (s *Sync) OtherBranch() (digest [8]byte, ok bool) {
	if s.their == nil || !s.Synced() || !s.log.Current().differsByForks(s.their) {
		return digest, false
	}
	return s.their.Digest(), true
}

// bucket is a token bucket over monotonic time.
type bucket struct {
	rate, burst, level float64
	at                 time.Duration
}

func newBucket(rate, burst float64) bucket { return bucket{rate: rate, burst: burst, level: burst} }

func (b *bucket) take(mono time.Duration, n float64) bool {
	if mono > b.at {
		b.level = min(b.burst, b.level+b.rate*(mono-b.at).Seconds())
		b.at = mono
	}
	if b.level < n {
		return false
	}
	b.level -= n
	return true
}

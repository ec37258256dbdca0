package trust

import (
	"time"

	"github.com/sovereignmesh/meshkey/keys"
)

// onVec compares the peer's view with ours: what it lacks of roots, evidence, strays and heads is pushed; what we lack of entries is
// asked for.
func (s *Sync) onVec(body []byte, mono time.Duration, r *Result) error {
	v, err := ParseVector(body)
	if err != nil {
		return invalid(err)
	}
	st := s.log.Current()
	s.their = v
	s.offerRoots(st, v, r)
	for _, c := range st.issuers {
		p, _ := v.of(c.id)
		s.reach.set(c.id, p.Seq)
		if c.forked() && p.Forked == 0 {
			f := c.evidence.frame()
			r.Send = append(r.Send, f)
		}
		if c.forked() && !s.once[keys.Hash(c.id)] {
			s.remember(keys.Hash(c.id))
			for _, raw := range st.strayEntries(c.id) {
				f := rawFrame(KindEntry, raw)
				f.Urgent = true
				r.Send = append(r.Send, f)
			}
		}
		if c.head != nil && p.HeadTime < c.head.Time {
			r.Send = append(r.Send, rawFrame(KindHead, c.headRaw))
		}
		mine, held := st.HashAt(c.id, p.Seq)
		switch {
		case p.Seq == 0:
		case held && mine == p.Hash:
			s.known.set(c.id, max(s.known.of(c.id), p.Seq))
		case c.forked():
			// Another branch, or a longer one: its removals count here too. Once per state of the peer.
			key := keys.Sum(c.id[:], p.Hash[:])
			if !s.once[key] {
				s.remember(key)
				put(&s.goals, c.id, goal{from: min(c.evidence.Seq, c.seq+1), to: p.Seq})
			}
		case held && c.cutoff == nil:
			r.Send = append(r.Send, s.find(c, p.Seq, mono)...)
		}
	}
	return nil
}

// offerRoots pushes what the peer lacks of the root chain, and contradictions it may not have seen.
func (s *Sync) offerRoots(st *State, v *Vector, r *Result) {
	mine, held := st.RootAt(v.RootVersion)
	switch {
	case held && mine.hash != v.RootHash:
		r.Send = append(r.Send, s.PushRoots(v.RootVersion-1)...)
	case held:
		r.Send = append(r.Send, s.PushRoots(v.RootVersion)...)
	case len(st.pending) == 0:
		w := wantWire{Kind: KindWant, From: st.Root().Version + 1, To: v.RootVersion}
		r.Send = append(r.Send, frameOf(KindWant, w))
	}
	for _, p := range st.pending {
		if f := rawFrame(KindRoot, p.raw); !s.once[keys.Sum(f.Body)] {
			s.remember(keys.Sum(f.Body))
			f.Urgent = true
			r.Send = append(r.Send, f)
		}
	}
}

// onWant answers with entries of the chain held, or with roots for the zero issuer.
func (s *Sync) onWant(body []byte, mono time.Duration, r *Result) error {
	w, err := parseWant(body)
	if err != nil {
		return invalid(err)
	}
	if s.quiet {
		return nil
	}
	if w.Issuer.IsZero() {
		if s.served.take(mono, rootSpan) {
			r.Send = append(r.Send, s.PushRoots(w.From-1)...)
		}
		return nil
	}
	to := min(w.To, w.From+wantSpan-1)
	if held, _, ok := s.log.Current().Position(w.Issuer); !ok || w.From > held {
		return nil
	} else if to = min(to, held); !s.served.take(mono, float64(to-w.From+1)) {
		return nil
	}
	for seq := w.From; seq <= to; seq++ {
		raw := s.log.Entry(w.Issuer, seq)
		if raw == nil {
			return nil
		}
		r.Send = append(r.Send, rawFrame(KindEntry, raw))
		if s.known.of(w.Issuer)+1 == seq {
			s.known.set(w.Issuer, seq)
		}
	}
	return nil
}

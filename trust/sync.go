package trust

import (
	"cmp"
	"errors"
	"math/bits"
	"slices"
	"time"

	"github.com/sovereignmesh/meshkey/keys"
)

// Sync is the sync with one peer, over one session.
type Sync struct {
	hub *Hub
	log Log

	quiet    bool // the peer gets nothing from us (SYNC_ONLY)
	their    *Vector
	reach    heights                 // how far the peer has said or shown its chain to be
	known    heights                 // how far the peer has our branch
	goals    map[keys.PublicKey]goal // ranges wanted beside "everything after what is held"
	wants    []*want
	parked   map[factKey]*Entry // asked for, and here before what precedes them
	searches map[keys.PublicKey]*search
	once     map[keys.Hash]bool // what is sent or fetched once per session
	aside    heights            // entries in quarantine: a chain that goes on with one is not asked for again

	unsolicited bucket
	served      bucket
	asked       bucket
	vecAt       time.Duration
	vecSent     bool
	vecEpoch    uint64
	dropped     uint64
}

// goal is a range to be fetched in any case: the peer's branch of a forked issuer, or, back, the way from an anchor to the fork
// point.
type goal struct {
	from, to uint64
	back     bool
}

// want is a WANT sent and not yet answered in full.
type want struct {
	issuer   keys.PublicKey
	from, to uint64
	got      uint64 // bit i: from + i has come
	until    time.Duration
	back     bool
	held     []*Entry // of a back want, until it is whole
}

func (w *want) whole() bool { return bits.OnesCount64(w.got) == int(w.to-w.from+1) }

// search is a binary search for the first entry at which two branches differ: they agree at lo and differ at hi.
type search struct {
	lo, hi, mid uint64
	began       time.Duration
	done        bool
}

// Result is what one frame led to.
type Result struct {
	Send    []Frame  // to this peer
	Changes []Change // applied: to be pushed to the others

	Quarantined []Quarantined // put aside: for the audit log
}

// NewSync begins the sync with a peer. If quiet, it sends nothing until SetQuiet: the peer is of an unknown issuer, and only listened
// to. Its maps are made when something is put into them: a session whose peer has the same log needs none.
func (h *Hub) NewSync(quiet bool) *Sync {
	return &Sync{
		hub: h, log: h.log, quiet: quiet, unsolicited: newBucket(unsolicitedRate, unsolicitedBurst), served: newBucket(serveRate, serveBurst),
		asked: newBucket(askRate, askBurst),
	}
}

// Close gives back what this peer was asked for, so that another one is.
func (s *Sync) Close() {
	for id, c := range s.hub.claims {
		if c.by == s {
			delete(s.hub.claims, id)
		}
	}
	s.wants = nil
	clear(s.parked)
}

// SetQuiet follows a change of the peer's standing.
func (s *Sync) SetQuiet(quiet bool) { s.quiet = quiet }

// Dropped is how many entries were not looked at because the peer pushed too many.
func (s *Sync) Dropped() uint64 { return s.dropped }

// Synced reports whether the peer has told its vector and this side holds everything in it that it can hold.
func (s *Sync) Synced() bool {
	if s.their == nil {
		return false
	}
	st := s.log.Current()
	if s.their.RootVersion > st.Root().Version && len(st.pending) == 0 {
		return false
	}
	for _, p := range s.their.Issuers {
		if c, ok := st.chain(p.Issuer); ok && (s.lacks(c, p.Seq) || s.busy(c)) {
			return false
		}
	}
	return true
}

// Vec is the vector to be sent now: at the start of a session, and when a hint says that the peer's view differs.
func (s *Sync) Vec(mono time.Duration) []Frame {
	if s.quiet {
		return nil
	}
	st := s.log.Current()
	v := st.Vector()
	s.vecAt, s.vecSent, s.vecEpoch = mono, true, st.Epoch()
	return []Frame{v.frame()}
}

// Tick is to be called about once a second: it repeats VEC, gives up answers that do not come, and asks on.
func (s *Sync) Tick(mono time.Duration) []Frame {
	if s.quiet {
		return nil
	}
	s.wants = slices.DeleteFunc(s.wants, func(w *want) bool {
		late := mono >= w.until
		if !late {
			return false
		}
		if s.hub.claims[w.issuer].by == s {
			delete(s.hub.claims, w.issuer)
		}
		// What is fetched beside the chain is not missed by it: it has to be asked for again.
		if c, ok := s.log.Current().chain(w.issuer); ok && c.forked() && !w.back {
			g, ok := s.goals[w.issuer]
			if !ok {
				g = goal{from: w.from, to: w.to}
			}
			put(&s.goals, w.issuer, goal{from: min(g.from, w.from), to: max(g.to, w.to)})
		}
		return true
	})
	var out []Frame
	since := mono - s.vecAt
	if !s.vecSent || since >= vecInterval || since >= vecMinGap && s.vecEpoch != s.log.Current().Epoch() {
		out = s.Vec(mono)
	}
	return append(out, s.ask(mono)...)
}

// Push returns the frames that bring the peer a change that came from elsewhere; nothing if it has it.
func (s *Sync) Push(c Change) []Frame {
	if s.quiet || c.Kind == 0 {
		return nil
	}
	if c.Kind == KindEntry && !c.Stray {
		has := s.known.of(c.Issuer)
		if st, ok := s.log.Current().chain(c.Issuer); ok && !st.forked() {
			has = max(has, s.reach.of(c.Issuer)) // it says so; if that is on another branch, VEC will tell
		}
		if has >= c.Seq {
			return nil
		}
		s.known.set(c.Issuer, c.Seq)
		return []Frame{c.Frame}
	}
	h := keys.Sum(c.Body)
	if s.once[h] {
		return nil
	}
	s.remember(h)
	return []Frame{c.Frame}
}

// remember notes what need not be sent again. The memory is a convenience and bounded: forgetting costs a repetition.
func (s *Sync) remember(h keys.Hash) {
	if len(s.once) >= 4*maxStrays {
		clear(s.once)
	}
	put(&s.once, h, true)
}

// PushRoots returns the roots after a version: for a peer that says SYNC_ONLY, whose version the handshake told.
func (s *Sync) PushRoots(after uint64) (out []Frame) {
	if s.quiet {
		return nil
	}
	st := s.log.Current()
	for v := after + 1; v <= st.Root().Version && len(out) < rootSpan; v++ {
		if r, ok := st.RootAt(v); ok {
			f := rawFrame(KindRoot, r.raw)
			f.Urgent = true
			out = append(out, f)
		}
	}
	return out
}

// Receive handles a frame of the peer. now is the trusted time, for heads. An error means that no honest peer sends this: close
// the session.
func (s *Sync) Receive(f Frame, mono time.Duration, now int64) (Result, error) {
	var r Result
	var err error
	switch f.Kind {
	case KindVec:
		err = s.onVec(f.Body, mono, &r)
	case KindWant:
		err = s.onWant(f.Body, mono, &r)
	case KindEntry:
		err = s.onEntry(f.Body, mono, now, &r)
	case KindHashAt:
		err = s.onHashAt(f.Body, mono, &r)
	case KindRoot, KindEvidence, KindHead:
		err = s.onObject(f, mono, now, &r)
	default:
		err = invalidf("frame: not a sync frame")
	}
	if err != nil {
		return Result{}, err
	}
	if s.quiet {
		r.Send = nil
		return r, nil
	}
	r.Send = append(r.Send, s.ask(mono)...)
	return r, nil
}

// onObject applies a root, evidence or a head.
func (s *Sync) onObject(f Frame, mono time.Duration, now int64, r *Result) error {
	if !s.unsolicited.take(mono, 1) {
		s.dropped++
		return nil
	}
	c, err := s.log.ApplyFrame(f, now)
	if err == nil {
		s.remember(keys.Sum(c.Body))
		r.Changes = append(r.Changes, c)
		return nil
	}
	if errors.Is(err, ErrInvalid) {
		return err
	}
	r.aside(err)
	return nil // an older or newer view than ours; VEC will tell
}

// onEntry applies an entry that was asked for, or pushed.
func (s *Sync) onEntry(body []byte, mono time.Duration, now int64, r *Result) error {
	raw, err := parseRaw(body, KindEntry, MaxEntry)
	if err != nil {
		return invalid(err)
	}
	// Before anything is parsed: a flood must cost a comparison.
	asked := len(s.wants) > 0
	if !asked && !s.unsolicited.take(mono, 1) {
		s.dropped++
		return nil
	}
	e, err := ParseEntry(raw, s.log.Current().mesh)
	if err != nil {
		return invalid(err)
	}
	w := s.answered(e, mono)
	if asked && w == nil && !s.unsolicited.take(mono, 1) {
		s.dropped++
		return nil
	}
	s.reach.set(e.Issuer, max(s.reach.of(e.Issuer), e.Seq))
	if w == nil || !w.back {
		return s.applyInOrder(e, w != nil, mono, now, r)
	}
	// The way back from an anchor is walked from its end.
	if w.held = append(w.held, e); !w.whole() {
		return nil
	}
	slices.SortFunc(w.held, func(a, b *Entry) int { return cmp.Compare(a.Seq, b.Seq) })
	for _, e := range slices.Backward(w.held) {
		if ok, err := s.apply(e, mono, now, r); err != nil {
			return err
		} else if !ok {
			break
		}
	}
	return nil
}

// answered finds the want an entry answers and moves it on.
func (s *Sync) answered(e *Entry, mono time.Duration) *want {
	for i, w := range s.wants {
		bit := uint64(1) << ((e.Seq - w.from) % wantSpan)
		if w.issuer != e.Issuer || e.Seq < w.from || e.Seq > w.to || w.got&bit != 0 {
			continue
		}
		w.got |= bit
		w.until = mono + wantTimeout
		if c := s.hub.claims[w.issuer]; c.by == s {
			s.hub.claims[w.issuer] = claim{by: s, until: w.until}
		}
		if w.whole() {
			s.wants = slices.Delete(s.wants, i, i+1)
		}
		return w
	}
	return nil
}

// applyInOrder applies an entry, and what was parked behind it. One that was asked for and comes before what precedes it is parked:
// at most all that may be asked for, which is 8 MiB.
func (s *Sync) applyInOrder(e *Entry, asked bool, mono time.Duration, now int64, r *Result) error {
	c, ok := s.log.Current().chain(e.Issuer)
	if asked && ok && !c.forked() && e.Seq > c.seq+1 && len(s.parked) < maxWants*wantSpan {
		put(&s.parked, factKey{e.Issuer, e.Seq}, e)
		return nil
	}
	for {
		if _, err := s.apply(e, mono, now, r); err != nil {
			return err
		}
		held, _, _ := s.log.Current().Position(e.Issuer)
		for k := range s.parked {
			if k.issuer == e.Issuer && k.number <= held {
				delete(s.parked, k)
			}
		}
		next, ok := s.parked[factKey{e.Issuer, held + 1}]
		if !ok {
			return nil
		}
		delete(s.parked, factKey{e.Issuer, held + 1})
		e = next
	}
}

// apply applies one entry and reports whether that changed anything.
func (s *Sync) apply(e *Entry, mono time.Duration, now int64, r *Result) (bool, error) {
	c, err := s.log.ApplyEntry(e, now)
	r.aside(err)
	if errors.Is(err, ErrQuarantined) {
		s.aside.set(e.Issuer, e.Seq)
	}
	st := s.log.Current()
	switch {
	case err == nil:
		if c.Kind == KindEntry && !c.Stray {
			s.known.set(e.Issuer, max(s.known.of(e.Issuer), e.Seq))
		}
		if c.Kind != 0 {
			r.Changes = append(r.Changes, c)
		}
		if c.Kind == KindEvidence {
			// The peer may be the honest one: tell it. What else its branch removes is fetched when its VEC comes.
			s.remember(keys.Sum(c.Body))
			r.Send = append(r.Send, c.Frame)
		}
		if ch, ok := st.chain(e.Issuer); c.Kind == 0 && ok {
			if a := ch.anchored(); ch.vouch == nil || a != nil && a.Seq == ch.vouch.Seq {
				delete(s.goals, e.Issuer) // the fork point is found: forward from there
			} else {
				s.follow(ch)
			}
		}
		return true, nil
	case errors.Is(err, ErrInvalid):
		return false, err
	case errors.Is(err, ErrHave):
		if mine, ok := st.HashAt(e.Issuer, e.Seq); ok && mine == e.hash {
			s.known.set(e.Issuer, max(s.known.of(e.Issuer), e.Seq))
		}
	case errors.Is(err, ErrGap) && e.RootVersion > st.Root().Version && len(st.pending) == 0:
		w := wantWire{Kind: KindWant, From: st.Root().Version + 1, To: e.RootVersion}
		r.Send = append(r.Send, frameOf(KindWant, w))
	case errors.Is(err, ErrBranch):
		if ch, ok := st.chain(e.Issuer); ok && ch.vouch != nil {
			s.follow(ch)
		} else if ok {
			r.Send = append(r.Send, s.find(ch, e.Seq-1, mono)...)
		}
	}
	return false, nil
}

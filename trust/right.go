package trust

// The grants of a State by what they allow, so that a decision looks at those alone that could be its own. It is an index: what it leads to is
// compared with the request as if it had been found by chance.

// rightKey is the right side of a grant. sum is its hash, made once: a decision looks for the same service on several targets.
type rightKey struct {
	sum     uint64
	on      Target
	verb    Verb
	service string
}

// rightOf takes the hashes of target and service.
func rightOf(on Target, onSum uint64, verb Verb, service string, serviceSum uint64) rightKey {
	// Multiplied, it is spread over all bits: what is hashed differs in some of them only.
	return rightKey{(onSum ^ serviceSum ^ uint64(verb)<<32) * 0x9e3779b97f4a7c15, on, verb, service}
}

func (k rightKey) hash() uint64 { return k.sum }

// endKey is a grant among those that allow the same. end is its NotAfter.
type endKey struct {
	end  int64
	fact factKey
}

// rights are the grants of one left side that nobody has taken back.
type rights = pmap[rightKey, pmap[endKey, *grantFacts]]

// setGrant sets the facts of a grant and keeps the index: one that was taken back is not in it.
func (s *State) setGrant(k factKey, f *grantFacts) {
	if old, ok := s.grants.get(k); ok && old.seq != 0 {
		s.unindex(k, old)
	}
	s.grants = s.grants.set(k, f)
	if f.seq != 0 && len(f.removals) == 0 {
		right, end := f.keys(k)
		all, _ := s.who.get(f.op.Who)
		same, _ := all.get(right)
		s.who = s.who.set(f.op.Who, all.set(right, same.set(end, f)))
	}
}

func (s *State) unindex(k factKey, f *grantFacts) {
	right, end := f.keys(k)
	all, _ := s.who.get(f.op.Who)
	same, _ := all.get(right)
	if _, in := same.get(end); !in {
		return // it was taken back before
	}
	switch same = same.del(end); {
	case same.len() > 0:
		s.who = s.who.set(f.op.Who, all.set(right, same))
	case all.len() > 1:
		s.who = s.who.set(f.op.Who, all.del(right))
	default:
		s.who = s.who.del(f.op.Who)
	}
}

func (f *grantFacts) keys(k factKey) (rightKey, endKey) {
	w := &f.op.What
	return rightOf(w.Target, w.Target.hash(), w.Verb, w.Service, nameKey(w.Service).hash()), endKey{f.op.NotAfter, k}
}

package trust

import (
	"slices"

	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/internal/wire"
	"github.com/sovereignmesh/meshkey/keys"
)

// stateReader reads what writeState wrote. The bytes are this node's own; what is wrong in them all the same is an error of the
// reader, never a panic and never a state.
type stateReader struct {
	*cacheReader
	s       *State
	entries map[keys.PublicKey][]place
	sets    []*[]string
	serials [][]pleaf[seqKey, *enrolment]
	frames  uint64
}

func readState(c *cacheReader) (*State, map[keys.PublicKey][]place, error) {
	r := &stateReader{cacheReader: c, s: &State{epoch: 1}, entries: map[keys.PublicKey][]place{}, frames: c.head.Frames}
	r.roots()
	if r.err == nil {
		r.rest()
	}
	if r.err == nil && r.left() > 0 {
		r.fail("bytes behind its end")
	}
	if r.err != nil {
		return nil, nil, r.err
	}
	return r.s, r.entries, nil
}

func (r *stateReader) roots() {
	s := r.s
	for range r.count(1) {
		root, err := parseRoot(slices.Clone(r.raw(MaxRoot)))
		if r.err != nil {
			return
		}
		if err != nil || root.Version != uint64(len(s.roots))+1 || len(s.roots) > 0 && root.Mesh != s.mesh {
			r.fail("roots out of order")
			return
		}
		s.mesh, s.roots = root.Mesh, append(s.roots, root)
	}
	if len(s.roots) == 0 {
		r.fail("no root")
	}
}

func (r *stateReader) rest() {
	s := r.s
	for range r.count(33) {
		v := r.number(maxSeq)
		if s.chosen == nil {
			s.chosen = map[uint64]keys.Hash{}
		}
		s.chosen[v] = r.hash()
	}
	for range r.count(65) {
		p := identity.IssuerHead{Issuer: keys.PublicKey(r.hash())}
		p.Seq = r.uint()
		p.Hash = r.hash()
		s.pins = append(s.pins, p)
	}
	var shared []pleaf[nameKey, *[]string]
	for range r.count(1) {
		tags := r.tags()
		r.sets = append(r.sets, &tags)
		shared = append(shared, pleaf[nameKey, *[]string]{tagKey(tags), &tags})
	}
	s.tagSets = buildPmap(shared)
	n := r.count(32)
	r.serials = make([][]pleaf[seqKey, *enrolment], n)
	for i := range n {
		r.chain(i)
	}
	r.nodes()
	for i, c := range s.issuers {
		c.serials = buildPmap(r.serials[i])
	}
	certs := make([]pleaf[factKey, []removal], 0, r.count(33))
	for range cap(certs) {
		k := r.key()
		certs = append(certs, pleaf[factKey, []removal]{k, r.removals()})
	}
	s.certs = buildPmap(certs)
	r.grants()
	if r.err == nil {
		s.limit()
	}
}

func (r *stateReader) tags() []string {
	out := make([]string, 0, min(r.count(1), identity.MaxTags))
	for range cap(out) {
		out = append(out, r.text(identity.MaxTag))
	}
	return out
}

func (r *stateReader) key() factKey {
	k := factKey{issuer: keys.PublicKey(r.hash())}
	k.number = r.uint()
	return k
}

// issuer reads the index of a chain.
func (r *stateReader) issuer() int { return int(r.number(uint64(len(r.s.issuers)))) }

func (r *stateReader) chain(index int) {
	c := &chain{id: keys.PublicKey(r.hash()), index: index}
	flags := r.number(2)
	if is, ok := r.s.Root().Issuer(c.id); !ok {
		r.fail("a chain of nobody")
		return
	} else if is.Cutoff != nil {
		cut := *is.Cutoff
		c.cutoff = &cut
	}
	if flags&1 != 0 {
		at := slices.IndexFunc(r.s.pins, func(p identity.IssuerHead) bool { return p.Issuer == c.id })
		if at < 0 {
			r.fail("a pin of no invite")
			return
		}
		p := r.s.pins[at]
		c.pin = &p
	}
	var last *groupFact
	for range r.count(35) {
		g := &groupFact{op: OpGroup{Generation: r.uint(), Commit: r.hash()}}
		g.seq, g.rootVersion = r.uint(), r.uint()
		if last == nil {
			c.group = g
		} else {
			last.next = g
		}
		last = g
	}
	n := r.count(37)
	at := make([]place, 0, n)
	var links vecBuilder[link]
	l, frame := r.s.startOf(c.id), uint64(0)
	for range n {
		l.hash = r.hash()
		l.time += int64(r.uint())
		l.rootVersion += r.uint()
		l.maxSerial += r.uint()
		l.maxGID += r.uint()
		frame += uint64(r.int())
		if frame >= r.frames || l.rootVersion > r.s.Root().Version {
			r.fail("an entry of no frame or root")
			return
		}
		links.add(l)
		at = append(at, place{frame: frame})
	}
	c.seq, c.link, c.links, c.trusted = uint64(n), l, links.done(), uint64(n)
	r.entries[c.id] = at
	r.s.issuers = append(r.s.issuers, c)
}

func (r *stateReader) nodes() {
	s := r.s
	n := r.count(36)
	nodes := make([]pleaf[nodeKey, nodeFacts], 0, n)
	named := make([]*enrolment, 0, n)
	// Most members are there once: their enrolments lie side by side.
	slab := make([]enrolment, 0)
	for range n {
		id := keys.NodeID(r.hash())
		var f nodeFacts
		var last *enrolment
		for range r.count(40) {
			if len(slab) == cap(slab) {
				slab = make([]enrolment, 0, enrolmentSlab)
			}
			slab = append(slab, enrolment{node: id})
			x := &slab[len(slab)-1]
			r.enrolment(x, last)
			if r.err != nil {
				return
			}
			if last == nil {
				f.enrolments = x
			} else {
				last.next = x
			}
			last = x
			r.serials[x.issuer] = append(r.serials[x.issuer], pleaf[seqKey, *enrolment]{seqKey(x.serial), x})
			named = append(named, x)
		}
		rest := nodeRest{removals: r.removals(), after: r.successions(), before: r.successions()}
		if rest.removals != nil || rest.after != nil || rest.before != nil {
			f.rest = &rest
		}
		nodes = append(nodes, pleaf[nodeKey, nodeFacts]{nodeKey(id), f})
	}
	s.nodes = buildPmap(nodes)
	r.names(named)
}

func (r *stateReader) enrolment(x, newer *enrolment) {
	x.issuer = int32(r.issuer())
	x.seq, x.serial = r.uint(), r.uint()
	x.cert = r.hash()
	x.notBefore = int64(r.number(maxTime + 1))
	x.notAfter = x.notBefore + int64(r.number(maxTime+1))
	x.renewUntil = int64(r.number(maxTime + 1))
	if x.name = r.text(identity.MaxName); x.name == "" && newer != nil {
		x.name = newer.name
	}
	switch set := r.number(uint64(len(r.sets)) + 2); set {
	case 0:
	case 1:
		tags := r.tags()
		x.tags = &tags
	default:
		x.tags = r.sets[set-2]
	}
}

// names makes the index of names: most have one node.
func (r *stateReader) names(all []*enrolment) {
	slices.SortStableFunc(all, func(a, b *enrolment) int {
		switch {
		case a.name < b.name:
			return -1
		case a.name > b.name:
			return 1
		}
		return 0
	})
	list := make([]pleaf[nameKey, nameFacts], 0, len(all))
	var several []*enrolment
	for i, x := range all {
		if i > 0 && all[i-1].name == x.name {
			several = append(several, x)
			continue
		}
		list = append(list, pleaf[nameKey, nameFacts]{nameKey(x.name), nameFacts{first: x}})
	}
	r.s.names = buildPmap(list)
	for _, x := range several {
		r.s.setName(x)
	}
}

func (r *stateReader) removals() (out []removal) {
	for range r.count(4) {
		of := r.number(2 * uint64(len(r.s.issuers)))
		x := removal{issuer: int(of >> 1), stray: of&1 != 0}
		x.seq, x.reason = r.uint(), r.number(maxReason+1)
		x.time = int64(r.number(maxTime + 1))
		out = append(out, x)
	}
	return out
}

func (r *stateReader) successions() (out []succession) {
	for range r.count(34) {
		x := succession{node: keys.NodeID(r.hash())}
		x.issuer, x.seq = r.issuer(), r.uint()
		out = append(out, x)
	}
	return out
}

func (r *stateReader) grants() {
	s := r.s
	for range r.count(34) {
		k, f := r.key(), &grantFacts{}
		if f.seq = r.uint(); f.seq > 0 {
			f.issuer = r.issuer()
			var w wireOp
			err := wire.Unmarshal(r.raw(MaxEntry), &w)
			op, ok := w.Op.(OpGrant)
			if r.err == nil && (err != nil || !ok) {
				r.fail("no grant where one is wanted")
			}
			f.op = op
		}
		f.removals = r.removals()
		if r.err != nil {
			return
		}
		s.setGrant(k, f)
	}
}
